"""Every config builds what its docstring says, without a download."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmfd.meta import RealSchedules

SCOPE = DefaultScope.overwrite_default_scope
LEAVES = sorted(
    str(path) for path in Path('configs').glob('*/*.py')
    if path.parent.name != '_base_')


def neutral(cfg):
    """Without the weights, which are the user's to bring."""
    model = cfg.model
    if 'teacher' in model:
        model.teacher.checkpoint = 'random'
    if model.backbone.get('init_cfg'):
        model.backbone.init_cfg = None
    return model


@pytest.mark.parametrize('leaf', LEAVES)
def test_model_of_every_config_builds(leaf):
    model = neutral(Config.fromfile(leaf))
    with torch.device('meta'), RealSchedules(), SCOPE('mmpretrain'):
        assert sum(p.numel() for p in MODELS.build(model).parameters()) > 1e5


@pytest.mark.parametrize('leaf', LEAVES)
def test_docstring_ends_with_the_command_that_runs_it(leaf):
    docstring = re.match(r'"""(.*?)"""', Path(leaf).read_text(), re.S)[1]
    assert leaf in docstring or 'make demo-teacher' in docstring


@pytest.mark.parametrize('leaf', [x for x in LEAVES if x[8:10] == 'fd'])
def test_no_config_trains_against_random_weights_unasked(leaf):
    teacher = Config.fromfile(leaf).model.teacher
    assert teacher.checkpoint.endswith('.pth') and teacher.source


@pytest.mark.parametrize('name, drop_path', [
    ('clip_vitb_fd', 0.2),
    ('clip_vitl_fd', 0.3),
    ('dino_vitb_fd', 0.3),
])
def test_distillation_has_the_papers_numbers(name, drop_path):
    cfg = Config.fromfile(f'configs/fd/{name}.py')
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=3e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=3.0)
    curve = cfg.default_hooks.param_scheduler
    assert (curve.warmup_epochs, curve.warmup_lr, curve.min_lr) == (10, 5e-7,
                                                                    5e-6)
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert cfg.model.backbone.layer_scale_init_value == 0.1
    assert cfg.model.backbone.img_size == cfg.model.teacher.img_size == 224
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.train_dataloader.drop_last
    assert cfg.model.head.loss == dict(type='torch.nn.SmoothL1Loss', beta=2.0)
    crop, flip = cfg.train_dataloader.dataset.pipeline[1:3]
    assert crop.crop_ratio_range == (0.08, 1.0)
    assert (crop.interpolation, crop.backend) == ('bilinear', 'pillow')
    assert flip.prob == 0.5


@pytest.mark.parametrize('name, lr, drop_path', [
    ('clip_vitb_fd', 1.25e-3, 0.3),
    ('clip_vitl_fd', 2.5e-4, 0.4),
    ('dino_vitb_fd', 1.5e-3, 0.2),
])
def test_fine_tuning_has_the_papers_numbers(name, lr, drop_path):
    cfg = Config.fromfile(f'configs/classification/{name}_in1k.py')
    large = name == 'clip_vitl_fd'
    curve, optim = cfg.default_hooks.param_scheduler, cfg.optim_wrapper
    assert (cfg.train_cfg.max_epochs,
            curve.warmup_epochs) == ((50, 5) if large else (100, 20))
    assert optim.optimizer.lr == lr
    assert curve.warmup_lr == curve.min_lr == (5e-7 if large else 2.5e-7)
    assert optim.paramwise_cfg.layer_decay == (0.75 if large else 0.6)
    assert optim.optimizer.weight_decay == 0.05
    assert optim.clip_grad == dict(max_norm=5.0)
    backbone, head = cfg.model.backbone, cfg.model.head
    assert backbone.drop_path_rate == drop_path
    assert backbone.layer_scale_init_value == 0.1
    assert backbone.out_type == 'avg_featmap'
    assert head.init_cfg.std == 2e-5
    assert head.loss.label_smooth_val == 0.1
    assert [(a.type[11:], a.alpha)
            for a in cfg.model.train_cfg.augments] == [('Mixup', 0.8),
                                                       ('CutMix', 1.0)]
    loader = cfg.train_dataloader
    assert (loader.batch_size, loader.drop_last) == (128, True)
    crop, flip, augment, erase = loader.dataset.pipeline[1:5]
    assert (crop.scale, crop.crop_ratio_range) == (224, (0.08, 1.0))
    assert (crop.interpolation, crop.backend) == ('bicubic', 'pillow')
    assert (augment.num_policies, augment.magnitude_level) == (2, 9)
    assert (augment.policies, augment.magnitude_std) == ('timm_increasing',
                                                         0.5)
    assert (erase.erase_prob, erase.mode) == (0.25, 'rand')
    resize, centre = cfg.val_dataloader.dataset.pipeline[1:3]
    assert (resize.scale, resize.edge, resize.interpolation) == (256, 'short',
                                                                 'bicubic')
    assert centre.crop_size == 224


def test_teachers_differ_only_in_what_is_their_own():
    clip, dino = (
        Config.fromfile(f'configs/_base_/teachers/{x}_vitb16.py').teacher
        for x in ('clip', 'dino'))
    assert (clip.backbone.pop('norm_cfg').eps,
            dino.backbone.pop('norm_cfg').eps) == (1e-5, 1e-6)
    assert clip.backbone.pop('pre_norm') and clip.backbone.pop('layer_cfgs')
    assert clip.backbone == dino.backbone and clip.neck == dino.neck
    assert dino.normalize.mean == [123.675, 116.28, 103.53]
    assert dino.normalize.std == [58.395, 57.12, 57.375]
    assert dino.img_size == clip.img_size == 224


@pytest.mark.parametrize('teacher', ['clip_vitb', 'clip_vitl', 'dino_vitb'])
def test_before_column_has_the_recipe_of_its_student(teacher):
    before, after = (
        Config.fromfile(f'configs/classification/{teacher}{x}_in1k.py')
        for x in ('', '_fd'))
    same = ('train_cfg', 'train_dataloader', 'val_dataloader', 'default_hooks')
    assert all(before[key] == after[key] for key in same)
    stem = before.optim_wrapper.paramwise_cfg.pop('stem', ())
    clip = teacher.startswith('clip')
    assert stem == (('pre_norm', ) if clip else ())  # the host says: last
    assert before.optim_wrapper == after.optim_wrapper
    assert before.model.head == after.model.head
    assert before.model.train_cfg == after.model.train_cfg
    drop_path = after.model.backbone.drop_path_rate
    assert before.model.backbone.drop_path_rate == drop_path
