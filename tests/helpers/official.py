"""How ours is compared with the official code (Feature-Distillation)."""
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope

from mmfd.weights.meta_device import LinspaceOnCPU

SCOPE = DefaultScope.overwrite_default_scope


def pixels_of(official):
    """The official input, in ImageNet statistics, back to RGB 0-255."""
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    return official['input'] * std + mean


def assert_relative(actual, expected, tolerance):
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f'off by {error:.2g} relative'


def build(config, changes={}):
    """The model of a config on the meta device, and its optimizer."""
    cfg = Config.fromfile(f'configs/{config}.py')
    cfg.merge_from_dict(changes)
    if 'teacher' in cfg.model:
        cfg.model.teacher.checkpoint = 'random'
    else:
        cfg.model.backbone.init_cfg = None
    with torch.device('meta'), LinspaceOnCPU(), SCOPE('mmpretrain'):
        model = MODELS.build(cfg.model)
    wrapper = dict(cfg.optim_wrapper)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=wrapper.pop('constructor'),
            paramwise_cfg=wrapper.pop('paramwise_cfg', None),
            optim_wrapper_cfg=wrapper))
    return cfg, model, constructor(model)
