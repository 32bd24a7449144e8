"""Configs are read and changed as a command line says, or refused."""
import copy
import os
import re
import subprocess
import sys
from argparse import Namespace

import pytest
from helpers.commands import ROOT, command, refused, run
from mmengine.config import Config
from mmengine.runner import Runner

from mmfd.errors import Refused
from mmfd.launch.config_options import load_config, override, read_config
from mmfd.registry import RENAMED


def arguments(config, data_root=(), **options):
    return Namespace(
        config=str(config),
        work_dir=None,
        launcher='none',
        local_rank=0,
        data_root=[*map(str, data_root)],
        cfg_options=options)


# --- files ---

FILES = {  # name of a config -> (its text, the message)
    'page.py': ('<html>', 'SyntaxError'),
    'raises.py': ('1 / 0', 'ZeroDivisionError'),
    'base.py': ("_base_ = 'nowhere.py'", 'nowhere.py'),
    'imports.py': ("custom_imports = dict(imports=['no_such_module'], "
                   'allow_failed_imports=False)', 'no_such_module'),
    'list.json': ('[1, 2]', 'AttributeError'),
    'text.txt': ('a = 1', 'Only py/yml/yaml/json'),
}


@pytest.mark.parametrize('name', FILES)
def test_config_that_cannot_be_read_is_refused_by_name(tmp_path, name):
    text, message = FILES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(Refused, match=f'{name}: .*{message}'):
        read_config(tmp_path / name)


def test_what_libraries_print_while_they_are_imported_is_not_shown():
    code = ('from mmfd.launch.config_options import read_config; '
            'read_config("configs/demo/simclr_fd.py"); '
            'import mmpretrain.datasets')
    done = subprocess.run([sys.executable, '-c', code],
                          cwd=ROOT,
                          capture_output=True,
                          text=True,
                          check=True)
    assert done.stdout == ''


def test_missing_config_is_one_message():
    assert refused('train', 'nowhere.py') == 'error: no config file nowhere.py'


@pytest.mark.parametrize('library', ['mmseg', 'mmdet'])
def test_library_that_is_not_there_is_named_with_the_command(
        tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)  # cannot be imported
    (tmp_path / 'down.py').write_text(f'a = __import__("{library}").__path__')
    with pytest.raises(Refused, match=library) as refusal:
        read_config(tmp_path / 'down.py')
    assert str(refusal.value).endswith("pip install 'mmfd[downstream]'")


@pytest.mark.parametrize('module, missing', [('no_such', 'no_such'),
                                             ('of_mine', 'no_such_either')])
def test_a_custom_import_that_fails_is_one_line_with_its_cause(
        tmp_path, monkeypatch, module, missing):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'of_mine.py').write_text('import no_such_either')
    config = tmp_path / 'config.py'
    config.write_text(f"custom_imports = dict(imports=['{module}'])")
    with pytest.raises(Refused) as refusal:
        read_config(config)
    assert str(refusal.value) == (
        f'config {config}: ImportError: Failed to import custom modules from '
        f"{{'imports': ['{module}']}} (No module named '{missing}'): "
        'PYTHONPATH has to name the folder that they are in')


def test_scales_are_refused_where_the_config_has_none(project):
    message = refused('test', project / 'fd.py', 'configs/demo/student.pth',
                      '--tta')
    assert message == ('error: --tta: the config has no tta_model and no '
                       'tta_pipeline')


# --- names of hooks in configs of version 0.1 ---


def test_config_with_a_former_hook_name_is_answered_with_the_new_one(project):
    config = project / 'old.py'
    config.write_text("_base_ = 'fd.py'\n"
                      "custom_imports = dict(imports=['mmfd.ops'])\n"
                      "default_hooks = dict("
                      "monitor=dict(type='mmfd.Verdict'), checkpoint=dict("
                      "type='mmfd.Checkpoints', interval=1))\n")
    log = command('train', config, '--work-dir', project / 'run')
    [file] = project.glob('run/*/*.log')
    for old, new in (('Verdict', 'CollapseMonitorHook'),
                     ('Checkpoints', 'ResumableCheckpointHook')):
        assert log.count(f'mmfd.{old} is now mmfd.{new}\n') == 1
        assert f'{new} ' in file.read_text()  # in the table of hooks
    assert (project / 'run/epoch_1.pth').exists()


