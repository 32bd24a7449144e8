"""DeiT ViT-B/16 -> FD, the short form, for the one teacher that has logits.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images. The official 100
epochs are CLIP's; DeiT has the same here, so that `ablations/target_logits.py`
can be compared with it.

    python tools/train.py configs/fd/deit_vitb_fd_100e.py
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/deit_vitb16.py',
    '../_base_/students/vitb16.py',
    '../_base_/data/imagenet_fd_100e.py',
    '../_base_/schedules/fd_100e.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=dict(_base_.student, drop_path_rate=0.1))
classifier = dict(  # in the teacher's file, to distil logits
    checkpoint=_base_.teacher.checkpoint,
    in_channels=768,
    num_classes=1000)
