"""The registries of mmfd: which files define what configs call `mmfd.X`.

The files of a registry are imported when a name is first looked up in it.
"""
from mmengine import registry as host
from mmengine.registry import Registry


def _child(parent, *files):
    return Registry(
        parent.name,
        parent=parent,
        scope='mmfd',
        locations=[f'mmfd.{file}' for file in files])


MODELS = _child(
    host.MODELS,
    'distillation',  # FeatureDistillation: the method
    'variants.several_teachers',  # MultiTeacherDistillation
    'variants.masked_student',  # MaskedFeatureDistillation
    'variants.several_layers',  # LayersNeck
    'variants.balance',  # FixedWeights, BalancedGradients and more
    'pixels',  # PixelPreprocessor, OfficialEvalPreprocessor, Normalize
    'teacher',  # Teacher
    'training.cached_teacher',  # CachedTeacher
    'networks.vit',  # StudentViT
    'networks.swin',  # StudentSwin
    'networks.timm_network',  # TimmNetwork
    'networks.huggingface_network',  # HuggingFaceNetwork
    'networks.torchvision_network',  # TorchvisionNetwork
    'networks.linear_probe',  # LinearProbe
    'networks.map_mean',  # MapMeanNeck: any network in a classifier
    'networks.global_attention',  # GlobalAttention: after the last stage
    'networks.instance_tta',  # InstanceTTAModel: boxes and masks of views
    'networks.pyramid',  # SimplePyramid: a plain ViT's maps for detectors
    'necks',  # ProjectionNeck, TargetNeck, WhiteningNeck and more
    'targets.losses',  # CosineLoss, SumOfLosses and more
    'head')  # DistillationHead
DATASETS = _child(host.DATASETS, 'data.image_folder')  # ImageFolder
DATA_SAMPLERS = _child(host.DATA_SAMPLERS, 'data.sampler')  # ResumableSampler
LOOPS = _child(host.LOOPS, 'training.loop')  # ResumableLoop
TRANSFORMS = _child(
    host.TRANSFORMS,
    'data.transforms',  # LoadImage, LoadCrop, ClampedCrop
    'training.cached_teacher')  # StoredViews
METRICS = _child(host.METRICS,
                 'training.metrics')  # HeldOutLoss, NearestNeighbours
HOOKS = _child(
    host.HOOKS,
    'training.lr_schedule',  # WarmupCosineHook
    'training.checkpoint_hook',  # ResumableCheckpointHook
    'training.nan_guard',  # NanGuardHook
    'training.progress',  # ProgressHook
    'training.throughput',  # ThroughputHook
    'training.hooks',  # MeanLossHook, ProvenanceHook and more
    'training.classes_by_name',  # ClassesByNameHook
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

# Hooks of version 0.1 that have another name now: old -> new. Configs may
# still use the old names.
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


def branches_of(model):
    """The teachers of a distillation's config, each with what belongs to it.

    Args:
        model (dict): config of any model.

    Returns:
        dict: name of a branch -> dict with `teacher`, `neck` and `head`. FD
        is one without a name: '' -> the model; other models have none.
    """
    if 'teacher' in model:
        return {'': model}
    branches = model.get('branches')
    return {
        name: branch
        for name, branch in (
            branches if isinstance(branches, dict) else {}).items()
        if isinstance(branch, dict) and 'teacher' in branch
    }


def with_teachers(model, change):
    """A copy of a model's config in which each teacher is another one.

    Args:
        model (dict): config of any model.
        change (Callable): the config of a teacher -> what takes its place.
    """
    model = model.copy()
    if 'teacher' in model:
        model['teacher'] = change(model['teacher'])
    elif branches_of(model):
        model['branches'] = type(model['branches'])({
            name:
            with_teachers(branch, change)
            for name, branch in model['branches'].items()
        })
    return model


def place_of(name):
    """Where in a config the branch of a name is: `model` or below it."""
    return f'model.branches.{name}' if name else 'model'
