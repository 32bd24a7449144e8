"""Boxes and masks of a two-stage detector, over scales and flips."""
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import nn

from mmfd.errors import Refused
from mmfd.hosts.lookup import find
from mmfd.registry import MODELS

# Axes of an image, (..., h, w), that a flip turns round
FLIPPED = dict(horizontal=[-1], vertical=[-2], diagonal=[-2, -1])


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Boxes and masks of a two-stage detector, merged over views of an image.

    The boxes of all views go through one NMS, as in mmdet's `DetTTAModel`.
    The mask of each box that is left is the mean of the probabilities that the
    detector gives it in every view. Of one view alone, both are the
    detector's own.

    Args:
        module (dict | nn.Module): mmdet's detector, with `rpn_head` and
            `roi_head`, whose masks are made by a `mask_head`.
        tta_cfg (dict): `nms`, as of mmcv's `batched_nms`, and `max_per_img`,
            how many boxes of an image are kept.

    Raises:
        Refused: if the detector has no proposals or no masks.
    """

    def __init__(self, module, tta_cfg, data_preprocessor=None):
        super().__init__(module, data_preprocessor)
        self.tta_cfg = tta_cfg
        parts = {name for name, _ in self.module.named_modules()}
        lacking = [
            name for name in ('rpn_head', 'roi_head', 'roi_head.mask_head')
            if name not in parts
        ]
        if lacking:
            raise Refused(
                f'--tta: {type(self.module).__name__} has no {lacking[0]}, '
                'and tta_model.type=mmfd.InstanceTTAModel merges boxes and '
                'masks of two-stage detectors: mmdet.DetTTAModel merges boxes '
                'alone')

    def test_step(self, data):
        """Views of images to one prediction of each image.

        Args:
            data (dict): `inputs` and `data_samples`, each a list over views
                of lists over images.

        Returns:
            list[DetDataSample]: with `pred_instances`, in the pixels of the
            original images.
        """
        views = [
            dict(zip(data, view)) for view in zip(*data.values(), strict=True)
        ]
        if len(views) == 1:
            return self.module.test_step(views[0])
        views = [self._first_look(view) for view in views]
        merged = [
            self._merged(image) for image in zip(*(v.boxes for v in views))
        ]
        if any(len(boxes) for boxes in merged):
            masks = [self._masks(view, merged) for view in views]
            masks = [torch.stack(image).mean(0) for image in zip(*masks)]
        else:
            masks = [None] * len(merged)
        return self._pasted(views[0].samples, merged, masks)

    def merge_preds(self, data_samples_list):
        """The base class asks for it; `test_step` needs maps to merge."""
        raise NotImplementedError

    @property
    def mask_head(self):
        """The head that makes masks; of a cascade, the last."""
        head = self.module.roi_head.mask_head
        return head[-1] if isinstance(head, nn.ModuleList) else head

    def _first_look(self, view):
        """Maps, proposals and boxes of one view of the images."""
        data = self.module.data_preprocessor(view, False)
        samples = data['data_samples']
        flips = [
            FLIPPED[meta['flip_direction']] if meta.get('flip') else []
            for meta in (sample.metainfo for sample in samples)
        ]
        for sample in samples:  # mmdet's heads cannot flip tensors back
            sample.set_metainfo(dict(flip=False))

        def look(inputs, samples, **_):
            maps = self.module.extract_feat(inputs)
            proposals = self.module.rpn_head.predict(
                maps, samples, rescale=False)
            found, _ = self._heads(maps, proposals, samples)
            return View(maps, proposals, samples, flips, found)

        view = self._in_forward(look, **data)
        view.boxes = [
            InstanceData(
                bboxes=_flipped(found.bboxes / _scale(sample, found.bboxes),
                                sample.ori_shape, axes),
                scores=found.scores,
                labels=found.labels)
            for found, sample, axes in zip(view.boxes, samples, flips)
        ]
        return view

    def _masks(self, view, merged):
        """Probabilities (n, C, h, w) of masks in a view: a list of images."""
        boxes = [
            InstanceData(
                bboxes=_flipped(image.bboxes, sample.ori_shape, axes) *
                _scale(sample, image.bboxes),
                scores=image.scores,
                labels=image.labels)
            for image, sample, axes in zip(merged, view.samples, view.flips)
        ]

        def look(inputs, samples, **_):
            return self._heads(view.maps, view.proposals, samples, boxes)

        _, masks = self._in_forward(look, None, view.samples)
        return [mask.flip(axes) for mask, axes in zip(masks, view.flips)]

    def _heads(self, maps, proposals, samples, boxes=None):
        """Boxes in the pixels of a view, and probabilities of their masks.

        Args:
            boxes (list[InstanceData]): in the place of those that the
                detector would find.
        """
        head, masks = self.module.roi_head, []

        def record(mask_preds, results_list, activate_map=False, **_):
            masks.extend(mask if activate_map else mask.sigmoid()
                         for mask in mask_preds)
            return results_list

        given = {} if boxes is None else dict(
            predict_bbox=lambda *_, **__: boxes)
        with _replaced(self.mask_head, predict_by_feat=record):
            with _replaced(head, **given):
                found = head.predict(maps, proposals, samples, rescale=False)
        return found, masks

    def _merged(self, views):
        """The boxes of an image from those of its views."""
        bboxes, scores, labels = (
            torch.cat([view[key] for view in views])
            for key in ('bboxes', 'scores', 'labels'))
        if not len(labels):  # which mmcv's cannot sort
            return InstanceData(bboxes=bboxes, scores=scores, labels=labels)
        kept, indices = find('mmcv.ops:batched_nms')(bboxes, scores, labels,
                                                     self.tta_cfg['nms'])
        best = slice(self.tta_cfg['max_per_img'])
        return InstanceData(
            bboxes=kept[best, :4],
            scores=kept[best, 4],
            labels=labels[indices[best]])

    def _pasted(self, samples, merged, masks):
        """Samples with boxes and the masks that their probabilities make."""
        metas = [
            dict(sample.metainfo, scale_factor=(1., 1.)) for sample in samples
        ]
        found = self.mask_head.predict_by_feat(
            mask_preds=masks,
            results_list=merged,
            batch_img_metas=metas,
            rcnn_test_cfg=self.module.roi_head.test_cfg,
            rescale=True,
            activate_map=True)
        return self.module.add_pred_to_datasample(samples, found)

    def _in_forward(self, predict, inputs, data_samples):
        """What `predict` returns within the detector's own forward.

        Its hooks gather weights and choose precisions.
        """
        with _replaced(self.module, predict=predict):
            return self.module(inputs, data_samples, mode='predict')


@dataclass
class View:
    """One view of the images of a batch, and what was found in it.

    Attributes:
        maps, proposals: of the neck and of `rpn_head`.
        samples (list[DetDataSample]): of the images.
        flips (list[list[int]]): axes that are flipped, of each image.
        boxes (list[InstanceData]): of each image.
    """
    maps: tuple
    proposals: list
    samples: list
    flips: list
    boxes: list


def _scale(sample, boxes):
    """(4, ): pixels of a view for each pixel of the image, of x, y, x, y."""
    return boxes.new_tensor([*sample.scale_factor] * 2)


def _flipped(boxes, size, axes):
    """Boxes (n, 4) of an image (h, w), or of the image flipped."""
    corners = boxes.view(-1, 2, 2).clone()
    for axis in axes:
        of_axis = corners[..., -1 - axis]
        corners[..., -1 - axis] = size[axis] - of_axis.flip(1)
    return corners.view(-1, 4)


@contextmanager
def _replaced(owner, **methods):
    """Within it, methods of one object are others."""
    for name, method in methods.items():
        setattr(owner, name, method)
    try:
        yield
    finally:
        for name in methods:
            delattr(owner, name)
