"""Fine-tune the CLIP ViT-B/16 FD student on ImageNet-1K: 84.9 % in the paper.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/classification/clip_vitb_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
]

source = 'python tools/train.py configs/fd/clip_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        type='mmfd.StudentViT',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.3,
        layer_scale_init_value=0.1,
        use_rel_pos_bias=True,
        out_type='avg_featmap',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitb_fd/epoch_300.pth',
            prefix='backbone.')))
