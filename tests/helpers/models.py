"""Tiny networks and the official names, for tests."""
import json
import re
from functools import partial

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.weights import checkpoints

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


OFFICIAL_SWIN_NAMES = {  # mm name -> models/swin_transformer_v2.py
    r'^patch_embed\.projection\.': 'patch_embed.proj.',
    r'^stages\.(\d+)\.downsample\.':
    lambda match: f'layers.{int(match[1]) - 1}.downsample.',
    r'^stages\.(\d+)\.blocks\.': r'layers.\1.blocks.',
    r'\.attn\.w_msa\.': '.attn.',
    r'\.cpb_mlp\.': '.rpe_mlp.',
    r'\.ffn\.layers\.0\.0\.': '.mlp.fc1.',
    r'\.ffn\.layers\.1\.': '.mlp.fc2.',
    r'^norm3\.': 'norm.',
}


def official_name(name):
    for pattern, official in OFFICIAL_NAMES.items():
        if re.search(pattern, name):
            return re.sub(pattern, official, name)
    return name


def official_swin_name(name):
    for pattern, official in OFFICIAL_SWIN_NAMES.items():
        name = re.sub(pattern, official, name)
    return name


def randomise(network):
    """Move norms and biases, whose initial values are all the same."""
    with torch.no_grad():
        for param in network.parameters():
            if param.ndim == 1:
                param.add_(0.1 * torch.randn_like(param))
    return network.eval()


def pixels(batch=2, size=32):
    """Random RGB pixels of 0-255, square images."""
    return torch.randint(0, 256, (batch, 3, size, size)).float()


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


def swin_arch(width=24, depths=(1, 2, 1), heads=(1, 2, 4), extra_norm=0):
    return dict(
        embed_dims=width,
        depths=depths,
        num_heads=heads,
        extra_norm_every_n_blocks=extra_norm)


def swin_student(**kwargs):
    """That of the official case: grids and windows 16/4, 8/4, 4/4."""
    return dict(
        dict(
            type='mmfd.StudentSwin',
            arch=swin_arch(),
            img_size=64,
            window_size=4,
            drop_path_rate=0.,
            out_indices=(2, )), **kwargs)


def small_teacher(name, checkpoint='random', layers=3, heads=2, **kwargs):
    """A small network with everything that is a teacher's own."""
    config = Config.fromfile(f'configs/_base_/teachers/{name}.py').teacher
    config.backbone.update(
        arch=arch(128, layers, heads), img_size=32, patch_size=8)
    config.update(dict(img_size=None, checkpoint=str(checkpoint)), **kwargs)
    return config


clip_teacher = partial(small_teacher, 'clip_vitb16')
dino_teacher = partial(small_teacher, 'dino_vitb16')


def esvit_teacher(checkpoint='random'):
    config = Config.fromfile('configs/_base_/teachers/esvit_swinb.py').teacher
    small = swin_arch(16)
    del small['extra_norm_every_n_blocks']
    config.backbone.update(
        arch=small,
        img_size=64,
        window_size=4,
        stage_cfgs=dict(),
        out_indices=(2, ))
    config.update(img_size=None, checkpoint=str(checkpoint))
    return config


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


def branch(teacher, channels=128, **kwargs):
    """What belongs to one of several teachers."""
    return dict(
        teacher=teacher,
        neck=dict(
            type='mmfd.ProjectionNeck', in_channels=48, out_channels=channels),
        head=dict(
            type='mmfd.DistillationHead',
            loss=dict(type='torch.nn.SmoothL1Loss', beta=2.0)),
        **kwargs)


def several(balance=None, **branches):
    """A distillation of the branches, or of a CLIP and a DINO."""
    return dict(
        type='mmfd.MultiTeacherDistillation',
        data_preprocessor=dict(type='mmfd.PixelPreprocessor'),
        normalize=IMAGENET,
        backbone=student(drop_path_rate=0.2),
        branches=branches
        or dict(clip=branch(clip_teacher()), dino=branch(dino_teacher())),
        balance=balance)


def build_random(config):
    """A network in eval mode in which every tensor matters."""
    model = MODELS.build(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1)
        if parameter.ndim == 1 and name.endswith('weight'):
            parameter.data += 1
        if name.endswith('bias_table'):
            torch.nn.init.normal_(parameter)
    model.eval()
    return model


def save_trained(model, file, config=None, **meta):
    """Write a checkpoint as training does; return its path."""
    if config:
        meta['model'] = json.dumps(dict(backbone=config))
    prefix = '' if hasattr(model, 'head') else 'backbone.'
    checkpoints.save({
        prefix + k: v
        for k, v in model.state_dict().items()
    }, file, meta)
    return file


def classifier(backbone, width=48, **kwargs):
    """A linear classifier of 7 classes on a backbone of this width."""
    return MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=backbone,
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=7,
                in_channels=width),
            **kwargs))
