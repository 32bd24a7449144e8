"""HTC++ on COCO with a Swin V2, on mmdet's stock HTC without semantic maps.

Published (Swin, arXiv 2103.14030, A2.2): HTC with InstaBoost, shorter sides of
400 to 1400 pixels, 72 epochs with steps at 63 and 69, soft-NMS and one global
self-attention layer after the last stage. Recalled of Swin V2 (arXiv
2111.09883): images of 1536 pixels in windows of 32, tested in windows of 48.
Ours: batch 16, AdamW of lr 1e-4 with layer decay 0.9, a last stage of half the
window, as in pre-training, so that windows divide 1536 pixels; the scales of
--tta. InstaBoost needs `pip install instaboostfast`, which compiles nothing.
"""
_base_ = [
    'ops.py', 'swin.py', 'swinv2.py', 'tta.py', 'resumable.py',
    f'{__import__("mmdet").__path__[0]}/.mim/configs/htc/'
    'htc-without-semantic_r50_fpn_1x_coco.py'
]

longest = 1536  # side in pixels; Swin's was 1600
maps = dict(
    img_size=longest,
    window_size=[32, 32, 32, 16],
    test_window_size=[48, 48, 48, 24],
    with_cp=True)
necks = {
    arch: [
        dict(
            type='mmfd.GlobalAttention',
            channels=widths[-1],
            num_heads=widths[-1] // 32),
        dict(type='FPN', in_channels=widths, out_channels=256, num_outs=5)
    ]
    for arch, widths in _base_.channels.items()
}
model = dict(test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms'))))
resized = [
    dict(
        type='RandomResize',
        scale=[(longest, 400), (longest, 1400)],
        keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='InstaBoost'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True), *resized
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (longest, longest)
train_dataloader = dict(
    batch_size=1,  # x 16 GPUs
    sampler=dict(_base_.order, _delete_=True),
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
tta_model = dict(tta_cfg=dict(nms=dict(type='soft_nms')))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(longest, side), keep_ratio=True)
    for side in range(400, 1401, 200)
]
epochs = 72
train_cfg = dict(_base_.loop, max_epochs=epochs)
default_hooks = dict(checkpoint=_base_.saves)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=500),
    dict(type='MultiStepLR', end=epochs, milestones=[63, 69], gamma=0.1)
]
optim_wrapper = dict(_base_.layerwise, _delete_=True)
# A detector of Objects365, given by load_from, has all of COCO's classes
custom_hooks = [
    dict(
        type='mmfd.ClassesByNameHook',
        same={
            'bird': 'Wild Bird',
            'bowl': 'Bowl/Basin',
            'dining table': 'Dinning Table',
            'hair drier': 'Hair Dryer',
            'handbag': 'Handbag/Satchel',
            'orange': 'Orange/Tangerine',
            'skis': 'Skiboard',
            'sports ball': 'Other Balls',
            'suitcase': 'Luggage',
            'teddy bear': 'Stuffed Toy',
            'tv': 'Moniter/TV'
        })
]
