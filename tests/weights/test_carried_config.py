"""A config that a checkpoint carries calls nothing and takes no memory."""
import json
import os

import pytest
from helpers.commands import command, refused
from helpers.models import student
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import checkpoints
from mmfd.weights.carried_config import carried_config
from mmfd.weights.export import export


def carrying(path, model, **meta):
    """A student's weights, and beside them what a stranger says of them."""
    weights = MODELS.build(student()).state_dict()
    if not isinstance(model, str):
        model = json.dumps(model)
    checkpoints.save({
        f'backbone.{k}': v
        for k, v in weights.items()
    }, path, dict(meta, model=model))
    return path


def large(**kwargs):
    return student(arch=dict(student()['arch'], **kwargs))


CARRIED = {
    'system': dict(type='os.system', command='touch was_here'),
    'norm': student(norm_cfg=dict(type='os.system')),
    'scope': student(_scope_='antigravity'),
    'nested scope': student(norm_cfg=dict(type='LN', _scope_='antigravity')),
    'list of types': student(type=['os.system']),
    'start': dict(student(), patch_cfg=dict(type='builtins.eval')),
    'argument': {
        **student(), 'x=__import__("os").system("touch was_here")': 1
    },
    'layers': large(num_layers=10**9),
    'many layers': large(num_layers=500_000, embed_dims=3, num_heads=3),
    'width': large(embed_dims=3 * 10**6),
    'wide': large(embed_dims=99_000, feedforward_channels=99_000),
    'image': student(img_size=10**6, patch_size=1),
    'larger image': student(img_size=90_000, patch_size=8),
    'heads': large(num_heads=0),
    'sum of no float': student(img_size=10**400, drop_path_rate=0.5),
    'negative': large(embed_dims=-48),
    'infinite': large(embed_dims=float('inf')),
    'no number': large(embed_dims=float('nan')),
    'text': large(embed_dims='48'),
    'backbone of text': 'base',
    'backbone of numbers': [1, 2],
}
TEXTS = {
    'deep': '[' * 100_000,
    'deep backbone': '{"backbone": ' * 5000 + '1' + '}' * 5000,
    'no json': '{"backbone": ',
    'list': '[1]',
    'number': '1',
    'python': '__import__("os").system("touch was_here")',
}


@pytest.mark.parametrize('name', [*CARRIED, *TEXTS])
def test_config_in_a_file_calls_nothing_and_takes_no_memory(
        tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    model = TEXTS.get(name) or dict(backbone=CARRIED[name])
    file = carrying(tmp_path / 'weights.pth', model)
    with pytest.raises(Refused, match='weights.pth|builds no backbone'):
        export(file, carried_config(file, to_build=True), 'timm')
    assert os.listdir(tmp_path) == ['weights.pth']


def test_python_of_a_file_is_not_handed_on(tmp_path):
    config = {**student(), 'x=exit()': 1}
    file = carrying(tmp_path / 'weights.pth', dict(backbone=config))
    made = export(file, carried_config(file, to_build=False), 'backbone')
    assert made.python == ''


@pytest.mark.parametrize('config', [
    lambda command: dict(type='os.system', command=command),
    lambda command: student(norm_cfg=dict(type='os.system', command=command)),
    lambda command: student(patch_cfg=dict(conv_type='subprocess.run')),
    lambda command: student(layer_cfgs=[dict(type='antigravity')]),
    lambda command: student(bias='os.system'),
])
def test_config_that_names_a_function_is_refused(tmp_path, config):
    file = carrying(tmp_path / 'epoch_1.pth',
                    dict(backbone=config(f'touch {tmp_path / "was_here"}')))
    with pytest.raises(Refused, match='no file is trusted to call'):
        carried_config(file, to_build=True)
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_command_calls_nothing_that_a_file_names(tmp_path):
    config = dict(type='os.system', command=f'touch {tmp_path / "was_here"}')
    file = carrying(tmp_path / 'epoch_1.pth', dict(backbone=config))
    assert 'no file is trusted to call' in refused('export', file,
                                                   tmp_path / 'out.pth',
                                                   '--to', 'timm')
    assert os.listdir(tmp_path) == ['epoch_1.pth']
    output = command('export', file, tmp_path / 'out.pth')  # builds nothing
    assert output.endswith('built by its config\n')
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'out.pth']