def test_every_former_name_is_replaced_wherever_it_is(tmp_path):
    config = tmp_path / 'old.py'
    hooks = [dict(type=f'mmfd.{name}') for name in RENAMED]
    config.write_text(f'custom_hooks = {hooks}\nother = [dict(a={hooks[0]})]')
    cfg = read_config(config)
    assert [hook.type for hook in cfg.custom_hooks
            ] == [f'mmfd.{name}' for name in RENAMED.values()]
    assert cfg.other[0].a == cfg.custom_hooks[0]
    override(cfg, {'custom_hooks.0.type': 'mmfd.Verdict'})
    assert cfg.custom_hooks[0].type == 'mmfd.CollapseMonitorHook'


# --- options ---

REFUSED = {  # option -> the message
    'optim_wrapper.optimizer.lrr=1':
    "optim_wrapper.optimizer has no 'lrr'; did you mean 'lr'",
    'modle.backbone.img_size=32':
    "has no 'modle'; did you mean 'model'",
    'teacher.checkpoint=x.pth':  # a variable that only the file reads
    "teacher.checkpoint: .* did you mean 'model.teacher'",
    'default_hooks.check.interval=5':
    "has no 'check'; did you mean 'checkpoint'",
    'default_hooks.checkpoint.intervals=5':
    "has no 'intervals'; did you mean 'interval'",
    'param_scheduler.0.type=x':
    'param_scheduler is a dict in the child',
    'model..backbone=1':
    "model has no ''",
    '=1':
    "the config has no ''",
    'val_evaluator.7.k=1':
    "val_evaluator has no '7'; known are 0, 1",
    'val_evaluator.-1.k=1':
    "val_evaluator has no '-1'",
    'optim_wrapper.optimizer.betas=0.9,0.95':
    r'a list is expected, optim_wrapper.optimizer.betas="\[0.9,0.95\]"',
    'default_hooks.a.type=mmfd.X default_hooks.b.interval=1':
    "default_hooks has no 'b'",
    'train_cfg.val_interval=1 train_cfg=5':
    'train_cfg and train_cfg.val_interval: the one is a part of the other',
    'train_cfg=5 train_cfg.val_interval=1':
    'train_cfg and train_cfg.val_interval: the one is a part of the other',
    'model.parts=1':
    "model has no 'parts'; known are backbone, data_preprocessor, head, ",
}
TAKEN = ('randomness.deterministic=True', 'train_dataloader.timeout=9',
         'optim_wrapper.clip_grad.norm_type=1.', 'log_processor.by_epoch=True',
         'optim_wrapper.paramwise_cfg.layer_decay=0.9', 'compile=True',
         'train_dataloader.sampler.seed=1', 'train_cfg.val_begin=2',
         'default_hooks.visualization.type=VisualizationHook',
         'default_hooks.skipped.limit=0.5', 'val_evaluator.0.k=10',
         'train_dataloader.dataset.held_out=0.1',
         'train_dataloader.dataset.pipeline.0.gap=3',
         'model.head.loss.reduction=sum', 'visualizer.name=x',
         'test_dataloader.prefetch_factor=4',
         'model.type=mmfd.MaskedFeatureDistillation model.hidden=0.5')


@pytest.fixture(scope='module')
def whole():
    return Config.fromfile('configs/fd/clip_vitb_fd.py')


@pytest.fixture
def cfg(whole):
    return copy.deepcopy(whole)


@pytest.mark.parametrize('options', REFUSED)
def test_setting_that_nothing_takes_is_refused(cfg, options):
    with pytest.raises(Refused, match='--cfg-options.*' + REFUSED[options]):
        override(cfg, dict(o.split('=') for o in options.split(' ')))


@pytest.mark.parametrize('option', TAKEN)
def test_every_setting_that_something_takes_is_accepted(cfg, option):
    override(cfg, dict(o.split('=') for o in option.split(' ')))


DELETE = {
    'model.head.loss._delete_': True,
    'model.head.loss.type': 'mmfd.CosineLoss'
}


def test_delete_replaces_a_dict_as_in_a_config(cfg):
    override(cfg, DELETE)
    assert cfg.model.head.loss == dict(type='mmfd.CosineLoss')


