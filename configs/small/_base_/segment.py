"""CamVid at small scale: 128 pixels of a street, a small FCN, 40 epochs."""
_base_ = ['schedule.py', 'networks.py']

default_scope = 'mmseg'
data_root = 'data/small/camvid_selection'
grid = dict(_base_.grid, img_size=128, out_type='featmap')  # 16 x 16 tokens
ignored = 11  # the label of pixels of no class
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        _base_.statistics,
        type='SegDataPreProcessor',
        bgr_to_rgb=True,
        size=(128, 128),
        seg_pad_val=ignored,
        test_cfg=dict(size_divisor=8)),
    decode_head=dict(
        type='FCNHead',
        in_channels=128,
        channels=64,
        num_convs=1,
        concat_input=False,
        num_classes=11,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        ignore_index=ignored),
    test_cfg=dict(mode='slide', crop_size=(128, 128), stride=(64, 64)))
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(
        classes=('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign',
                 'fence', 'car', 'pedestrian', 'bicyclist'),
        palette=[[20 * i] * 3 for i in range(11)]),
    img_suffix='.jpg',
    seg_map_suffix='.png',
    ignore_index=ignored)
image, labels, pack = (dict(type='LoadImageFromFile'),
                       dict(type='LoadAnnotations'),
                       dict(type='PackSegInputs'))
size = (256, 192)  # width, height
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        dataset,
        _delete_=True,
        data_prefix=dict(
            img_path='train/images', seg_map_path='train/annotations'),
        pipeline=[
            image, labels,
            dict(
                type='RandomResize',
                scale=size,
                ratio_range=(0.75, 1.5),
                keep_ratio=True),
            dict(type='RandomCrop', crop_size=(128, 128), cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5), pack
        ]))
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        dataset,
        _delete_=True,
        data_prefix=dict(
            img_path='val/images', seg_map_path='val/annotations'),
        pipeline=[
            image,
            dict(type='Resize', scale=size, keep_ratio=False), labels, pack
        ]))
test_dataloader = val_dataloader
train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=40, val_interval=40)
val_evaluator = test_evaluator = dict(
    type='IoUMetric', ignore_index=ignored, iou_metrics=['mIoU'])
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
default_hooks = dict(logger=dict(interval=22), throughput=dict(interval=22))
log_processor = dict(window_size=22)
