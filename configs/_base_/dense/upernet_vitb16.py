"""UperNet on ADE20K with a ViT-B/16, by BEiT's recipe.

The paper names the head and publishes no recipe. Assumed is the one that BEiT
published for a network of this shape (512 pixels, lr 7e-4 at batch 16, layer
decay 0.65), on the stock files of mmseg.
"""
_base_ = [
    'ops.py', 'resumable.py', *[
        f'{__import__("mmseg").__path__[0]}/.mim/configs/_base_/{name}.py'
        for name in ('models/upernet_beit', 'datasets/ade20k',
                     'default_runtime', 'schedules/schedule_160k')
    ]
]

maps = dict(  # of the student or of the teacher
    img_size=512,
    drop_path_rate=0.1,
    final_norm=False,
    out_type='featmap',
    out_indices=[3, 5, 7, 11])
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))
train_dataloader = dict(batch_size=2)  # x 8 GPUs = 16
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.65),
    optimizer=dict(
        type='AdamW', lr=7e-4, betas=(0.9, 0.999), weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin=1500,
        end=160000)
]
default_hooks = dict(checkpoint=_base_.saves)
