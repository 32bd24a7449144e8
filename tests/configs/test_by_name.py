"""Leaves for teachers by name: both sides meet, and they are short."""
from pathlib import Path

import pytest
import torch
from helpers.configs import check_all, leaves, load
from helpers.models import arch, pixels
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.networks import by_name

LEAVES = leaves('fd/by_name')


@pytest.mark.parametrize(
    'size', ['vitb', pytest.param('vitl', marks=pytest.mark.full)])
def test_student_has_its_teachers_tokens_and_width(size):

    def check(leaf):
        model = load(leaf).model
        named = model.teacher.backbone
        facts = by_name.find(f'timm:{named.name}', named.img_size).facts
        assert named.img_size == model.backbone.img_size
        assert facts.patch == model.backbone.patch_size
        assert facts.width == model.neck.out_channels
        assert (facts.cls == 1) != (model.neck.get('tokens') == 'map')
        assert facts.mean and facts.source and facts.licence

    check_all(check, [leaf for leaf in LEAVES if size in leaf])


def test_leaf_is_no_longer_than_twelve_lines():
    assert len(LEAVES) == 13
    lines = [len(Path(leaf).read_text().splitlines()) for leaf in LEAVES]
    assert max(lines) <= 12


def test_small_copy_of_a_leaf_trains():
    cfg = Config.fromfile('configs/fd/by_name/siglip2_vitb16_fd.py').model
    cfg.teacher.update(checkpoint='random')
    cfg.teacher.backbone.update(img_size=32, model_args=dict(depth=1))
    cfg.backbone.update(img_size=32, arch=arch(layers=2))
    cfg.neck.in_channels = 48
    model = MODELS.build(cfg)
    model.init_weights()
    assert torch.isfinite(model.loss(pixels())['loss'])
