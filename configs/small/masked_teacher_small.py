"""Masked images: mmpretrain's MAE, 12 of 16 patches hidden, 40 epochs.

    python tools/train.py configs/small/masked_teacher_small.py
"""
_base_ = '_base_/pretraining.py'

model = dict(
    type='mmpretrain.MAE',
    backbone=dict(type='mmpretrain.MAEViT', mask_ratio=0.75),
    neck=dict(
        type='mmpretrain.MAEPretrainDecoder',
        num_patches=16,
        patch_size=8,
        embed_dim=128,
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=4),
    head=dict(
        type='mmpretrain.MAEPretrainHead',
        norm_pix=True,
        patch_size=8,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2')))
