"""Weights that a config's `init_cfg` names fit whole, or are refused."""
import pytest
import torch
from helpers import tiny_runs
from helpers.commands import refused
from helpers.models import arch, student
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.launch.runner import prepare
from mmfd.launch.starting_weights import forget_pretrained, load_pretrained
from mmfd.weights import checkpoints


def test_teachers_weights_that_the_host_would_half_load_are_refused(project):
    weights = checkpoints.load(project / 'clip.pth')['state_dict']
    del weights['layers.1.ln1.bias']
    checkpoints.save(weights, project / 'part.pth', {})
    config = project / 'before.py'
    config.write_text((project / 'finetune.py').read_text().replace(
        'clip_vitb_fd_in1k', 'clip_vitb_in1k').replace(
            'embed_dims=48, num_layers=3, num_heads=3, '
            'feedforward_channels=192',
            'embed_dims=128, num_layers=2, num_heads=2, '
            'feedforward_channels=512').replace('run/epoch_2', 'part'))
    message = refused('train', config, '--work-dir', project / 'run')
    assert 'lacks layers.1.ln1.bias' in message
    assert not (project / 'run').exists()


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_module_starts_from_its_file_and_stays_so(tmp_path, prefix):
    file = tmp_path / 'a.pth'
    weights = MODELS.build(student(arch=arch(layers=1))).state_dict()
    checkpoints.save({prefix + k: v for k, v in weights.items()}, file, {})
    init = dict(type='Pretrained', checkpoint=str(file), prefix=prefix)
    network = MODELS.build(student(arch=arch(layers=1), init_cfg=init))
    load_pretrained(network)
    network.init_weights()  # by the host, from the same file
    for key, value in network.state_dict().items():
        assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize('kept, message', [
    (dict(model={'linear.weight': torch.ones(3, 4)}), 'has 0 of the 4'),
    (dict(state_dict={'other.weight': torch.ones(3, 4)}), 'has 0 of the 4'),
    (dict(state_dict={'norm.weight': torch.ones(3)}), 'has 1 of the 4'),
    (dict(state_dict={
        'linear.weight': torch.ones(5, 4),
        'norm.weight': torch.ones(3)
    }), r'has 1 of the 4 .* of other shapes are linear\.weight;'),
])
def test_load_from_without_most_of_the_model_is_refused(
        tmp_path, kept, message):
    """The host would warn, and train random weights."""
    torch.save(kept, tmp_path / 'a.pth')
    cfg = tiny_runs.config(tmp_path / 'run', load_from=str(tmp_path / 'a.pth'))
    with pytest.raises(Refused, match=message):
        prepare(cfg, train=True)
    assert not (tmp_path / 'run').exists()


def test_load_from_is_where_a_run_begins(tmp_path):
    """With some of the weights too, as where classes are other ones."""
    weights = {'module.linear.weight': torch.full((3, 4), 7.)}
    torch.save(dict(state_dict=weights), tmp_path / 'a.pth')
    cfg = tiny_runs.config(
        tmp_path / 'run', load_from=str(tmp_path / 'a.pth'), custom_hooks=[])
    cfg.log_level = 'INFO'
    runner = prepare(cfg, train=True)
    runner.load_or_resume()
    assert (runner.model.linear.weight == 7).all()
    [log] = (tmp_path / 'run').glob('*/*.log')
    assert ('gives 57.1% of the numbers of the model; linear.bias, norm.weight'
            ', norm.bias begin at random') in log.read_text()


def test_checkpoint_of_all_weights_is_not_overwritten(tmp_path):
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'none.pth'))
    network = MODELS.build(student(arch=arch(layers=1), init_cfg=init))
    forget_pretrained(network)
    network.init_weights()  # reads nothing
