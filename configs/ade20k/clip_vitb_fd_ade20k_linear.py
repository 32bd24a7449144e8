"""A linear layer on the frozen CLIP ViT-B/16 FD student, on ADE20K.

A quick look, 20,000 iterations at batch 16; the paper has no such row.

    tools/dist_train.sh configs/ade20k/clip_vitb_fd_ade20k_linear.py 8
"""
_base_ = [
    '../_base_/linear_ade20k.py',
    '../_base_/students/vitb16_dense.py',
]

source = 'python tools/train.py configs/fd/clip_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        _delete_=True,
        drop_path_rate=0.,
        final_norm=True,
        frozen_stages=12,
        out_indices=[11],
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitb_fd/epoch_300.pth',
            prefix='backbone.')))
