r"""Before: Swin V2-G itself, fine-tuned like its student: 89.2 %.

On the student's blocks, as those of mmpretrain drop their branches before the
norm that ends them. No weights are published. 16 GPUs x 64 images.

    tools/dist_train.sh configs/classification/swinv2g_in1k.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/teachers/swinv2g.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        type='mmfd.StudentSwin',
        drop_path_rate=0.4,
        with_cp=True,
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(in_channels=4096, init_cfg=dict(std=0.02)))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
model_wrapper_cfg = dict(type='mmfd.FullySharded', param_dtype='bfloat16')
