"""A cached teacher gives its own targets, and only for the same pixels."""
import json
import os
import resource
import shutil
import zlib

import numpy as np
import pytest
import torch
from helpers.models import clip_teacher, distillation
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS
from PIL import Image

from mmfd.errors import Refused
from mmfd.launch.checks.config_checks import check_sharding
from mmfd.launch.checks.resume_checks import check_same_model
from mmfd.planning.count import target_shapes
from mmfd.planning.training_images import img_size_of
from mmfd.targets.token_statistics import TokenStatistics, selection
from mmfd.training import cached_teacher


def images(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, 3, 32, 32), generator=generator).float()


def teacher(folder, seed=0, **kwargs):
    torch.manual_seed(seed)
    config = clip_teacher(type='mmfd.CachedTeacher', folder=str(folder))
    return MODELS.build(dict(config, **dict(dict(spare=0), **kwargs)))


def uncached(seed=0):
    torch.manual_seed(seed)
    return MODELS.build(clip_teacher())


def with_broken_backbone(cached):
    """What it computes from now on is NaN."""
    for param in cached.backbone.parameters():
        param.data.fill_(float('nan'))
    return cached


def entries(folder):
    return [p for p in folder.glob('??/*') if len(p.name) == 30]


@pytest.mark.parametrize('store, limit', [('bfloat16', 2**-8 * 8),
                                          ('int8', 1.001 / 32)])
def test_targets_are_those_of_the_teacher_to_half_a_step(
        tmp_path, store, limit):
    pixels, cached = images(), teacher(tmp_path, store=store)
    target = uncached()(pixels)
    assert target.abs().max() < 127 / 16  # nothing is cut
    computed = cached(pixels)
    assert torch.equal(cached(pixels), computed)  # the self-test
    stored = with_broken_backbone(cached)(pixels)  # read
    assert torch.equal(stored, computed)
    assert stored.shape == target.shape and stored.dtype == torch.float32
    assert 0 < (stored - target).abs().max() <= limit
    assert len(entries(tmp_path)) == 6
    bytes_ = target[0].numel() * (1 if store == 'int8' else 2)
    assert {p.stat().st_size for p in entries(tmp_path)} == {bytes_ + 12}


def test_training_loss_is_that_without_a_cache(tmp_path):
    losses = []
    for kind in clip_teacher(), clip_teacher(
            type='mmfd.CachedTeacher', folder=str(tmp_path), spare=0):
        torch.manual_seed(0)
        model = MODELS.build(distillation(kind))
        torch.manual_seed(1)
        losses.append([model.loss(images())['loss'].item() for _ in range(3)])
    assert losses[1] == losses[1][:1] * 3  # computed or read
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_no_other_pixels_are_given_a_stored_target(tmp_path):
    pixels, cached = images(), teacher(tmp_path)
    cached(pixels), cached(pixels)
    with_broken_backbone(cached)
    assert cached(pixels).isfinite().all()
    one_off = pixels.clone()
    one_off[:, 0, 0, 0] = (one_off[:, 0, 0, 0] + 1) % 256
    for other in pixels.flip(3), pixels.roll(1, 3), one_off:
        assert cached(other).isnan().all()


def test_a_batch_is_read_where_it_can_be_and_computed_where_not(tmp_path):
    pixels, cached = images(6), teacher(tmp_path)
    target = uncached()(pixels)
    cached(pixels[:4]), cached(pixels[:4])
    mixed = cached(pixels[[5, 2, 4, 0]])
    assert torch.equal(mixed[[0, 2]],
                       teacher(tmp_path / 'other')(pixels[[5, 4]]))
    torch.testing.assert_close(
        mixed, target[[5, 2, 4, 0]], rtol=2**-8, atol=1e-3)


def test_another_teachers_cache_is_refused_by_name(tmp_path):
    teacher(tmp_path)(images())
    teacher(tmp_path)(images())  # its own cache
    for other, name in [
        (teacher(tmp_path, seed=1), 'its weights is'),
        (teacher(tmp_path, store='int8'), "its store is 'bfloat16'"),
        (teacher(tmp_path, img_size=24), 'its img_size is None'),
    ]:
        with pytest.raises(ValueError, match=f'another teacher: {name}'):
            other(images())


