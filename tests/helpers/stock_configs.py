"""Configs as mmseg, mmdet and mmpretrain ship them: twenty of each."""
from importlib import import_module
from pathlib import Path

from mmengine.config import Config

from mmfd.hosts import mmcv_ops

mmcv_ops.install()  # before mmdet is imported
STOCK = dict(
    mmseg='''
        stdc/stdc1_4xb12-80k_cityscapes-512x1024
        beit/beit-base_upernet_8xb2-160k_ade20k-640x640
        bisenetv1/bisenetv1_r101-d32-in1k-pre_4xb4-160k_coco-stuff164k-512x512
        encnet/encnet_r101-d8_4xb2-40k_cityscapes-512x1024
        mask2former/mask2former_r101_8xb2-160k_ade20k-512x512
        maskformer/maskformer_r101-d32_8xb2-160k_ade20k-512x512
        unet/unet-s5-d16_deeplabv3_4xb4-40k_drive-64x64
        unet/unet-s5-d16_fcn_4xb4-160k_hsidrive-192x384
        pidnet/pidnet-l_2xb6-120k_1024x1024-cityscapes
        point_rend/pointrend_r101_4xb2-80k_cityscapes-512x1024
        ocrnet/ocrnet_hr18_4xb2-160k_cityscapes-512x1024
        san/san-vit-b16_coco-stuff164k-640x640
        segmenter/segmenter_vit-b_mask_8xb1-160k_ade20k-512x512
        knet/knet-s3_r50-d8_deeplabv3_8xb2-adamw-80k_ade20k-512x512
        icnet/icnet_r101-d8-in1k-pre_4xb2-160k_cityscapes-832x832
        swin/swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256
        bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024
        ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024
        segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024
        vpd/vpd_sd_4xb8-25k_nyu-480x480''',
    mmdet='''
        mask2former/mask2former_r50_8xb2-lsj-50e_coco
        mask2former/mask2former_r101_8xb2-lsj-50e_coco-panoptic
        panoptic_fpn/panoptic-fpn_r101_fpn_1x_coco
        htc/htc_r50_fpn_1x_coco
        cascade_rcnn/cascade-mask-rcnn_r101-caffe_fpn_1x_coco
        scnet/scnet_r101_fpn_20e_coco
        grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco
        glip/glip_atss_swin-l_fpn_dyhead_16xb2_ms-2x_funtune_coco
        faster_rcnn/faster-rcnn_r50_fpn_fcos-rpn_1x_coco
        faster_rcnn/faster-rcnn_r50-caffe_fpn_ms-1x_coco-person
        crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman
        queryinst/queryinst_r101_fpn_300-proposals_crop-ms-480-800-3x_coco
        seesaw_loss/cascade-mask-rcnn_r101_fpn_seesaw-loss-normed-mask_random-ms-2x_lvis-v1
        openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages-challenge
        pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712
        yolact/yolact_r101_1xb8-55e_coco
        yolox/yolox_l_8xb8-300e_coco
        soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.01-coco
        qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base
        dino/dino-4scale_r50_8xb2-12e_coco''',
    mmpretrain='''
        arcface/resnet50-arcface_8xb32_inshop
        beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k
        beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k
        conformer/conformer-base-p16_8xb128_in1k
        csra/resnet101-csra_1xb16_voc07-448px
        deit/deit-base-distilled_16xb32_in1k-384px
        efficientformer/efficientformer-l1_8xb128_in1k
        inception_v3/inception-v3_8xb32_in1k
        lenet/lenet5_mnist
        levit/levit-128_8xb256_in1k
        mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k
        mae/mae_hivit-base-p16_8xb512-amp-coslr-1600e_in1k
        mixmim/benchmarks/mixmim-base_8xb128-coslr-100e_in1k
        resnet/resnet101_8xb16_cifar10
        resnet/resnet50_8xb16_cifar100
        swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px
        swin_transformer/swin-base_16xb64_in1k-384px
        tinyvit/tinyvit-11m-distill_8xb256_in1k
        vgg/vgg11_8xb32_in1k
        vision_transformer/vit-base-p16_32xb128-mae_in1k''')


def names(library):
    """The names of a library's configs, without their suffix."""
    return STOCK[library].split()


def load(library, name):
    """A config of a library, by its name in the folder of configs."""
    package = Path(import_module(library).__file__).parent
    return Config.fromfile(package / '.mim/configs' / f'{name}.py')


def metainfo(library, cfg, loop='train'):
    """What the data set of a loop says of its classes; no file is read."""
    dataset = (cfg.get(f'{loop}_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset.get('dataset') or dataset['datasets'][0]
    kind = dataset.get('type')
    if isinstance(kind, str):
        import_module(f'{library}.datasets')
        kind = import_module(f'{library}.registry').DATASETS.get(kind)
    return {**(kind.METAINFO if kind else {}), **dataset.get('metainfo', {})}
