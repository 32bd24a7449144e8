"""UperNet on ADE20K with Swin V2-G: crops of 896 pixels, as the paper says.

All else is assumed: lr 4e-5 with layer decay 0.95 for 160,000 iterations at
batch 16, and windows of 14 tokens as in FD.
"""
_base_ = 'upernet_swinb.py'

crop_size, scale = (896, 896), (3584, 896)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(in_channels=[512, 1024, 2048, 4096]),
    auxiliary_head=dict(in_channels=2048),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(597, 597)))
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = scale
train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.95),
    optimizer=dict(
        type='AdamW', lr=4e-5, betas=(0.9, 0.999), weight_decay=0.05))
