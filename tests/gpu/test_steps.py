"""Training steps on the null device: kernels chosen, waits, devices.

Small networks have the layers and biases of the large ones; `--full` counts
the recipes themselves.
"""
import pytest
from helpers import gpu_steps, models
from mmengine.config import Config

from mmfd.planning.plan import Plan

CLASSIFIER = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[127.5] * 3,
        std=[64.] * 3,
        num_classes=7),
    backbone=models.downstream(),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=7,
        in_channels=48,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)),
    train_cfg=dict(augments=[
        dict(type='mmpretrain.Mixup', alpha=0.8),
        dict(type='mmpretrain.CutMix', alpha=1.0),
    ]))
CASES = dict(
    fd=dict(config=models.distillation(), side=32),
    fd_of_a_swin=dict(
        config=models.distillation(
            models.esvit_teacher(),
            backbone=models.swin_student(),
            neck=dict(
                type='mmfd.ProjectionNeck', in_channels=96, out_channels=64)),
        side=64),
    fine_tuning=dict(config=CLASSIFIER, side=32),
    any_size=dict(
        config=dict(
            CLASSIFIER,
            backbone=dict(
                models.downstream(),
                out_type='featmap',
                window_size=3,
                global_blocks=[1]),
            neck=dict(type='mmpretrain.GlobalAveragePooling')),
        side=56))
BLOCKS = dict(fd=3 + 3, fd_of_a_swin=4 + 4, fine_tuning=3, any_size=3)

PLANNED = 'fd', 'fd_of_a_swin', 'fine_tuning'


@pytest.fixture(scope='module')
def did(on_null_device):
    """Name of a case -> facts in bf16; (name, 'plan') -> its plan."""
    cases = {name: dict(case, batch=8) for name, case in CASES.items()}
    cases |= {(name, 'plan'): dict(cases[name], plan=True) for name in PLANNED}
    return dict(zip(cases, on_null_device(*cases.values())))


@pytest.mark.parametrize('name', CASES)
def test_every_attention_is_fused(did, name):
    assert (did[name]['fused'], did[name]['math']) == (BLOCKS[name], 0)


@pytest.mark.parametrize('name', CASES)
def test_no_step_waits_for_the_gpu(did, name):
    assert did[name]['waits'] == 0 and not did[name]['waits_at']


@pytest.mark.parametrize('name', CASES)
def test_all_weights_are_on_the_gpu_in_fp32(did, name):
    assert did[name]['off_device'] == []
    assert did[name]['dtypes'] == ['torch.float32']


def test_pixels_alone_are_copied_for_a_distillation(did):
    assert did['fd']['to_device'] == 1


@pytest.mark.parametrize('name', PLANNED)
def test_a_plan_is_the_same_with_and_without_a_gpu(did, name):
    here = gpu_steps.planned(**CASES[name], batch=8)
    assert did[name, 'plan'] == here


# --- the recipes ---

GIB = 2**30
FD, SWIN = 'configs/fd/clip_vitb_fd.py', 'configs/fd/esvit_swinb_fd.py'
VITB = 'configs/classification/clip_vitb_fd_in1k.py'
VITL = 'configs/classification/clip_vitl336_fd_in1k.py'
UPERNET = 'configs/ade20k/clip_vitb_fd_ade20k.py'


@pytest.mark.full
@pytest.mark.parametrize('config, batch, blocks, peak', [
    (FD, 128, 12 + 12, 7.5),
    (SWIN, 128, 24 + 24, 16),
    (VITB, 128, 12, 6.5),
    (VITL, 16, 24, 9.2),
])
def test_recipe_is_fused_without_waits_and_in_bounds(on_null_device, config,
                                                     batch, blocks, peak):
    facts, = on_null_device(dict(config=config, batch=batch))
    assert (facts['fused'], facts['math']) == (blocks, 0)
    assert facts['waits_at'] == {} and facts['waits'] == 0
    assert facts['peak'] < peak * GIB


@pytest.mark.full
def test_whole_blocks_are_fewer_kernels(on_null_device):
    """772 of them are the patch embeddings, which cuDNN would do in six."""
    facts, = on_null_device(dict(config=FD, batch=128, compiled=True))
    assert facts['fused'] == 12 + 12 and facts['waits'] == 0
    assert facts['launches'] <= 1750 and facts['peak'] < 11 * GIB


