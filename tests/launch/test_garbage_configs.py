"""A config that is none, or of something else, is one message."""
import importlib
import os
import sys

import pytest
from helpers.commands import ROOT

from mmfd.launch.checks.config_checks import DICTS, NEVER_NONE

FD = f"_base_ = '{ROOT}/configs/demo/simclr_fd.py'\n"
TEXTS = {  # name of a config -> its text, and what is said of it
    'empty.py': ('', 'no model'),
    'broken.py': ('model = dict(', 'SyntaxError'),
    'binary.py': (b'\x80\xff\x00', 'UnicodeDecodeError'),
    'utf16.py': ('model = 1'.encode('utf-16'), 'UnicodeDecodeError'),
    'raises.py': ('raise SystemExit(0)', 'SystemExit'),
    'empty.yml': ('', 'names with their settings are expected'),
    'list.yml': ('- 1\n- 2', 'names with their settings are expected'),
    'number.json': ('5', 'names with their settings are expected'),
    'base.py': ("_base_ = './nowhere.py'", 'nowhere.py'),
    'text.txt': ('model = dict()', 'Only py/yml/yaml/json'),
    'pickle.pkl': (b'\x80\x04N.', 'Only py/yml/yaml/json'),
    'model.py': ('model = [dict(type="ImageClassifier")]', 'model'),
    'typeless.py': (FD + 'model = dict(_delete_=True, backbone=[1])',
                    'model'),
    'hooks.py': (FD + 'default_hooks = [1]', 'default_hooks is [1]: a dict'),
    'scope.py': (FD + 'default_scope = 5', 'default_scope is 5: the name'),
    'folder.py': (None, 'folder.py is a folder'),
}
COMMANDS = {  # command -> its arguments after the config
    'train': ('--data-root', 'IMAGES'),
    'test': ('WEIGHTS', '--data-root', 'IMAGES'),
    'benchmark': ('--plan', ),
    'draw': ('WEIGHTS', 'IMAGES', '--out', 'out'),
    'analyze': ('--images', 'IMAGES', '--out', 'out'),
    'export': ('student.pth', '--config'),
    'statistics': ('--images', 'IMAGES', '--out', 'tokens.safetensors'),
}


@pytest.fixture
def answer(tmp_path, monkeypatch, shapes_root):
    """Call a command in this process: what it says when it refuses."""
    weights = ROOT / 'configs/demo/student.pth'
    names = dict(WEIGHTS=str(weights), IMAGES=str(shapes_root / 'imagenet'))
    folder = tmp_path / 'here'
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(command, config):
        arguments = [names.get(a, a) for a in COMMANDS[command]]
        of_config = [str(config), *arguments]
        if command == 'export':
            of_config = [str(weights), *arguments, str(config)]
        monkeypatch.setattr(sys, 'argv', [command, *of_config])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(f'mmfd.commands.{command}').main()
        assert not os.listdir(folder)
        assert isinstance(ended.value.code, str), ended.value.code
        return ended.value.code  # Python prints it, and ends with status 1

    return call


@pytest.mark.parametrize('name', TEXTS)
def test_every_command_answers_a_garbage_config_with_one_message(
        tmp_path, answer, name):
    text, message = TEXTS[name]
    config = tmp_path / name
    if text is None:
        config.mkdir()
    else:
        config.write_bytes(text if isinstance(text, bytes) else text.encode())
    for command in COMMANDS:
        said = answer(command, config)
        assert said.startswith('error: ') and message in said, (command, said)


@pytest.mark.parametrize('key', DICTS)
def test_every_command_refuses_a_section_of_another_kind_by_its_name(
        tmp_path, answer, key):
    config = tmp_path / 'config.py'
    for command, wrong in ('train', [1]), ('statistics', 'x'):
        config.write_text(FD + f'{key} = {wrong!r}')
        assert answer(
            command,
            config) == (f'error: {key} is {wrong!r}: a dict is expected')


@pytest.mark.parametrize('key', NEVER_NONE)
def test_a_section_that_the_host_reads_is_refused_if_it_is_none(
        tmp_path, answer, key):
    config = tmp_path / 'config.py'
    config.write_text(FD + f'{key} = None')
    assert answer('train', config) == (
        f'error: {key} is None: a dict is expected; leave it out for none')


TYPES = {  # section -> (a class that fits elsewhere, what is said)
    'default_hooks': (dict(x=dict(type='torch.nn.SmoothL1Loss')),
                      "default_hooks.x.type='torch.nn.SmoothL1Loss': the name "
                      'of a hook is expected, and SmoothL1Loss has no get_'),
    'custom_hooks': ([dict(type='mmfd.CosineLoss')],
                     "custom_hooks.0.type='mmfd.CosineLoss': the name of a h"),
    'model': (dict(type='mmfd.CosineLoss', _delete_=True),
              "model.type='mmfd.CosineLoss': the name of a model is expected, "
              'and CosineLoss has no train_step()'),
    'optim_wrapper': (dict(type='mmfd.NanGuardHook'),
                      "optim_wrapper.type='mmfd.NanGuardHook': the name of a"),
    'train_cfg': (dict(type='mmfd.Teacher'),
                  "train_cfg.type='mmfd.Teacher': the name of a loop is exp"),
    'visualizer': (dict(type='mmfd.ResumableLoop', _delete_=True),
                   "visualizer.type='mmfd.ResumableLoop': the name of a visu"),
}


@pytest.mark.parametrize('key', TYPES)
def test_a_class_of_another_kind_in_a_section_is_refused_by_its_place(
        tmp_path, answer, key):
    value, message = TYPES[key]
    config = tmp_path / 'config.py'
    teacher = 'model = dict(teacher=dict(checkpoint="random"))\n'
    config.write_text(FD + teacher + f'{key} = {value!r}')
    assert message in answer('train', config)
