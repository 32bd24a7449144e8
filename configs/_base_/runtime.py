"""Logs, checkpoints, seeds and processes of a run."""
default_scope = 'mmpretrain'
default_hooks = dict(
    runtime_info=dict(type='mmfd.NonBlockingRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    checkpoint=dict(
        type='mmfd.ResumableCheckpointHook',
        interval=5,
        minutes=15,  # between interim checkpoints
        on_failure='stop',  # on a full disk; or 'warn'
        save_last=True,
        save_best='auto',  # by the first metric of the evaluator
        max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    mean=dict(type='mmfd.MeanLossHook'),
    numbers=dict(type='mmfd.NanGuardHook'),
    throughput=dict(type='mmfd.ThroughputHook', interval=100),
    skipped=dict(type='mmfd.SkippedImagesHook', limit=0.1),
    provenance=dict(type='mmfd.ProvenanceHook'))
vis_backends = [
    dict(type='LocalVisBackend'),
    dict(type='TensorboardVisBackend'),
]
visualizer = dict(type='mmengine.Visualizer', vis_backends=vis_backends)
log_level = 'INFO'
log_processor = dict(
    window_size=100,
    # mmengine's default would average a held-out loss over evaluations too
    mean_pattern='^((train|val|test)/)?(loss|time|data_time|grad_norm)')
load_from = None
resume = False
randomness = dict(seed=0, diff_rank_seed=True)  # drop path, mixup per rank
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=1800))  # seconds
