"""Target: logits

Table 3 of the paper: worse than the whole feature map, which needs no
classifier. CLIP and DINO have none, so the teacher is DeiT here, to be
compared with `deit_vitb_fd_100e.py`. The student predicts from its cls token,
as DeiT does. That the logits are whitened is assumed.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/target_logits.py
"""
_base_ = '../deit_vitb_fd_100e.py'

model = dict(
    teacher=dict(neck=dict(type='mmfd.LogitsNeck', **_base_.classifier)),
    neck=dict(tokens='cls', out_channels=_base_.classifier.num_classes))