@pytest.mark.parametrize('options, message', [
    ({
        'model.head.loss._delete_': 'yes'
    }, 'loss._delete_=yes: True is'),
    ({
        'model.head._delete_.x': 1
    }, '_delete_.x=1: True is'),
    ({
        '_delete_': True
    }, "the config has no '_delete_'"),
    ({
        'model.head.loss._delete_': True,
        'model.head.loss.type': 'mmfd.RelationLoss',
        'model.head.loss.beta': 2.0
    }, "has no 'beta'"),
])
def test_delete_that_says_something_else_is_refused(cfg, options, message):
    with pytest.raises(Refused, match=message):
        override(cfg, options)


# --- --data-root ---


def test_data_root_replaces_that_of_every_dataset(cfg, tmp_path):
    cfg.dump(tmp_path / 'fd.py')
    cfg = load_config(arguments(tmp_path / 'fd.py', ['a', 'b']))
    assert cfg.train_dataloader.dataset.data_root == ['a', 'b']
    cfg = load_config(arguments(tmp_path / 'fd.py', ['a']))
    assert cfg.train_dataloader.dataset.data_root == 'a'
    assert cfg.val_dataloader.dataset.data_root == 'a'


def test_data_root_reaches_nested_datasets_and_evaluators(tmp_path):
    config = tmp_path / 'det.py'
    config.write_text('''
coco = dict(type='CocoDataset', data_root='coco/')
train_dataloader = dict(
    dataset=dict(type='RepeatDataset', times=2, dataset=coco))
val_dataloader = dict(dataset=coco)
val_evaluator = dict(ann_file='coco/annotations/val.json')
test_evaluator = [dict(ann_file='other/val.json')]
''')
    cfg = load_config(arguments(config, [tmp_path / 'other']))
    folder = str(tmp_path / 'other')
    assert cfg.train_dataloader.dataset.dataset.data_root == folder
    assert cfg.val_dataloader.dataset.data_root == folder
    assert cfg.val_evaluator.ann_file == f'{folder}/annotations/val.json'
    assert cfg.test_evaluator[0].ann_file == 'other/val.json'
    with pytest.raises(
            Refused, match='--data-root has 2 folders: CocoDataset takes one'):
        load_config(arguments(config, ['a', 'b']))


def test_data_root_is_not_said_in_two_ways(tmp_path):
    key = 'train_dataloader.dataset.data_root'
    (tmp_path / 'fd.py').write_text(
        "train_dataloader = dict(dataset=dict(type='a', data_root='a'))")
    with pytest.raises(Refused, match=f'{key}: --data-root sets that, too'):
        load_config(arguments(tmp_path / 'fd.py', ['b'], **{key: 'c'}))


def test_every_hook_of_a_config_can_be_switched_off():
    """The Runner takes None for its own hooks alone."""
    config = 'configs/demo/simclr_fd.py'
    names = [*read_config(config).default_hooks]
    cfg = load_config(
        arguments(config, **{f'default_hooks.{name}': None
                             for name in names}))
    assert {'monitor', 'numbers', 'checkpoint'} <= {*names}
    assert not {'monitor', 'numbers'} & {*cfg.default_hooks}
    runner = Runner.__new__(Runner)
    runner._hooks = []
    runner.register_default_hooks(cfg.default_hooks)
    assert runner.hooks == []


def test_work_dir_is_that_of_the_option_the_config_or_its_name(tmp_path):
    (tmp_path / 'fd.py').write_text('model = dict()')
    args = arguments(tmp_path / 'fd.py')
    assert load_config(args).work_dir == os.path.join('work_dirs', 'fd')
    args.cfg_options = dict(work_dir=5)
    assert load_config(args).work_dir == '5'
    args.work_dir = 'here'
    assert load_config(args).work_dir == 'here'


# --- the command line's own syntax ---


@pytest.mark.parametrize('option, message', [
    ('lr', 'expected KEY=VALUE'),
    ('a=[1,(2]', r"'\)' is missing in 1,\(2"),
])
def test_option_that_is_no_pair_is_answered_with_the_usage(option, message):
    status, output = run('train', 'x.py', '--cfg-options', 'a=1', option)
    assert status == 2 and 'Traceback' not in output
    assert re.search(f'error: --cfg-options {re.escape(option)}: {message}',
                     output.replace('\n', ' '))
