"""Segmentors and detectors are counted by the shapes of what they compute."""
import pytest
from helpers.detectors import config
from helpers.models import distillation
from mmengine.config import Config, ConfigDict

from mmfd.errors import Refused
from mmfd.planning.count import count_step, count_test
from mmfd.planning.dense import BOXES, largest_image
from mmfd.planning.plan import Plan, advise_test

TRAINED = dict(
    default_scope='mmdet',
    train_cfg=dict(max_epochs=3),
    train_dataloader=dict(
        batch_size=2,
        dataset=dict(
            type='CocoDataset', pipeline=[dict(scale=[(64, 32), (64, 48)])])),
    test_dataloader=dict(dataset=dict(pipeline=[dict(scale=(96, 64))])),
    optim_wrapper=dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4)),
    default_hooks=dict())


def flops(regions):
    model = config('standard')
    model.train_cfg.rcnn.sampler.update(num=regions, pos_fraction=0.25)
    return count_step(model, 2, 64, 'cpu', scope='mmdet').student_flops


def test_heads_of_regions_see_as_many_as_training_samples():
    boxes = 2 * (16 * 7 * 7 * 16 + 16 * 16 + 16 * 4 + 16 * 12)
    masks = 2 * (9 * 16 * 16 * 14**2 + 4 * 16 * 16 * 14**2 + 16 * 3 * 28**2)
    more = 2 * 40  # of two images
    assert flops(56) - flops(16) == more * boxes + more // 4 * masks


def test_plan_of_a_detector_has_its_numbers():
    cfg = Config(dict(TRAINED, model=config('htc')))
    plan = Plan(cfg, gpus=2)
    known = {q.name: q.value for q in plan.totals(throughput=10)}
    assert known['images'] == 3 * 117_266
    assert known['time'] == pytest.approx(3 * 117_266 / 10 / 2)
    assert {q.name
            for q in plan.parameters()
            } == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    *_, image, total = plan.test()
    assert image.note == 'of an image of 64 x 96 pixels'
    gib = total.value / 2**30
    assert 'fits in' in advise_test([image, total], 1.01 * gib)
    message = advise_test([image, total], 0.99 * gib)
    assert 'does not fit in' in message and 'tta_pipeline' in message


def test_tables_of_positions_are_part_of_the_memory():
    model = config('htc', window_size=16, img_size=128)
    plan = Plan(Config(dict(TRAINED, model=model)), gpus=1)
    memory = {q.name: q.value for q in plan.memory(plan.settings)}
    # an index for each pair of tokens, of one block in each stage
    index = 8 * sum(window**4 for window in (16, 16, 8, 4))
    assert 0 < memory['buffers'] - index < 2**15
    assert memory.pop('sum') == sum(memory.values())


def test_overlaps_of_all_anchors_with_boxes_are_there_for_a_moment():
    count = count_step(
        config('standard'), 1, 512, 'cuda', backward=False, scope='mmdet')
    anchors = 3 * sum((512 // stride)**2 for stride in (4, 8, 16, 32, 64))
    corners = 2 * 4 * BOXES * anchors  # bytes of a corner of all pairs
    assert 4 < (count.peak_bytes - count.saved_bytes) / corners < 6


def test_what_is_counted_is_told_by_the_heads_and_not_by_the_scope():
    ours = distillation()
    assert count_step(
        ours, 2, 32, 'cpu', scope='mmdet') == count_step(ours, 2, 32, 'cpu')

    def flops(scope, classes):
        segmentor = dict(
            type='mmseg.EncoderDecoder',
            backbone=dict(type='mmseg.MobileNetV2', out_indices=(0, 1)),
            decode_head=dict(
                type='mmseg.FCNHead',
                in_channels=16,
                channels=16,
                num_convs=1,
                concat_input=False,
                in_index=0,
                num_classes=classes))
        return count_step(segmentor, 2, 64, 'cpu', scope=scope).student_flops

    assert flops('mmpretrain', 5) == flops('mmseg', 5)
    assert flops('mmpretrain', 6) - flops('mmpretrain',
                                          5) == 2 * 2 * 32 * 32 * 16


def test_a_test_in_larger_windows_needs_more():
    small, large = (
        count_test(
            config('htc', test_window_size=window), (128, 128), 'cuda', None,
            'mmdet') for window in (4, 32))
    # the bias of a window of 32 alone is 32 ** 4 numbers
    assert large - small > 3 * 32**4


def test_largest_image_is_that_of_the_scales_or_a_window():
    scales = [dict(scale=(64, 32)), dict(scale=(60, 80))]
    cfg = ConfigDict(
        model=dict(),
        tta_pipeline=[dict(transforms=[scales, [dict()]])],
        test_dataloader=dict(dataset=dict(pipeline=[dict(scale=(70, 50))])))
    assert largest_image(cfg) == (60, 80)
    cfg.model.test_cfg = dict(mode='slide', crop_size=(40, 40))
    assert largest_image(cfg) == (40, 40)
    cfg.model.test_cfg = dict(mode='whole')
    cfg.tta_pipeline = cfg.test_dataloader.dataset.pipeline = []
    with pytest.raises(Refused, match='neither tta_pipeline nor'):
        largest_image(cfg)
