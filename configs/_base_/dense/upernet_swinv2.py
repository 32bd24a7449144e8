"""UperNet on ADE20K with a Swin V2: 640 pixels, tested at 896.

Recalled of Swin V2 (arXiv 2111.09883): training at 640 pixels in windows of
40, testing at 896 in windows of 56, as the paper of FD has 896 pixels. Ours: a
last stage of half the window, as in pre-training; lr 4e-5 with layer decay
0.95 for 160,000 iterations at batch 16.
"""
_base_ = ['upernet_swinb.py', 'swinv2.py']

crop_size, scale = (640, 640), (2560, 640)
test_size, test_scale = (896, 896), (3584, 896)
maps = dict(
    img_size=640,
    window_size=[40, 40, 40, 20],
    test_window_size=[56, 56, 56, 28],
    with_cp=True)
heads = {
    arch:
    dict(
        decode_head=dict(in_channels=widths),
        auxiliary_head=dict(in_channels=widths[2]))
    for arch, widths in _base_.channels.items()
}
model = dict(
    data_preprocessor=dict(size=crop_size),
    test_cfg=dict(mode='slide', crop_size=test_size, stride=(597, 597)))
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale, test_pipeline[1].scale = scale, test_scale
train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(
    _base_.layerwise,
    _delete_=True,
    paramwise_cfg=dict(layer_decay=0.95),
    optimizer=dict(
        type='AdamW', lr=4e-5, betas=(0.9, 0.999), weight_decay=0.05))
