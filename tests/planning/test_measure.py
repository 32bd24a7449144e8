"""What a run takes is measured on a few rounds of it."""
import json
import os
import re

import pytest
from helpers.commands import command, refused
from mmengine.config import Config

from mmfd.errors import Refused
from mmfd.planning import measure
from mmfd.planning.plan import Plan
from mmfd.planning.training_images import IMAGENET_IMAGES

DEMO = 'configs/demo/simclr_fd.py'
PHASES = 'pixels', 'teacher', 'student', 'backward', 'optimizer'
IN_ONE_PROCESS = ('train_dataloader.num_workers=0',
                  'train_dataloader.persistent_workers=False')


def values(quantities):
    return {quantity.name: quantity.value for quantity in quantities}


def test_live_and_cached_teacher_cost_what_they_compute_and_read(tmp_path):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    *transforms, pack = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='mmfd.StoredViews', views=8, transforms=transforms), pack
    ]
    cfg.train_dataloader.batch_size = 1
    cfg.model.backbone.arch = cfg.model.teacher.backbone.arch = dict(
        embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=768)
    cfg.model.neck.update(in_channels=192, out_channels=192)
    plan = Plan(cfg, gpus=16)
    quantities = [
        *measure.live_and_cached_teacher(plan, tmp_path, 'int8', tflops=100)
    ]
    found, teacher = values(quantities), values(plan.operations())['teacher']
    targets, computed = 300 * IMAGENET_IMAGES, 8 * IMAGENET_IMAGES
    assert found['teacher'] == pytest.approx(teacher / 1e11)  # ms
    assert found['live'] == pytest.approx(targets * teacher / 1e14)
    assert found['size'] == pytest.approx(computed * 197 * 192)
    read = (targets - computed) * 197 * 192 / found['disk']
    assert found['cached'] == pytest.approx(computed * teacher / 1e14 + read)
    cheaper = 'cached' if found['cached'] < found['live'] else 'live'
    assert measure.live_or_cached_advice(quantities).startswith(
        f'The teacher is cheaper {cheaper}: ')
    assert os.listdir(tmp_path) == []


def test_disk_that_cannot_be_written_to_is_refused():
    with pytest.raises(Refused, match='/nowhere cannot be measured: No su'):
        measure.disk_read_rate('/nowhere')


def test_tool_measures_step_loader_and_whole_and_leaves_nothing(
        shapes_root, tmp_path):
    settings = 'train_dataloader.batch_size=16', *IN_ONE_PROCESS
    out = command(
        *('benchmark', DEMO, '--data-root', shapes_root / 'imagenet'),
        *('--rounds', 3, '--length', 1, '--json', tmp_path / 'f.json'),
        *('--work-dir', tmp_path / 'run', '--cfg-options', *settings),
        before='from mmfd.planning import measure; '
        'measure.GEMM_SIZE["cpu"] = 512')
    sections = json.loads((tmp_path / 'f.json').read_text())
    found = {
        quantity['name']: quantity['value']
        for section in sections.values()
        for quantity in section
    }
    assert re.search(r'step +[\d.]+ img/s  measured quartiles', out)
    assert not (tmp_path / 'run').exists()
    assert 0 < found['whole'] <= found['loader']
    used = 100 * found['step'] * found['image'] / found['GEMM']
    assert found['used'] == pytest.approx(used) and 0 < used < 100
    phases = [found[name] for name in PHASES]
    assert min(phases) > 0
    assert 0.4 < sum(phases) / (1000 * 16 / found['step']) < 2.5
    assert found['peak'] > 2**26


def test_products_in_less_than_fp32_are_not_measured(shapes_root):
    assert "computed in 'medium' precision" in refused(
        'benchmark',
        DEMO,
        '--data-root',
        shapes_root / 'imagenet',
        '--cfg-options',
        *IN_ONE_PROCESS,
        before='import torch; '
        "torch.set_float32_matmul_precision('medium')")


def test_one_round_has_no_quartiles():
    with pytest.raises(Refused, match='--rounds 1 --length 5: measure two'):
        measure.measure({}, prepare=None, rounds=1)
