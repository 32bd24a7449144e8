"""The table of contents: what configs can name as `mmfd.X`, and where it is.

Importing a registry imports nothing of its rooms; the first look-up does.
"""
from mmengine import registry as host
from mmengine.registry import Registry


def _child(parent, *rooms):
    return Registry(
        parent.name,
        parent=parent,
        scope='mmfd',
        locations=[f'mmfd.{room}' for room in rooms])


MODELS = _child(
    host.MODELS,
    'distillation',  # FeatureDistillation: the method
    'pixels',  # PixelPreprocessor, OfficialEvalPreprocessor, Normalize
    'teacher',  # Teacher
    'training.cached_teacher',  # CachedTeacher
    'networks.vit',  # StudentViT
    'networks.swin',  # StudentSwin
    'networks.linear_probe',  # LinearProbe
    'networks.pyramid',  # SimplePyramid: a plain ViT's maps for detectors
    'necks',  # ProjectionNeck, WhiteningNeck, those of the ablations
    'head')  # DistillationHead
DATASETS = _child(host.DATASETS, 'data.image_folder')  # ImageFolder
DATA_SAMPLERS = _child(host.DATA_SAMPLERS, 'data.sampler')  # ResumableSampler
LOOPS = _child(host.LOOPS, 'training.loop')  # ResumableLoop
TRANSFORMS = _child(
    host.TRANSFORMS,
    'data.image_folder',  # LoadImage, LoadCrop, ClampedCrop
    'training.cached_teacher')  # StoredViews
METRICS = _child(host.METRICS,
                 'training.metrics')  # HeldOutLoss, NearestNeighbours
HOOKS = _child(
    host.HOOKS,
    'training.lr_schedule',  # WarmupCosineHook
    'training.checkpoint_hook',  # ResumableCheckpointHook
    'training.nan_guard',  # NanGuardHook
    'training.hooks',  # ThroughputHook, MeanLossHook, ProvenanceHook and more
    'training.collapse_monitor',  # CollapseMonitorHook
    'launch.dry_run')  # DryRunHook
MODEL_WRAPPERS = _child(host.MODEL_WRAPPERS,
                        'training.sharding')  # FullySharded
OPTIMIZERS = _child(host.OPTIMIZERS, 'training.optim')  # LARS
OPTIM_WRAPPERS = _child(host.OPTIM_WRAPPERS,
                        'training.optim')  # AmpOptimWrapper
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    host.OPTIM_WRAPPER_CONSTRUCTORS,
    'training.optim')  # LayerDecayOptimWrapperConstructor

# Names of hooks in configs of version 0.1 before they ended in Hook: old ->
# new, both without `mmfd.`
RENAMED = dict(
    WarmupCosine='WarmupCosineHook',
    Checkpoints='ResumableCheckpointHook',
    SoundNumbers='NanGuardHook',
    Throughput='ThroughputHook',
    RuntimeInfo='NonBlockingRuntimeInfoHook',
    MeanOverProcesses='MeanLossHook',
    SkippedImages='SkippedImagesHook',
    Provenance='ProvenanceHook',
    Verdict='CollapseMonitorHook',
    DryRun='DryRunHook')
