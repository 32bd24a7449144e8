"""Masks and boxes of several views are the means of what each view gives."""
import copy

import pytest
import torch
from helpers.detectors import detector
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import distributed
from torch.distributed.tensor import DTensor

from mmfd.errors import Refused
from mmfd.training.sharding import FullySharded

NMS = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
SIZE = 48, 64  # of the original image, (h, w)
KINDS = 'standard', 'cascade', 'htc'


def merger(model, **changes):
    return MODELS.build(
        dict(type='mmfd.InstanceTTAModel', module=model, tta_cfg=NMS)
        | changes)


def view(image, scale, direction=None):
    """An image of a size times SIZE, as mmdet's transforms give it."""
    from mmdet.structures import DetDataSample
    image = torch.nn.functional.interpolate(
        image[None], scale_factor=scale, mode='nearest')[0]
    axes = dict(horizontal=[-1], vertical=[-2], diagonal=[-1, -2])
    if direction:
        image = image.flip(axes[direction])
    sample = DetDataSample(
        metainfo=dict(
            img_id=1,
            ori_shape=SIZE,
            img_shape=tuple(image.shape[-2:]),
            scale_factor=(float(scale), float(scale)),
            flip=bool(direction),
            flip_direction=direction))
    return dict(inputs=image, data_samples=sample)


def of_views(*views):
    return {
        key: [[copy.deepcopy(view[key])] for view in views]
        for key in ('inputs', 'data_samples')
    }


@pytest.fixture
def image():
    torch.manual_seed(3)
    return torch.randint(0, 256, (3, *SIZE)).float()


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_one_view_is_the_detectors_own_prediction(kind, image):
    model = detector(kind)
    data = of_views(view(image, 2))
    [alone] = model.test_step({
        k: v[0]
        for k, v in copy.deepcopy(data).items()
    })
    [merged] = merger(model).test_step(data)
    assert len(alone.pred_instances) == 12
    for key in 'bboxes', 'scores', 'labels', 'masks':
        assert torch.equal(merged.pred_instances[key],
                           alone.pred_instances[key])


def probabilities(model, kind, inputs, boxes):
    """Of masks of boxes in the pixels of the inputs, by the heads' parts."""
    heads = model.roi_head
    maps = model.extract_feat(inputs)
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    if kind == 'standard':
        return heads._mask_forward(maps, rois)['mask_preds'].sigmoid()
    if kind == 'htc':
        last = heads._mask_forward(-1, maps, rois, training=False)
        return last['mask_preds'][0].sigmoid()
    return sum(
        heads._mask_forward(stage, maps, rois)['mask_preds'].sigmoid()
        for stage in range(3)) / 3


def flipped(boxes, direction, height, width):
    x1, y1, x2, y2 = boxes.unbind(1)
    if direction in ('horizontal', 'diagonal'):
        x1, x2 = width - x2, width - x1
    if direction in ('vertical', 'diagonal'):
        y1, y2 = height - y2, height - y1
    return torch.stack([x1, y1, x2, y2], 1)


@pytest.mark.parametrize('kind, directions', [
    *((kind, [None, 'horizontal']) for kind in KINDS),
    ('htc', [None, 'horizontal', 'vertical', 'diagonal']),
])
@torch.no_grad()
def test_masks_are_the_mean_over_flips_and_scales(kind, directions, image):
    model = detector(kind)
    views = [
        view(image, scale, direction) for scale in (1, 2)
        for direction in directions
    ]
    [merged] = merger(model).test_step(of_views(*views))
    found = merged.pred_instances
    assert len(found) == 10
    total = 0
    for each in views:
        meta = each['data_samples'].metainfo
        direction, scale = meta['flip_direction'], meta['scale_factor'][0]
        boxes = flipped(found.bboxes, direction, *SIZE) * scale
        inputs = model.data_preprocessor(
            of_views(each) | {
                'inputs': [each['inputs']],
                'data_samples': [copy.deepcopy(each['data_samples'])]
            })['inputs']
        masks = probabilities(model, kind, inputs, boxes)
        if direction in ('horizontal', 'diagonal'):
            masks = masks.flip(-1)
        if direction in ('vertical', 'diagonal'):
            masks = masks.flip(-2)
        total = total + masks / len(views)
    labels = found.labels
    # so that half of the points are inside
    threshold = total[range(10), labels].median().item()
    model.roi_head.test_cfg.mask_thr_binary = threshold
    [merged] = merger(model).test_step(of_views(*views))
    found = merged.pred_instances
    assert torch.equal(found.labels, labels)
    head = model.roi_head.mask_head
    head = head if kind == 'standard' else head[-1]
    [expected] = head.predict_by_feat(
        [total], [InstanceData(bboxes=found.bboxes.clone(), labels=labels)],
        [dict(ori_shape=SIZE, scale_factor=(1., 1.))],
        model.roi_head.test_cfg,
        rescale=True,
        activate_map=True)
    assert 0.01 < expected.masks.float().mean() < 0.99
    assert found.masks.shape == (10, *SIZE)
    assert (found.masks != expected.masks).float().mean() < 1e-3


@torch.no_grad()
def test_boxes_are_those_of_all_views_after_one_suppression(image):
    from torchvision.ops import batched_nms
    model = detector('cascade')
    views = [view(image, 1), view(image, 2, 'horizontal')]
    boxes = []
    for each in views:
        direction = each['data_samples'].flip_direction
        each = copy.deepcopy(each)
        each['data_samples'].set_metainfo(dict(flip=False))
        [alone] = model.test_step({k: [v] for k, v in each.items()})
        alone = alone.pred_instances
        boxes.append((flipped(alone.bboxes, direction,
                              *SIZE), alone.scores, alone.labels))
    boxes, scores, labels = map(torch.cat, zip(*boxes))
    kept = batched_nms(boxes, scores, labels, 0.5)[:10]
    [merged] = merger(model).test_step(of_views(*views))
    found = merged.pred_instances
    torch.testing.assert_close(found.scores, scores[kept])
    assert torch.equal(found.labels, labels[kept])
    torch.testing.assert_close(found.bboxes, boxes[kept], rtol=0, atol=1e-4)


@torch.no_grad()
def test_shards_give_the_same_boxes_and_masks(image, tmp_path):
    model = detector('htc')
    data = of_views(view(image, 1), view(image, 2, 'horizontal'))
    [alone] = merger(model).test_step(copy.deepcopy(data))
    distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    try:
        [found] = FullySharded(merger(model)).eval().test_step(data)
    finally:
        distributed.destroy_process_group()
    assert any(isinstance(p, DTensor) for p in model.parameters())
    for key in 'bboxes', 'scores', 'labels', 'masks':
        torch.testing.assert_close(found.pred_instances[key],
                                   alone.pred_instances[key])


@torch.no_grad()
def test_image_without_a_box_has_no_mask(image):
    model = detector('htc')
    model.roi_head.test_cfg.score_thr = 2.
    [found] = merger(model).test_step(
        of_views(view(image, 1), view(image, 1, 'horizontal')))
    assert found.pred_instances.masks.shape == (0, *SIZE)


@pytest.mark.parametrize('kind, lacking', [
    ('without_masks', 'FasterRCNN has no roi_head.mask_head'),
    ('one_stage', 'RetinaNet has no rpn_head'),
])
def test_detector_without_masks_or_proposals_is_refused(kind, lacking):
    with pytest.raises(Refused, match=f'--tta: {lacking}.*mmdet.DetTTAModel'):
        with DefaultScope.overwrite_default_scope('mmdet'):
            merger(detector(kind))
