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
    'cache',  # CachedTeacher
    'students',  # StudentViT, StudentSwin
    'linear_probe',  # LinearProbe
    'pyramid',  # SimplePyramid: a plain ViT's maps for detectors
    'necks',  # ProjectionNeck, WhiteningNeck, those of the ablations
    'head')  # DistillationHead
DATASETS = _child(host.DATASETS, 'data')  # ImageFolder
DATA_SAMPLERS = _child(host.DATA_SAMPLERS, 'sampler')  # ResumableSampler
LOOPS = _child(host.LOOPS, 'resume')  # ResumableLoop
TRANSFORMS = _child(
    host.TRANSFORMS,
    'data',  # LoadImage, LoadCrop, ClampedCrop
    'cache')  # StoredViews
METRICS = _child(host.METRICS, 'metrics')  # HeldOutLoss, NearestNeighbours
HOOKS = _child(
    host.HOOKS,
    'optim',  # WarmupCosine: the learning-rate curve
    'saving',  # Checkpoints
    'health',  # SoundNumbers
    'hooks',  # Throughput, RuntimeInfo, MeanOverProcesses and more
    'verdict',  # Verdict
    'dry_run')  # DryRun
MODEL_WRAPPERS = _child(host.MODEL_WRAPPERS, 'sharding')  # FullySharded
OPTIMIZERS = _child(host.OPTIMIZERS, 'optim')  # LARS
OPTIM_WRAPPERS = _child(host.OPTIM_WRAPPERS, 'optim')  # AmpOptimWrapper
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    host.OPTIM_WRAPPER_CONSTRUCTORS,
    'optim')  # LayerDecayOptimWrapperConstructor
