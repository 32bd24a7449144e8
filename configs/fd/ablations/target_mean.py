"""Target: mean of the map

Table 3 of the paper: worse than the whole feature map. Both sides give the
mean of their patches without the cls token, as in fine-tuning; the paper says
GAP.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/target_mean.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(teacher=dict(neck=dict(tokens='mean')), neck=dict(tokens='mean'))