@pytest.mark.full
def test_gradients_of_biases_of_each_image_hardly_count(on_null_device):
    """So no kernel of ours sums them over the batch."""
    whole = dict(config=FD, batch=128)
    facts, fixed = on_null_device(whole, whole | dict(fixed='bias_table'))
    assert facts['peak'] / fixed['peak'] < 1.02
    assert 1 < facts['launches'] / fixed['launches'] < 1.05


@pytest.mark.full
def test_a_segmentor_waits_for_its_logged_accuracy_alone(on_null_device):
    facts, = on_null_device(dict(config=UPERNET, batch=2))
    assert (facts['fused'], facts['math']) == (12, 0)
    assert [*facts['waits_at']] == ['losses/accuracy.py:accuracy']


@pytest.mark.full
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_other_precisions_are_fused_too(on_null_device, dtype):
    cases = [dict(config=c, batch=8, dtype=dtype) for c in (FD, VITB)]
    assert [f['math'] for f in on_null_device(*cases)] == [0, 0]


SWINV2 = """
_base_ = '{root}/configs/{leaf}.py'
widths = [8, 16, 32, 64]
norm = dict(norm_cfg=dict(type='BN'))
model_wrapper_cfg = None
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=8, depths=[2, 2, 6, 2],
            num_heads=[1, 2, 4, 8], extra_norm_every_n_blocks=6),
        with_cp=False, drop_path_rate=0.))
"""
UPERNET_HEADS = """
model.update(
    decode_head=dict(
        in_channels=widths, channels=32, dropout_ratio=0., **norm),
    auxiliary_head=dict(
        in_channels=32, channels=32, dropout_ratio=0., **norm))
"""
REGION_HEADS = """
fpn = dict(type='FPN', in_channels=widths, out_channels=16, num_outs=5)
extractor = dict(out_channels=16)
model.update(
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=extractor, mask_roi_extractor=extractor))
train_dataloader = dict(dataset=dict(
    _delete_=True, type='CocoDataset',
    pipeline=[dict(type='Resize', scale=(512, 512))]))
"""
MASK_RCNN_HEADS = REGION_HEADS + """
model['neck'] = fpn
model['roi_head'].update(
    bbox_head=dict(in_channels=16, fc_out_channels=32),
    mask_head=dict(in_channels=16, conv_out_channels=16))
_base_.model.train_cfg.rcnn.sampler.num = 64
"""
HTC_HEADS = REGION_HEADS + """
model['backbone']['img_size'] = 512
model['neck'] = [
    dict(type='mmfd.GlobalAttention', channels=64, num_heads=2), fpn]
for head in _base_.model.roi_head.bbox_head:
    head.update(in_channels=16, fc_out_channels=32)
for head in _base_.model.roi_head.mask_head:
    head.update(in_channels=16, conv_out_channels=16)
for stage in _base_.model.train_cfg.rcnn:
    stage.sampler.num = 64
"""


@pytest.mark.full
@pytest.mark.parametrize('leaf, heads, case', [
    ('ade20k/swinv2g_fd_ade20k', UPERNET_HEADS, dict(batch=2)),
    ('coco/esvit_swinb_fd_mask_rcnn_3x', MASK_RCNN_HEADS,
     dict(batch=2, side=512, values=dict(products=False))),
    ('coco/swinv2g_fd_htc', HTC_HEADS,
     dict(batch=1, side=512, values=dict(products=False))),
])
def test_plan_of_a_dense_model_is_its_peak_on_the_device(
        on_null_device, tmp_path, leaf, heads, case):
    """At about a hundredth of the width, all in fp32.

    Images of a detector have 16 boxes, which is a quarter of 64 samples, so
    that all places for masks are taken.
    """
    path = tmp_path / 'small.py'
    path.write_text(SWINV2.format(root=gpu_steps.ROOT, leaf=leaf) + heads)
    facts, = on_null_device(dict(case, config=str(path), dtype='float32'))
    cfg = Config.fromfile(path)
    cfg.train_dataloader.batch_size = case['batch']
    plan = Plan(cfg, gpus=1)
    memory = {q.name: q.value for q in plan.memory(plan.settings)}
    planned = memory['sum'] - memory['libraries']
    assert planned == pytest.approx(facts['tensors'], rel=0.1)