def test_two_teachers_in_one_folder_never_share_a_target(tmp_path):
    """The folder was removed during a run, and another teacher took it."""
    first, second = teacher(tmp_path / 'a'), teacher(tmp_path / 'a', seed=1)
    pixels = images(12)
    first(pixels[:4])
    shutil.rmtree(tmp_path / 'a')
    second(pixels[4:8]), second(pixels[4:8])  # its self-test
    first(pixels[8:])
    assert torch.equal(
        second(pixels[8:]),
        teacher(tmp_path / 'b', seed=1)(pixels[8:]))


def test_entry_that_its_teacher_would_not_compute_ends_the_run(tmp_path):
    teacher(tmp_path)(images())
    first, second, *_ = entries(tmp_path)
    for path in entries(tmp_path):
        path.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match='not what its teacher computes'):
        teacher(tmp_path)(images())


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: data[:7], lambda data: data[:-1],
    lambda data: bytes([data[0] ^ 1]) + data[1:],
    lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:]
])
def test_damaged_entry_is_computed_again(tmp_path, damage):
    pixels, cached = images(), teacher(tmp_path)
    target = cached(pixels)
    intact = {path: path.read_bytes() for path in entries(tmp_path)}
    for path, data in intact.items():
        path.write_bytes(damage(data))
    assert torch.equal(teacher(tmp_path)(pixels), target)
    assert intact == {path: path.read_bytes() for path in entries(tmp_path)}


def entry(values, shape=None):
    """A target as the cache writes it, with its right sum."""
    data = values.to(torch.bfloat16).view(torch.uint8).numpy().tobytes()
    header = np.array(shape or values.shape, '<u4').tobytes()
    return header + data + zlib.crc32(data).to_bytes(4, 'big')


UNSOUND = {
    'not finite': lambda v: entry(v * float('nan')),
    'infinite': lambda v: entry(v + float('inf')),
    'another length': lambda v: entry(v[1:]),
    'another width': lambda v: entry(v[:, ::2].contiguous()),
    'turned': lambda v: entry(v, v.T.shape),
    'more than there is': lambda v: entry(v, (2**32 - 1, 2**32 - 1)),
    'nothing': lambda v: entry(v[:0]),
}


@pytest.mark.parametrize('fault', UNSOUND)
@pytest.mark.parametrize('first', [True, False])
def test_unsound_entry_with_a_right_sum_is_a_missing_one(
        tmp_path, fault, first):
    """Whether the cache has seen targets of this size before, or not."""
    pixels, cached = images(), teacher(tmp_path)
    target = cached(pixels)
    cached(pixels)
    intact = {path: path.read_bytes() for path in entries(tmp_path)}
    for path in intact:
        path.write_bytes(UNSOUND[fault](target[0]))
    again = teacher(tmp_path) if first else cached
    assert torch.equal(again(pixels), target)
    assert intact == {path: path.read_bytes() for path in entries(tmp_path)}


def test_entry_that_others_could_write_is_a_missing_one(tmp_path):
    pixels, cached = images(), teacher(tmp_path)
    target = cached(pixels)
    cached(pixels)
    link, pipe, opened, *_ = entries(tmp_path)
    link.rename(tmp_path / 'elsewhere')
    link.symlink_to(tmp_path / 'elsewhere')
    pipe.unlink()
    os.mkfifo(pipe)
    opened.chmod(0o664)
    assert torch.equal(cached(pixels), target)  # half of them computed
    assert all(p.is_file() and not p.is_symlink() for p in entries(tmp_path))
    assert not any(p.stat().st_mode & 0o022 for p in entries(tmp_path))


def test_folder_that_others_can_write_to_is_refused_unless_it_is_shared(
        tmp_path):
    folder = tmp_path / 'targets'
    pixels, target = images(), teacher(folder)(images())
    folder.chmod(0o775)
    with pytest.raises(
            ValueError,
            match=r'may hold what others wrote \(others can write to it, '
            r'drwxrwxr-x\).*chmod go-w.*model.teacher.shared=True'):
        teacher(folder)(pixels)
    for path in entries(folder):
        path.chmod(0o664)
    shared = teacher(folder, shared=True)
    shared(pixels)
    stored = with_broken_backbone(shared)(pixels)
    assert (stored - target).abs().max() <= 2**-8 * 8
    folder.chmod(0o755)
    teacher(folder)(pixels)


