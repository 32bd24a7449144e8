r"""Swin V2-G -> FD: 89.2 -> 89.4 % on ImageNet-1K, 59.9 -> 61.4 on ADE20K.

3.0 billion parameters on each side. Neither recipe nor weights are published.
Assumed here: all of the published recipe of EsViT Swin-B (esvit_swinb_fd.py),
224 pixels and windows of 14, a teacher of 192 pixels that extrapolates its
positions, and a drop path of 0.3. The paper's images are ImageNet-22K and
70 million of its own; ImageNet-1K stands in for them.

In shards over all GPUs, 64 images each: 32 GPUs make the batch of 2048, or 8
and accumulative_counts=4. Not run; tools/benchmark.py --plan counts 20 GiB of
each GPU, of 8 25 GiB, and 2e21 operations.

    tools/dist_train.sh configs/fd/swinv2g_fd.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=4
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/swinv2g.py',
    '../_base_/students/swinv2g.py',
    '../_base_/data/imagenet_fd.py',
    '../_base_/schedules/fd_300e_swin.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=_base_.student,
    neck=dict(in_channels=4096, out_channels=4096))
model_wrapper_cfg = dict(type='mmfd.FullySharded', param_dtype='bfloat16')
train_dataloader = dict(batch_size=64)  # x 32 GPUs = 2048
