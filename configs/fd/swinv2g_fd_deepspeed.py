"""swinv2g_fd.py with ZeRO-3 of DeepSpeed in the place of our shards: not run.

Not at this size, and on no GPU. A tiny copy has been trained on two CPU
processes with DeepSpeed 0.16.9; the host's strategy does not import with
0.19. Every process builds and keeps the whole teacher, all is fp32, the
learning rate is the host's and not scaled by the batch, and a checkpoint is a
folder that DeepSpeed's zero_to_fp32.py makes a file of.

    tools/dist_train.sh configs/fd/swinv2g_fd_deepspeed.py 8
"""
_base_ = 'swinv2g_fd.py'

runner_type = 'mmengine.FlexibleRunner'
model_wrapper_cfg = None
strategy = dict(
    type='DeepSpeedStrategy',
    config=dict(zero_allow_untested_optimizer=True),
    zero_optimization=dict(stage=3),
    gradient_clipping=3.0,
    train_micro_batch_size_per_gpu=64)  # x 32 GPUs = 2048
optim_wrapper = dict(
    _delete_=True,
    type='DeepSpeedOptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW',
        lr=8e-4,  # at 2048 images
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05))
# Its checkpoints are folders, which only the host's hooks and loop know
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=300, val_interval=5)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
default_hooks = dict(
    _delete_=True,
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=5, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    mean=dict(type='mmfd.MeanLossHook'),
    throughput=dict(type='mmfd.ThroughputHook', interval=100),
    skipped=dict(type='mmfd.SkippedImagesHook', limit=0.1),
    provenance=dict(type='mmfd.ProvenanceHook'))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=4e-6 / 8e-4,
        end=10,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=10,
        eta_min=4e-5,
        convert_to_iter_based=True),
]
