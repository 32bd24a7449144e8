"""Images with text: a small CLIP on captions of drawn shapes, 40 epochs.

    export PYTHONPATH=evidence
    python tools/train.py configs/small/captions_teacher_small.py

Neither flips nor narrow crops: a caption says where the shape is.
"""
_base_ = '_base_/pretraining.py'

drawn = 'data/small/drawn'
model = dict(
    type='captions.CaptionContrast',
    width=128,
    backbone=dict(out_type='cls_token'))
train_dataloader = dict(
    batch_size=256,
    dataset=dict(
        data_root=f'{drawn}/images/imagenet',
        pipeline=[
            dict(type='mmfd.LoadImage'),
            dict(_base_.crop, crop_ratio_range=(0.7, 1.0)),
            dict(type='captions.AddWords', captions=f'{drawn}/captions.json'),
            dict(type='mmpretrain.PackInputs', meta_keys=('words', )),
        ]))
