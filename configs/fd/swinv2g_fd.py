r"""Swin V2-G -> FD: 89.2 -> 89.4 % on ImageNet-1K, 59.9 -> 61.4 on ADE20K.

3.0 billion parameters on each side. Neither recipe nor weights are published.
Assumed: the published recipe of EsViT Swin-B (esvit_swinb_fd.py) as it is, 224
pixels and windows of 14, a teacher trained at 192 pixels whose positions are
extrapolated, and a drop path of 0.3. The paper's images are ImageNet-22K and
70 million of its own; ImageNet-1K stands in for them.

300 epochs at batch 2048: 32 GPUs x 64 images, or 8 GPUs and
accumulative_counts=4. PyTorch's FSDP (`mmfd.FullySharded`) shards student,
teacher and optimizer over all GPUs. Not run; `tools/benchmark.py --plan`
counts 16 GiB on each of 32 GPUs, 21 GiB on each of 8, and 2e21 operations.

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
