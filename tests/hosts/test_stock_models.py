"""Stock detectors compute a gradient by the stand-ins, as if on a GPU.

mmdet and mmcv call some compiled ops for tensors of CUDA alone, so here all
tensors say that they are. Images are of noise, weights random.
"""
import pytest
import torch
from helpers import stock_configs
from mmcv.ops import multi_scale_deform_attn
from mmdet.models import detectors  # noqa: F401, registers them
from mmdet.testing import demo_mm_inputs
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope

TRAINED = '''
    atss/atss_r50_fpn_1x_coco
    autoassign/autoassign_r50-caffe_fpn_1x_coco
    cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco
    centernet/centernet-update_r50-caffe_fpn_ms-1x_coco
    condinst/condinst_r50_fpn_ms-poly-90k_coco_instance
    cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco
    dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco
    dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco
    ddod/ddod_r50_fpn_1x_coco
    deformable_detr/deformable-detr_r50_16xb2-50e_coco
    detr/detr_r50_8xb2-150e_coco
    dino/dino-4scale_r50_8xb2-12e_coco
    faster_rcnn/faster-rcnn_r50_fpn_1x_coco
    fcos/fcos_r50-caffe_fpn_gn-head_1x_coco
    foveabox/fovea_r50_fpn_gn-head-align_4xb4-2x_coco
    gfl/gfl_r50_fpn_1x_coco
    guided_anchoring/ga-faster-rcnn_r50_fpn_1x_coco
    mask2former/mask2former_r50_8xb2-lsj-50e_coco
    mask_rcnn/mask-rcnn_r50_fpn_1x_coco
    paa/paa_r50_fpn_1x_coco
    pisa/faster-rcnn_r50_fpn_pisa_1x_coco
    point_rend/point-rend_r50-caffe_fpn_ms-1x_coco
    queryinst/queryinst_r50_fpn_1x_coco
    reppoints/reppoints-moment_r50_fpn_1x_coco
    retinanet/retinanet_r50_fpn_1x_coco
    rtmdet/rtmdet-ins_tiny_8xb32-300e_coco
    solov2/solov2-light_r50-dcn_fpn_ms-3x_coco
    sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco
    tood/tood_r50_fpn_1x_coco
    vfnet/vfnet_r50_fpn_1x_coco
    yolof/yolof_r50-c5_8xb8-1x_coco'''.split()
SIDES = {'dino/dino-4scale_r50_8xb2-12e_coco': 256}  # for its 900 queries
REFUSED = dict([  # name -> the op that torchvision has not
    ('dyhead/atss_r50_fpn_dyhead_1x_coco', 'modulated_deform_conv_forward'),
    ('carafe/faster-rcnn_r50_fpn-carafe_1x_coco', 'carafe'),
])


@pytest.fixture(autouse=True)
def as_on_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')  # the log names it
    monkeypatch.setattr(
        torch.Tensor, 'is_cuda', property(lambda _: True), raising=False)
    monkeypatch.setattr(multi_scale_deform_attn, 'IS_CUDA_AVAILABLE', True)


def gradients(name):
    """The gradients of a stock detector on two small images."""
    cfg = stock_configs.load('mmdet', name).model
    cfg.backbone.pop('init_cfg', None)
    side = SIDES.get(name, 128)
    MessageHub.get_current_instance().update_info('epoch', 0)  # as a Runner
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg).train()
        model.init_weights()  # some are of memory as it happens to be
        data = model.data_preprocessor(
            demo_mm_inputs(2, (3, side, side), [2, 3], with_mask=True), True)
        losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.full
@pytest.mark.parametrize('name', TRAINED)
def test_stock_detector_trains(name):
    if name.startswith('paa/'):
        pytest.importorskip('sklearn', reason='PAA needs scikit-learn')
    found = gradients(name)
    assert len(found) > 20 and all(grad.isfinite().all() for grad in found)


@pytest.mark.full
@pytest.mark.parametrize('name', REFUSED)
def test_detector_of_another_op_says_which(name):
    with pytest.raises(
            NotImplementedError,
            match=f'{REFUSED[name]}.* is a '
            'compiled op of mmcv that mmfd has no stand-in for'):
        gradients(name)
