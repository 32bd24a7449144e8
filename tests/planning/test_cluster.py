"""What machines read, decode and send follows from what their GPUs do."""
import pytest
from helpers.shards import jpegs, write_tar
from mmengine.config import Config

from mmfd.errors import Refused
from mmfd.planning.cluster import (IMAGE_BYTES, IMAGES_A_CORE, Machines,
                                   demands, limit)
from mmfd.planning.plan import Plan

WEIGHTS = 85_665_360 + 590_592  # of ViT-B and its neck
TEACHER = 85_799_424


def plan(gpus=16, **changes):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.train_dataloader.batch_size = 4
    cfg.merge_from_dict(changes)
    return Plan(cfg, gpus)


def needed(plan, nodes, throughput=500.):
    quantities = demands(plan, Machines(nodes), throughput)
    return {quantity.name: quantity.value for quantity in quantities}


@pytest.fixture(scope='module')
def vitb():
    return plan()


def test_images_are_read_and_decoded_as_fast_as_gpus_compute(vitb):
    assert needed(vitb, 4) == dict(
        speed=8000.,
        image=IMAGE_BYTES,
        decoding=pytest.approx(1000 / IMAGES_A_CORE),
        gradients=2 * 15 / 16 * 4 * WEIGHTS,
        read=8000 * IMAGE_BYTES,
        loaders=pytest.approx(2000 / IMAGES_A_CORE),
        network=pytest.approx(2 * 15 / 16 * 4 * WEIGHTS / (4 / 500)))
    assert 'network' not in needed(vitb, 1)
    for gpus, nodes in (16, 3), (16, 0), (4, 8):
        with pytest.raises(Refused, match=f'--gpus {gpus} --nodes {nodes}: '):
            needed(plan(gpus), nodes)


def test_accumulated_gradients_are_sent_once():
    accumulated = plan(**{'optim_wrapper.accumulative_counts': 8})
    assert needed(accumulated, 2)['gradients'] == 2 * 15 / 16 * 4 * WEIGHTS / 8


def test_shards_are_gathered_twice_and_a_teacher_once():
    sharded = {
        'model_wrapper_cfg':
        dict(type='mmfd.FullySharded', param_dtype='bfloat16')
    }
    sent = needed(plan(**sharded), 2)['gradients']
    assert sent == 15 / 16 * (2 * (2 * WEIGHTS + TEACHER) + 4 * WEIGHTS)
    sharded['model_wrapper_cfg']['shard_teacher'] = False
    sent = needed(plan(**sharded), 2)['gradients']
    assert sent == 15 / 16 * (2 * 2 * WEIGHTS + 4 * WEIGHTS)


@pytest.mark.parametrize('has, sentence', [
    (dict(cores=8., link=1000.,
          storage=10.), 'Of read, loaders, network, none '
     'makes the GPUs wait: network is used most, to 65%.'),
    (dict(cores=8.), 'Of loaders, none makes the GPUs wait: loaders is used '
     'most, to 29%.'),
    (dict(cores=1.5, link=1000., storage=10.), 'Decoding is the limit: it has '
     '64% of what the GPUs ask for, and they wait the rest of the time. Take '
     'more cores'),
    (dict(cores=8., link=100.), 'The network between machines is the limit: '
     'it has 15% of'),
    (dict(storage=.5), 'The storage is the limit: it has 54% of'),
])
def test_what_is_short_is_named_with_what_to_do(vitb, has, sentence):
    machines = Machines(4, **has)
    quantities = demands(vitb, machines, 500.)
    assert limit(quantities, machines).startswith(sentence)


def test_images_that_are_there_are_measured(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    images = jpegs(30, size=(64, 64))
    images['broken.jpg'] = b'no image'
    path = write_tar(tmp_path / 'a.tar', images)
    quantities = demands(
        plan(
            **{
                'train_dataloader.dataset.data_root': str(path),
                'train_dataloader.dataset.held_out': 0.
            }), Machines(4), 500.)
    found = {quantity.name: quantity for quantity in quantities}
    sizes = sum(map(len, images.values()))
    assert found['image'].value == pytest.approx(sizes / 31)
    assert found['image'].how == found['decoding'].how == 'measured'
    assert 0 < found['decoding'].value < 1000
