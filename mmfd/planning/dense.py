"""What segmentors and detectors compute, as far as shapes alone decide it.

Proposals, NMS and losses depend on numbers, which a count has not. Heads of
regions see as many as training samples. The cross-entropy of a segmentor is
there, since its logits are as large as the images, and so are the overlaps of
all anchors with the boxes of an image.
"""
import torch
import torch.nn.functional as F
from torch import nn

from mmfd.errors import Refused
from mmfd.hosts.config_tree import dicts

# Heads that see all maps: of segmentors, of detectors
OF_PIXELS = 'decode_head', 'auxiliary_head'
OF_ANCHORS = 'rpn_head', 'bbox_head'
OF_REGIONS = 'roi_head',
BOXES = 16  # of an image, assumed; those of COCO have 7


def is_dense(model):
    """Whether a model has heads that see maps: a segmentor or a detector."""
    names = {name for name, _ in model.named_children()}
    return not names.isdisjoint(OF_PIXELS + OF_ANCHORS + OF_REGIONS)


def is_segmentor(model):
    """Whether a model has a head that sees pixels."""
    return any(name in OF_PIXELS for name, _ in model.named_children())


def outputs(model, images):
    """The outputs of all heads, one after another.

    Args:
        model (nn.Module): of mmseg or mmdet.
        images (Tensor): (B, 3, H, W).
    """
    maps = model.extract_feat(images)
    parts = dict(model.named_children())
    labels = images.new_zeros(images[:, 0].shape, dtype=torch.long)
    for name in OF_PIXELS:
        if name in parts:
            logits = F.interpolate(
                parts[name](maps), images.shape[2:], mode='bilinear')
            yield F.cross_entropy(logits, labels, reduction='none')
    for name in OF_ANCHORS:
        if name in parts:
            scores, *others = parts[name](maps)
            _assign(parts[name], scores)
            yield scores, others
    if 'roi_head' in parts:
        yield from _of_regions(parts['roi_head'], maps)
    yield maps


def _assign(head, scores):
    """Compute the overlaps of the anchors with the boxes of one image.

    Of a head that assigns boxes by them; in training, as nothing else does.

    Args:
        scores (list[Tensor]): of the head, one (B, C, h, w) for each level.
    """
    assigner = vars(head).get('assigner')
    if head.training and 'iou_calculator' in vars(assigner or head):
        levels = zip(scores, head.prior_generator.num_base_priors)
        anchors = sum(anchors * level[0, 0].numel()
                      for level, anchors in levels)
        assigner.iou_calculator(
            *(scores[0].new_zeros(count, 4, dtype=torch.float)
              for count in (BOXES, anchors)))


def _of_regions(roi_head, maps):
    """Outputs of the heads of boxes and of masks, stage by stage."""
    parts = dict(roi_head.named_children())
    settings = roi_head.train_cfg
    settings = settings if isinstance(settings, list) else [settings]
    for kind in 'bbox', 'mask':
        heads = _stages(parts.get(f'{kind}_head'))
        extractors = _stages(parts.get(f'{kind}_roi_extractor'))
        for head, extractor, setting in zip(heads, extractors, settings):
            sampler = setting.sampler
            share = sampler.pos_fraction if kind == 'mask' else 1
            regions = round(len(maps[0]) * sampler.num * share)
            yield head(maps[0].new_zeros(
                regions, extractor.out_channels,
                *extractor.roi_layers[0].output_size).requires_grad_())


def _stages(part):
    return part if isinstance(part, nn.ModuleList) else [part] * bool(part)


def largest_image(cfg):
    """(height, width) in pixels of the largest image of --tta.

    Of a segmentor that sees images in windows, a window. An image is as large
    as the scale that it is resized to.

    Args:
        cfg (Config): of mmseg or mmdet.

    Raises:
        Refused: if the config does not say.
    """
    test = cfg.model.get('test_cfg') or {}
    if test.get('mode') == 'slide':
        return tuple(test.crop_size)
    pipelines = cfg.get('tta_pipeline'), cfg.test_dataloader.dataset.pipeline
    scales = [step.scale for _, step in dicts(pipelines) if step.get('scale')]
    if not scales:
        raise Refused('the size of the images of the test is not known: '
                      'neither tta_pipeline nor the pipeline of '
                      'test_dataloader has a scale')
    long, short = max((sorted(scale, reverse=True) for scale in scales),
                      key=lambda scale: scale[0] * scale[1])
    return short, long
