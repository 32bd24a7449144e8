"""Broken images are counted and listed; too many of them end a run."""
import os

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from mmfd.errors import Refused
from mmfd.registry import HOOKS


class Run:
    """As much of a Runner as the hook asks for."""

    def __init__(self, work_dir, images=100):
        self.work_dir = str(work_dir)
        self.message_hub = MessageHub('skipped')
        self.logger = MMLogger('skipped')
        self.train_dataloader = DataLoader(range(images))


def batch(*skipped):
    return dict(data_samples=[
        BaseDataElement(metainfo=dict(skipped=[pair])) for pair in skipped
    ])


def test_report_names_every_broken_image_once(tmp_path):
    hook, run = HOOKS.build(dict(type='mmfd.SkippedImagesHook')), Run(tmp_path)
    odd = os.fsdecode(b'caf\xe9.jpg')
    for _ in range(2):
        hook.after_train_iter(run, 0, batch(('b.jpg', 'it is empty')), {})
        hook.after_val_iter(run, 0, batch((odd, 'it is empty')), {})
    assert run.message_hub.get_scalar('train/skipped').current() == 1
    hook.after_train_epoch(run)
    report = (tmp_path / 'skipped_images.txt').read_text().splitlines()
    assert report == ['b.jpg\tit is empty', 'caf\\udce9.jpg\tit is empty']


def test_report_keeps_the_images_of_an_earlier_part_of_the_run(tmp_path):
    for name in 'b.jpg', 'a.jpg', 'b.jpg':
        hook = HOOKS.build(dict(type='mmfd.SkippedImagesHook'))
        hook.after_train_iter(Run(tmp_path), 0, batch((name, 'x')), {})
        hook.after_train_epoch(Run(tmp_path))
    report = (tmp_path / 'skipped_images.txt').read_text()
    assert report == 'b.jpg\tx\na.jpg\tx\n'


def test_broken_images_among_few_held_out_ones_do_not_end_the_run(tmp_path):
    hook, run = HOOKS.build(dict(type='mmfd.SkippedImagesHook')), Run(tmp_path)
    for i in range(50):
        hook.after_val_iter(run, 0, batch((str(i), 'x')), {})
    hook.after_val_epoch(run)
    assert len((tmp_path / 'skipped_images.txt').read_text().split()) == 100


def test_more_broken_images_than_the_limit_end_the_run(tmp_path):
    hook = HOOKS.build(dict(type='mmfd.SkippedImagesHook', limit=0.02))
    run = Run(tmp_path)
    hook.after_train_iter(run, 0, batch(('1', 'x'), ('2', 'x')), {})
    with pytest.raises(Refused, match='3 of 100 .* share of 0.02'):
        hook.after_train_iter(run, 1, batch(('3', 'x')), {})
    assert len((tmp_path / 'skipped_images.txt').read_text().split()) == 6


def test_limit_counts_the_images_of_all_processes(tmp_path, monkeypatch):
    hook = HOOKS.build(dict(type='mmfd.SkippedImagesHook', limit=0.02))
    other = dict(train={'2': 'x', '3': 'x'}, val={'4': 'x'}, test={})
    monkeypatch.setattr('mmfd.training.hooks.all_gather_object',
                        lambda mine: [mine, (other, {})])
    run = Run(tmp_path)
    hook.after_train_iter(run, 0, batch(('1', 'x')), {})
    with pytest.raises(Refused, match='3 of 100'):
        hook.after_train_epoch(run)
