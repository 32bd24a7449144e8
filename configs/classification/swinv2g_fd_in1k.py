r"""Fine-tune the Swin V2-G FD student on ImageNet-1K: 89.4 % in the paper.

No recipe is published, nor the size of the images. Assumed is the published
recipe of EsViT's student at 224 pixels: 100 epochs at batch 1024, 16 GPUs x 64
images.

    tools/dist_train.sh configs/classification/swinv2g_fd_in1k.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2
"""
_base_ = [
    '../_base_/classifier_swin.py',
    '../_base_/starting_weights/swinv2g.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_swin.py',
]

model = dict(
    backbone=dict(_base_.after, drop_path_rate=0.4),
    head=dict(in_channels=4096))
train_dataloader = dict(batch_size=64)
