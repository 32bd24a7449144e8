"""What is logged of a run, and what a checkpoint says of its origin."""
import json
import re
from collections import Counter
from math import isnan
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.runs import final, lines, run
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode

from mmfd.training.hooks import NonBlockingRuntimeInfoHook
from mmfd.weights import checkpoints
from mmfd.weights.mmengine_reader import load_for_mmengine


class CountOperations(TorchDispatchMode):

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


class Witness(Hook):
    """Note the loss of each iteration, and how often it waits for a scalar."""
    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.reads = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.mode = CountOperations()
        self.mode.__enter__()

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.mode.__exit__(None, None, None)
        self.reads.append(self.mode.calls['aten._local_scalar_dense.default'])
        self.losses.append(outputs['loss'].item())


def witnessed(config, work_dir, **hooks):
    """15 iterations without drop path, which draws its masks on the CPU."""
    cfg = Config.fromfile(config)
    cfg.work_dir = str(work_dir)
    cfg.train_cfg.max_epochs = 1
    cfg.train_dataloader.batch_size = 8  # of 120 images
    cfg.optim_wrapper.type = 'mmfd.AmpOptimWrapper'
    cfg.custom_hooks = []
    cfg.default_hooks.checkpoint.minutes = None
    cfg.default_hooks.logger.interval = 4
    cfg.default_hooks.update(hooks)
    cfg.model.backbone.drop_path_rate = 0.
    witness = Witness()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(witness)
    runner.train()
    lines = Path(runner.log_dir, 'vis_data/scalars.json').read_text()
    return witness, [
        line for line in map(json.loads, lines.splitlines()) if 'lr' in line
    ]


def test_no_iteration_waits_for_its_loss_and_the_log_is_the_hosts(
        config, tmp_path):
    ours, lines = witnessed(config, tmp_path / 'ours')
    host, expected = witnessed(
        config, tmp_path / 'host', runtime_info=dict(type='RuntimeInfoHook'))
    assert ours.reads == [0] * 15 and min(host.reads[1:]) == 2
    assert ours.losses == host.losses
    assert [line['loss']
            for line in lines] == [line['loss'] for line in expected]
    assert len(lines) == 3 and all(line['grad_norm'] > 0 for line in lines)
    saved = load_for_mmengine(tmp_path / 'ours' / 'epoch_1.pth')
    history = saved['message_hub']['log_scalars']
    assert history['train/loss'].data[0].tolist() == ours.losses
    assert len(history['train/grad_norm'].data[0]) == 15


def test_speed_counts_the_images_of_an_incomplete_batch(config, tmp_path):
    run(config,
        tmp_path / 'run',
        options=('train_dataloader.batch_size=50',
                 'train_dataloader.drop_last=False',
                 'default_hooks.throughput.interval=1',
                 'log_processor.window_size=1', 'train_cfg.max_epochs=1'))
    images = [
        line['img_per_s'] * line['time'] for line in lines(tmp_path / 'run')
        if 'lr' in line
    ]
    assert images == pytest.approx([50, 50, 20], rel=0.2)


def test_what_an_evaluation_does_not_measure_is_not_repeated():
    hook, hub = NonBlockingRuntimeInfoHook(), MessageHub('evaluations')
    runner = SimpleNamespace(message_hub=hub)
    hub.update_scalar('val/time', 1.)
    for metrics in ({
            'knn/top1': 20.,
            'held_out/loss': 0.3
    }, {
            'held_out/loss': 0.2
    }):
        hook.after_val_epoch(runner, metrics)
    assert hub.get_scalar('val/held_out/loss').current() == 0.2
    assert isnan(hub.get_scalar('val/knn/top1').current())
    assert len(hub.get_scalar('val/time').data[0]) == 1


@pytest.fixture(scope='module')
def distilled(config, tmp_path_factory):
    """A work dir; option for its teacher; for another one of the same name."""
    folder = tmp_path_factory.mktemp('provenance')
    torch.manual_seed(1)
    backbone = Config.fromfile(config).model.teacher.backbone
    options = []
    for name in 'one', 'two':
        path = folder / name / 'clip.pth'
        checkpoints.save(MODELS.build(backbone).state_dict(), path, {})
        options.append(f'model.teacher.checkpoint={path}')
    run(config, folder / 'run', options=('train_cfg.max_epochs=1', options[0]))
    return folder / 'run', *options


def assert_both_are_named(work_dir, message):
    before, now = re.findall('with fingerprint ([0-9a-f]{64})', message)
    meta = final(work_dir, 'epoch_1.pth')['meta']
    assert before == meta['teacher.fingerprint'] != now
    assert re.search(
        r'against the teacher clip.pth .* and \S+/two/clip.pth is '
        'another one', message)


def test_run_does_not_resume_with_a_teacher_of_another_fingerprint(
        config, distilled, tmp_path):
    work_dir, _, other = distilled
    message = run(
        config,
        tmp_path / 'run',
        '--resume',
        work_dir / 'epoch_1.pth',
        options=(other, ),
        code=1)
    assert_both_are_named(work_dir, message)


@pytest.mark.full
def test_student_is_not_tested_with_a_teacher_of_another_fingerprint(
        config, distilled, tmp_path):
    work_dir, same, other = distilled
    for option, code in (same, 0), (other, 1):
        message = run(
            config,
            tmp_path / 'run',
            work_dir / 'epoch_1.pth',
            tool='test',
            options=(option, ),
            code=code)
    assert_both_are_named(work_dir, message)