@pytest.mark.parametrize('label', ['', '[', '[1]', '[' * 100_000, 'link'])
def test_label_that_is_none_is_written_again(tmp_path, label):
    folder, pixels = tmp_path / 'targets', images()
    target, file = teacher(folder)(pixels), folder / 'teacher.json'
    before = file.read_text()
    file.unlink()
    if label == 'link':
        (tmp_path / 'kept').write_text('{}')
        file.symlink_to(tmp_path / 'kept')
    else:
        file.write_text(label)
    assert torch.equal(teacher(folder)(pixels), target)
    assert file.read_text() == before and not file.is_symlink()


@pytest.fixture
def small_files():
    """A disk that takes 3000 bytes a file, as the kernel sees it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('how, reason', [('spare', 'less than 1e+09 GiB'),
                                         ('limit', 'File too large')])
def test_full_disk_is_one_message_and_targets_are_computed(
        tmp_path, how, reason, small_files, warned):
    cached = teacher(tmp_path, spare=1e9 if how == 'spare' else 0)
    target = uncached()(images())
    if how == 'limit':
        small_files()
    for _ in range(3):
        torch.testing.assert_close(
            cached(images()), target, rtol=2**-8, atol=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, ) * 2)
    [message] = warned
    assert 'no more targets are written' in message
    assert reason in message and 'Training continues' in message
    assert not [
        p for p in tmp_path.rglob('*')
        if p.is_file() and p.name != 'teacher.json'
    ]  # nothing half-written


@pytest.mark.parametrize('kwargs, message', [
    (dict(store='float8'), "store='float8'"),
    (dict(store='int8', neck=dict(type='mmfd.PlainNeck')), 'PlainNeck'),
    (dict(
        store='int8',
        neck=dict(
            type='mmfd.LogitsNeck',
            in_channels=128,
            num_classes=10,
            checkpoint='random')), 'LogitsNeck'),
    (dict(
        store='int8',
        neck=dict(
            type='mmfd.LayersNeck',
            necks=[
                dict(type='mmfd.WhiteningNeck'),
                dict(type='mmfd.PlainNeck')
            ])), 'LayersNeck'),
    (dict(
        neck=dict(
            type='mmfd.TargetNeck',
            normalize=dict(type='running', channels=128))),
     'goes on changing .*standardize'),
    (dict(drop_path_rate=0.1), 'drop_path_rate'),
])
def test_what_cannot_be_cached_is_refused(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        teacher(tmp_path, **kwargs)


def test_targets_by_other_statistics_are_not_taken(tmp_path):
    """Even of a file of the same name."""
    file = tmp_path / 'tokens.safetensors'
    neck = dict(
        type='mmfd.TargetNeck', normalize='phi_s', statistics=str(file))

    def target(mean):
        TokenStatistics(
            torch.full((128, ), mean),
            torch.eye(128).double(), 1000, 10, 'random',
            selection('all', None), '[32, 32]').save(file)
        return teacher(tmp_path / 'cache', neck=neck)(images())

    first = target(1.)
    assert torch.equal(target(1.), first)
    with pytest.raises(Refused, match='belongs to another teacher'):
        target(2.)


# --- views ---


def stored(views, **kwargs):
    crop = dict(type='mmpretrain.RandomResizedCrop', scale=16)
    flip = dict(type='mmpretrain.RandomFlip', prob=0.5)
    return TRANSFORMS.build(
        dict(
            type='mmfd.StoredViews',
            views=views,
            transforms=[dict(type='mmfd.LoadImage'), crop, flip]))


def draws(transform, path, count=60):
    return {
        transform(dict(img_path=str(path)))['img'].tobytes()
        for _ in range(count)
    }


def test_an_image_has_so_many_views_and_no_others(tmp_path):
    noise = np.random.default_rng(0)
    for name in 'ab':
        image = noise.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f'{name}.png')
    np.random.seed(0)
    first = draws(stored(4), tmp_path / 'a.png')
    np.random.seed(1)
    assert len(first) == 4 == len(first | draws(stored(4), tmp_path / 'a.png'))
    assert len(draws(stored(1), tmp_path / 'a.png')) == 1
    assert not first & draws(stored(4), tmp_path / 'b.png')


def test_views_leave_the_generators_where_they_were(tmp_path):
    Image.new('RGB', (40, 50)).save(tmp_path / 'a.png')
    numbers = []
    for draw in True, False:
        np.random.seed(0)
        torch.manual_seed(0)
        if draw:
            stored(4)(dict(img_path=str(tmp_path / 'a.png')))
        else:
            np.random.randint(4)  # which one it is
        numbers.append((np.random.rand(), torch.rand(1).item()))
    assert numbers[0] == numbers[1]


def test_crops_that_never_return_are_not_cached():
    cfg = Config.fromfile('configs/demo/simclr_fd.py')
    cfg.model.teacher.update(type='mmfd.CachedTeacher', folder='targets')
    with pytest.raises(ValueError, match='RandomResizedCrop may change them'):
        cached_teacher.check_pipeline(cfg)
    load, crop, flip, pack = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='mmfd.StoredViews', views=4, transforms=[load, crop, flip]),
        pack
    ]
    cached_teacher.check_pipeline(cfg)


def test_cache_and_shards_exclude_each_other():
    cfg = Config(
        dict(
            launcher='pytorch',
            model=dict(teacher=dict(type='mmfd.CachedTeacher')),
            model_wrapper_cfg=dict(type='mmfd.FullySharded')))
    with pytest.raises(ValueError, match='model.teacher.type=mmfd.Teacher'):
        check_sharding(cfg)
    cfg.launcher = 'none'
    check_sharding(cfg)


def test_run_resumes_with_and_without_its_cache():
    cfg = Config.fromfile('configs/demo/simclr_fd.py')
    plain = cfg.model.to_dict()
    cfg.model.teacher.update(type='mmfd.CachedTeacher', folder='targets')
    meta = dict(model=json.dumps(cfg.model.to_dict()))
    check_same_model(plain, meta, 'epoch_1.pth')
    plain['teacher']['img_size'] = 96
    with pytest.raises(ValueError, match='teacher.img_size was None, is 96'):
        check_same_model(plain, meta, 'epoch_1.pth')
    for text, message in (('[]', 'no readable config of its model'),
                          ('{', 'no readable config of its model'),
                          ('{"teacher": [1]}', 'is of another run: model')):
        with pytest.raises(ValueError, match=message):
            check_same_model(plain, dict(model=text), 'epoch_1.pth')


def test_entries_have_the_permissions_of_any_new_file(tmp_path):
    teacher(tmp_path)(images(1))
    (tmp_path / 'plain').write_bytes(b'1')
    files = [file for file in tmp_path.rglob('*') if file.is_file()]
    assert len(files) == 3  # the label of the folder, too
    assert len({file.stat().st_mode for file in files}) == 1


LEAF = '''
_base_ = '{repo}/configs/fd/clip_vitb_fd.py'
load, flip, pack = _base_.train_dataloader.dataset.pipeline
views = dict(type='mmfd.StoredViews', views=8, transforms=[load, flip])
train_dataloader = dict(dataset=dict(pipeline=[views, pack]))
model = dict(
    teacher=dict(type='mmfd.CachedTeacher', folder='targets', store='int8'))
'''


def test_config_of_the_guide_is_planned_as_without_a_cache(tmp_path):
    (tmp_path / 'leaf.py').write_text(LEAF.format(repo=os.getcwd()))
    cfg = Config.fromfile(tmp_path / 'leaf.py')
    cached_teacher.check_pipeline(cfg)
    assert img_size_of(cfg.train_dataloader.dataset.pipeline) == 224
    base = Config.fromfile('configs/fd/clip_vitb_fd.py')
    assert cached_teacher.without_cache(
        cfg.model.teacher) == base.model.teacher
    assert target_shapes(cfg.model, 224) == [(197, 768)]
