"""What a config asks for, checked before anything is built."""
import pytest
from helpers.commands import refused
from mmengine.config import Config

from mmfd.errors import Refused
from mmfd.launch.checks.config_checks import (check_model, check_sections,
                                              check_settings, check_sharding)


def test_shards_are_not_compiled():
    cfg = Config(
        dict(
            launcher='pytorch',
            compile=True,
            model={},
            model_wrapper_cfg=dict(type='mmfd.FullySharded')))
    with pytest.raises(ValueError, match='compile=True needs whole weights'):
        check_sharding(cfg)
    cfg.compile = False
    check_sharding(cfg)


NUMBERS = {  # setting -> a value out of its range
    'train_cfg.val_interval': 0,
    'train_cfg.max_epochs': 0,
    'model.backbone.patch_size': 0,
    'model.backbone.img_size': -224,
    'model.backbone.drop_path_rate': 1.5,
    'optim_wrapper.optimizer.lr': -1,
    'optim_wrapper.optimizer.weight_decay': float('nan'),
    'optim_wrapper.optimizer.eps': 'small',
    'optim_wrapper.clip_grad.max_norm': -3.0,
    'default_hooks.logger.interval': 0,
    'default_hooks.param_scheduler.warmup_epochs': -1,
    'train_dataloader.batch_size': 0,
    'train_dataloader.num_workers': -1,
    'env_cfg.dist_cfg.timeout': -5,
}
KINDS = [  # setting, a value of another kind, and what is said
    ('custom_hooks', 5, 'custom_hooks is 5: a list of dicts'),
    ('custom_hooks', [5], 'custom_hooks.0 is 5: a dict'),
    ('custom_hooks', [dict(a=1)], 'a dict with a type is expected'),
    ('param_scheduler', 'cosine', "param_scheduler is 'cosine': a dict with"),
    ('param_scheduler', [dict(T_max=3)], 'param_scheduler.0 is '),
    ('val_evaluator', [None], 'val_evaluator.0 is None: a dict with a type'),
    ('optim_wrapper.optimizer', None, 'optim_wrapper.optimizer is None: a'),
    ('default_hooks.logger', 5, 'default_hooks.logger is 5: a dict'),
    ('default_scope', 5, 'default_scope is 5: the name of a library'),
    ('randomness', 5, 'randomness is 5: a dict'),
    ('compile', 5, 'compile is 5: True, False or a dict of options'),
    ('auto_scale_lr', 5, 'auto_scale_lr is 5: a dict'),
    ('default_hooks.checkpoint.out_dir', 5, 'out_dir is 5: a path'),
    ('default_hooks.checkpoint.save_best', 5, 'save_best=5: the name of a nu'),
    ('default_hooks.checkpoint.interval', 'x', "interval='x': a whole number"),
    ('default_hooks.checkpoint.max_keep_ckpts', '3', "='3': a whole number"),
    ('default_hooks.skipped.limit', 'x', "skipped.limit='x': a number is"),
]
PARTS = 'backbone', 'head', 'neck', 'normalize', 'teacher', 'data_preprocessor'


@pytest.mark.parametrize('setting', NUMBERS)
def test_number_out_of_its_range_is_refused_by_name(setting):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    check_settings(cfg, train=True)
    cfg.merge_from_dict({setting: NUMBERS[setting]})
    with pytest.raises(Refused, match=f'^{setting}=.* is expected'):
        check_settings(cfg, train=True)


@pytest.mark.parametrize('setting, value, message', KINDS)
def test_value_of_another_kind_is_refused_by_name(setting, value, message):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.custom_hooks = [dict(type='EMAHook')]
    cfg.merge_from_dict({setting: value})
    with pytest.raises(Refused, match=message):
        check_sections(cfg, train=True)
        check_settings(cfg, train=True)


def test_whole_number_with_a_point_is_taken_for_a_count_but_not_for_a_size():
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.train_cfg.val_interval = 10.0  # as files of mmdet compute it
    check_settings(cfg, train=True)
    cfg.train_dataloader.batch_size = 10.0
    with pytest.raises(Refused, match='batch_size=10.0: a whole number'):
        check_settings(cfg, train=True)


@pytest.mark.parametrize('part', PARTS)
def test_model_without_a_part_that_it_needs_is_refused(part):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.model[part] = None
    with pytest.raises(Refused, match=f'model.{part} is None: Feature'):
        check_settings(cfg, train=True)


def test_classifier_that_trains_needs_a_head():
    cfg = Config.fromfile('configs/classification/clip_vitb_fd_in1k.py')
    cfg.model.neck = None  # it does without one
    check_settings(cfg, train=True)
    cfg.model.head = None
    with pytest.raises(Refused, match='model.head is None: ImageClassifier'):
        check_settings(cfg, train=True)


@pytest.mark.parametrize('word', ['no', 'auto', 'run/epoch_1.pth'])
def test_word_or_path_for_resume_is_refused(word):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.resume = word
    with pytest.raises(Refused, match=f"resume is '{word}': True or False"):
        check_sections(cfg, train=True)
    cfg.resume = True
    check_sections(cfg, train=True)


@pytest.mark.parametrize('level', ['LOUD', 'info', None, True, 1.5])
def test_unknown_log_level_is_answered_with_those_there_are(level):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.log_level = level
    with pytest.raises(Refused, match=f'log_level is {level!r}: one of DEBUG'):
        check_sections(cfg, train=True)
    for known in 'WARNING', 'WARN', 10:
        cfg.log_level = known
        check_sections(cfg, train=True)


@pytest.mark.parametrize('change, message', [
    ({
        'model': None
    }, 'has no model'),
    ({
        'model': 3
    }, 'model is 3: a dict is expected'),
    ({
        'model.backbone': None
    }, 'model.backbone is None: a dict with a type'),
    ({
        'model.teacher': 4
    }, 'model.teacher is 4: a dict with a type'),
    ({
        'model.teacher.neck': None
    }, 'model.teacher.neck is None: a dict with'),
    ({
        'model.head': 'none'
    }, "model.head is 'none': a dict with a type"),
    ({
        'model.data_preprocessor': 5
    }, 'model.data_preprocessor is 5: a dict'),
])
def test_model_whose_parts_cannot_be_built_is_refused_by_name(change, message):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    check_model(cfg)
    cfg.merge_from_dict(change)
    with pytest.raises(Refused, match=message):
        check_model(cfg)


def test_no_tool_fails_at_a_config_of_something_else(tmp_path, shapes_root):
    config = tmp_path / 'none.py'
    config.write_text('x = 1')
    for tool, *arguments in (('benchmark', '--plan'), ('benchmark', ),
                             ('analyze', 'random', '--images', shapes_root,
                              '--out', tmp_path / 'out')):
        assert 'has no model' in refused(tool, config, *arguments)
    assert [*tmp_path.iterdir()] == [config]
