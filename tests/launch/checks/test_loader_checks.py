"""Settings of a loader that exclude each other are refused by name."""
import pytest
from mmengine.config import Config

from mmfd.errors import Refused
from mmfd.launch import parallel_config
from mmfd.launch.checks import config_checks, loader_checks

GROUPS = dict(type='mmdet.AspectRatioBatchSampler')
REFUSED = [  # settings, the message behind the name of the loader
    (dict(shuffle=True),
     r'.shuffle=True: \w+.sampler decides that, so take it out, or set '
     'sampler.shuffle if DefaultSampler has it'),
    (dict(batch_sampler=GROUPS, drop_last=True),
     r'.drop_last=True: \w+.batch_sampler decides that, so take it out, or '
     'set batch_sampler.drop_last if mmdet.AspectRatioBatchSampler has it'),
    (dict(batch_sampler=GROUPS,
          shuffle=True), r'.shuffle=True: \w+.sampler decides that'),
    (dict(sampler=None, shuffle=True, batch_sampler=GROUPS,
          drop_last=False), ': batch_sampler option is mutually exclusive'),
    (dict(num_workers=2, multiprocessing_context='forks'),
     ': multiprocessing_context option should specify a valid start method'),
    (dict(collate_fn=dict(type='no_collate')), '.collate_fn: no function is '
     "called 'no_collate'"),
    (dict(collate_fn=5), '.collate_fn is 5: a dict is expected, such as'),
    (dict(worker_init_fn=dict(type='no_start')), '.worker_init_fn: no functi'),
    (dict(num_workers=2, prefetch_factor=-1), '.prefetch_factor=-1: a number'),
    (dict(num_workers=2, timeout=-1), '.timeout=-1: a number'),
    (dict(num_workers=-1), '.num_workers=-1: a number of 0 or more'),
    (dict(batch_size=None), '.batch_size is None: a number is expected'),
    (dict(batch_size=None, drop_last=True), '.batch_size is None'),
]
TAKEN = [
    dict(num_workers=0, persistent_workers=True, prefetch_factor=4, timeout=9),
    dict(num_workers=2, persistent_workers=True, prefetch_factor=None),
    dict(sampler=None, shuffle=True),
    dict(batch_sampler=GROUPS, shuffle=False, drop_last=False),
    dict(batch_sampler=None, drop_last=True),
    dict(num_workers=2, multiprocessing_context='spawn', pin_memory=True),
]


def check(loop, **settings):
    """Check a config whose loader has these settings, as training would."""
    cfg = Config.fromfile('configs/classification/clip_vitb_fd_in1k.py')
    cfg[f'{loop}_dataloader'].update(
        dict(sampler=dict(type='DefaultSampler', shuffle=False)), **settings)
    config_checks.check_settings(cfg, train=True)
    cfg.launcher = 'none'
    parallel_config.adapt(cfg)
    loader_checks.check(cfg)


@pytest.mark.parametrize('loop', ['train', 'val', 'test'])
@pytest.mark.parametrize('settings, message', REFUSED)
def test_settings_that_exclude_each_other_are_refused(loop, settings, message):
    with pytest.raises(Refused, match=f'^{loop}_dataloader{message}'):
        check(loop, **settings)


@pytest.mark.parametrize('loop', ['val', 'test'])
def test_evaluation_of_a_part_of_the_images_is_refused(loop):
    with pytest.raises(Refused, match=f'{loop}_dataloader.drop_last=True lea'):
        check(loop, drop_last=True)


@pytest.mark.parametrize('settings', TAKEN)
def test_settings_that_go_together_are_taken(settings):
    check('train', **settings)


@pytest.mark.parametrize('settings, lacking', [
    ({}, 'sampler'),
    (dict(batch_sampler=GROUPS), 'sampler and no batch_size'),
])
def test_what_mmengine_needs_is_named(settings, lacking):
    cfg = Config(dict(train_dataloader=dict(dataset={}, **settings)))
    with pytest.raises(Refused, match=f'^train_dataloader has no {lacking}$'):
        loader_checks.check(cfg)
