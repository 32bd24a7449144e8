"""mmdet's two-stage detectors at a tiny width, with masks."""
from importlib.util import find_spec
from pathlib import Path

import torch
from helpers.models import randomise, swin_arch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmfd.hosts import mmcv_ops

mmcv_ops.install()  # before mmdet is imported
STOCK = dict(
    standard='_base_/models/mask-rcnn_r50_fpn.py',
    cascade='_base_/models/cascade-mask-rcnn_r50_fpn.py',
    htc='htc/htc-without-semantic_r50_fpn_1x_coco.py',
    without_masks='_base_/models/faster-rcnn_r50_fpn.py',
    one_stage='_base_/models/retinanet_r50_fpn.py')


def small(part, **numbers):
    """Set numbers wherever a part of a config has them."""
    if isinstance(part, list):
        for each in part:
            small(each, **numbers)
    elif isinstance(part, dict):
        part.update({k: v for k, v in numbers.items() if k in part})
        for value in part.values():
            small(value, **numbers)


def config(kind, **backbone):
    """The model of one of mmdet's files, on a Swin of 8 channels."""
    folder = Path(find_spec('mmdet').origin).parent
    model = Config.fromfile(folder / '.mim/configs' / STOCK[kind]).model
    model.backbone = dict(
        dict(
            type='mmfd.StudentSwin',
            arch=swin_arch(8, (1, 1, 1, 1), (1, 1, 1, 1)),
            img_size=64,
            window_size=4,
            pad_small_map=True,
            drop_path_rate=0.,
            out_indices=(0, 1, 2, 3)), **backbone)
    for key in 'rpn_head', 'roi_head', 'bbox_head':
        small(
            model.get(key),
            in_channels=16,
            feat_channels=16,
            conv_out_channels=16,
            out_channels=16,
            fc_out_channels=16,
            num_convs=1,
            num_classes=3)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    small(model.test_cfg, nms_pre=40, max_per_img=12, score_thr=0.)
    small(model.train_cfg, nms_pre=40, max_per_img=12, num=16)
    return model


def detector(kind, **backbone):
    """It, built with weights that differ, in evaluation."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config(kind, **backbone))
    torch.manual_seed(0)
    model.init_weights()
    for name, param in model.named_parameters():
        if 'mask_head' in name and 'weight' in name:
            torch.nn.init.normal_(param, std=0.3)
    return randomise(model)
