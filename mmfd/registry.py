"""The table of contents: what configs can name as `mmfd.X`, and where it is.

Importing a registry imports nothing of its rooms; the first look-up does.
"""
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import \
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmfd',
    locations=[
        'mmfd.distillation',  # FeatureDistillation: the method
        'mmfd.pixels',  # PixelPreprocessor, Normalize
        'mmfd.teacher',  # Teacher
        'mmfd.students',  # StudentViT
        'mmfd.necks',  # ProjectionNeck, WhiteningNeck
        'mmfd.head',  # DistillationHead
    ])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmfd',
    locations=['mmfd.data'])  # ImageFolder
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmfd',
    locations=['mmfd.data'])  # LoadImage
METRICS = Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='mmfd',
    locations=['mmfd.metrics'])  # HeldOutLoss, NearestNeighbours
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmfd',
    locations=[
        'mmfd.optim',  # WarmupCosine: the learning-rate curve
        'mmfd.hooks',  # Throughput, SkippedImages and their kin
        'mmfd.dry_run',  # DryRun
    ])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmfd',
    locations=['mmfd.optim'])  # AmpOptimWrapper
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmfd',
    locations=['mmfd.optim'])  # LayerDecayOptimWrapperConstructor
