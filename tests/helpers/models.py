"""Tiny networks and the official names, for tests."""
import re
from functools import partial

from mmengine.config import Config

IMAGENET = dict(
    type='mmfd.Normalize',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375])
OFFICIAL_NAMES = {  # mm name -> official name (models/vision_transformer.py)
    r'patch_embed\.projection\.': 'patch_embed.proj.',
    r'layers\.(\d+)\.ln([12])\.': r'blocks.\1.norm\2.',
    r'layers\.(\d+)\.ffn\.layers\.0\.0\.': r'blocks.\1.mlp.fc1.',
    r'layers\.(\d+)\.ffn\.layers\.1\.': r'blocks.\1.mlp.fc2.',
    r'layers\.(\d+)\.': r'blocks.\1.',
    r'^ln1\.': 'norm.',
    r'^ln2\.': 'fc_norm.',
}


def official_name(name):
    for pattern, official in OFFICIAL_NAMES.items():
        if re.search(pattern, name):
            return re.sub(pattern, official, name)
    return name


def arch(width=48, layers=3, heads=3):
    return dict(
        embed_dims=width,
        num_layers=layers,
        num_heads=heads,
        feedforward_channels=4 * width)


def student(**kwargs):
    return dict(
        dict(
            type='mmfd.StudentViT',
            arch=arch(),
            img_size=32,
            patch_size=8,
            use_rel_pos_bias=False,
            use_shared_rel_pos_bias=True,
            final_norm=True,
            out_type='raw'), **kwargs)


def downstream(**kwargs):
    """The student as fine-tuning uses it."""
    return dict(
        type='mmfd.StudentViT',
        arch=arch(),
        img_size=32,
        patch_size=8,
        use_rel_pos_bias=True,
        out_type='avg_featmap',
        **kwargs)


def small_teacher(name, checkpoint='random', layers=3, heads=2, **kwargs):
    """A small network with everything that is a teacher's own."""
    config = Config.fromfile(f'configs/_base_/teachers/{name}.py').teacher
    config.backbone.update(
        arch=arch(128, layers, heads), img_size=32, patch_size=8)
    config.update(dict(img_size=None, checkpoint=str(checkpoint)), **kwargs)
    return config


clip_teacher = partial(small_teacher, 'clip_vitb16')
dino_teacher = partial(small_teacher, 'dino_vitb16')


def distillation(teacher=None, **kwargs):
    return dict(
        dict(
            type='mmfd.FeatureDistillation',
            data_preprocessor=dict(type='mmfd.PixelPreprocessor'),
            teacher=teacher or clip_teacher(),
            normalize=IMAGENET,
            backbone=student(),
            neck=dict(
                type='mmfd.ProjectionNeck', in_channels=48, out_channels=128),
            head=dict(
                type='mmfd.DistillationHead',
                loss=dict(type='torch.nn.SmoothL1Loss', beta=2.0))), **kwargs)
