"""Target: mean of the map

The paper's Table 3, its pooled ("GAP") feature: lower than the whole feature
map. Both sides average their patches without the cls token, as fine-tuning
does.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/target_mean.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(teacher=dict(neck=dict(tokens='mean')), neck=dict(tokens='mean'))
