"""Student positions: rotary

Not in the paper: its students have a relative bias or absolute positions.
The student is a ViT-B/16 of timm with rotary positions of rows and columns in
queries and keys, and no relative bias. It is as wide and deep, with the same
layer scale; its weights begin as in timm, and its keys have a bias, so more
than one thing differs.

100 epochs at batch 2048, 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/student_rotary.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmfd.TimmNetwork',
        name='vit_base_patch16_rope_224',
        img_size=224,
        drop_path_rate=0.1,
        model_args=dict(init_values=0.1)))
