"""The registries of mmfd: which files define what configs call `mmfd.X`.

The files of a registry are imported when a name is first looked up in it.
Also which part of a model has to be what: `build_part`.
"""
import inspect
import re
from typing import NamedTuple

from mmengine import registry as host
from mmengine.registry import Registry

from mmfd.errors import Refused, dict_with


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

# What a class is, by the file in which its work is written; others may be
# anything
KINDS = {
    'a loss':
    r'torch\.nn\.modules\.loss|mm\w+\.models\.losses|mmfd\.targets\.losses',
    'a neck':
    r'mm\w+\.models\.necks|mmfd\.(necks|variants\.several_layers|'
    r'networks\.(map_mean|pyramid|global_attention))',
    'a head of a distillation':
    r'mmfd\.head',
    'a head':
    r'mm\w+\.models\.(\w+_)?heads',
    'a balance of losses':
    r'mmfd\.variants\.balance',
    'a teacher':
    r'mmfd\.(teacher|training\.cached_teacher)',
    'statistics of pixels':
    r'mmfd\.pixels\.Normalize',
    'a preprocessor':
    r'mm\w+\.(\w+\.)*data_preprocessors?|mmfd\.pixels',
    'a backbone':
    r'mm\w+\.models\.backbones|mmfd\.networks\.(vit|swin|library_network)',
    'a model':
    r'mm\w+\.models\.(classifiers|selfsup|segmentors|detectors|retrievers)|'
    r'mmfd\.(distillation|variants)',
    'a norm':
    r'torch\.nn\.modules\.(batchnorm|instancenorm|normalization|'
    r'linear\.Identity)',
    'a layer':
    r'torch\.nn\.modules\.(?!container|module)|mmcv\.cnn\.bricks',
}


class Slot(NamedTuple):
    """What a part of a model has to be, whoever has written its class.

    Attributes:
        kinds: of `KINDS` those that it may be.
        call: how it is called, as `loss(pred, target)`.
        such_as: the class to name in a config.
        has: names that are read of it.
    """
    kinds: tuple
    call: str
    such_as: str
    has: tuple = ()


NECK, STATISTICS = 'mmfd.ProjectionNeck', 'mmfd.Normalize'
SLOTS = dict(
    teacher=Slot(('a teacher', ), 'forward(pixels)', 'mmfd.Teacher',
                 ('backbone', 'fingerprint')),
    backbone=Slot(('a backbone', 'a model'), 'forward(pixels)',
                  'mmfd.StudentViT'),
    normalize=Slot(('statistics of pixels', 'a norm'), 'forward(pixels)',
                   STATISTICS),
    statistics=Slot(('statistics of pixels', ), 'forward(pixels)', STATISTICS,
                    ('mean', 'std')),
    neck=Slot(('a neck', ), 'forward(feats)', NECK),
    selecting_neck=Slot(('a neck', ), 'forward(feats)', NECK,
                        ('select_tokens', )),
    target_neck=Slot(('a neck', ), 'forward(feats)', 'mmfd.WhiteningNeck'),
    head=Slot(('a head of a distillation', ), 'loss(pred, target)',
              'mmfd.DistillationHead'),
    loss=Slot(('a loss', 'a layer'), 'forward(pred, target)',
              'torch.nn.SmoothL1Loss'),
    balance=Slot(('a balance of losses', ), 'forward(meetings, feats)',
                 'mmfd.FixedWeights'),
    data_preprocessor=Slot(('a preprocessor', ), 'forward(data, training)',
                           'mmfd.PixelPreprocessor'),
    classifier_neck=Slot(('a neck', 'a norm', 'a layer'), 'forward(feats)',
                         'mmpretrain.GlobalAveragePooling'),
    classifier_head=Slot(('a head', ), 'loss(feats, data_samples)',
                         'mmpretrain.LinearClsHead'),
    classifier_preprocessor=Slot(('a preprocessor', ),
                                 'forward(data, training)',
                                 'mmpretrain.ClsDataPreprocessor'))


def build_part(place, config, slot):
    """Build a part of a model, or say what came in its place.

    Args:
        place (str): of the part in a config.
        config (dict | list[dict] | nn.Module): of a list, parts that follow
            each other; what is built already is only looked at.
        slot (str): of `SLOTS`.

    Returns:
        nn.Module

    Raises:
        Refused: for what is no such config, and for a class of another kind.
    """
    if isinstance(config, (list, tuple)) and config:
        for i, part in enumerate(config):
            check_config(f'{place}.{i}', part, slot)
    elif hasattr(type(config), 'forward'):
        return check_part(place, config, slot)
    else:
        check_config(place, config, slot)
    return check_part(place, MODELS.build(config), slot)


def build_parts(place, **parts):
    """Build those parts of a model that `SLOTS` names, in the order given.

    Args:
        place (str): of the model in a config.
        parts: name of a part, and of its slot -> as `build_part` takes it.
            Other names are arguments, and stay as they are.

    Returns:
        dict

    Raises:
        Refused: as `build_part`.
    """
    return {
        name:
        build_part(f'{place}.{name}', part, name) if name in SLOTS else part
        for name, part in parts.items()
    }


def check_part(place, part, slot):
    """The part itself, if it can be what its owner makes of it.

    Args:
        place (str): of the part in a config.
        part (nn.Module): built.
        slot (str): of `SLOTS`.

    Raises:
        Refused: for another kind, and for one that has not what is needed.
    """
    _check_kind(place, type(part), slot)
    call, has = SLOTS[slot].call, SLOTS[slot].has
    method, *names = re.findall(r'\w+', call)
    lacking = [name for name in (method, *has) if not hasattr(part, name)]
    if lacking:
        raise _unfit(place, type(part), f'has no {", ".join(lacking)}', slot)
    try:
        inspect.signature(getattr(part, method)).bind(*names)
    except TypeError as error:
        raise _unfit(place, type(part),
                     f'cannot be called as {call} ({error})', slot) from error
    return part


def check_config(place, config, slot):
    """Refuse what is no config of a part, before it is built.

    The constructor of a class of another kind would speak of arguments.

    Args:
        place (str): of the part in a config.
        config (dict): with its `type`.
        slot (str): of `SLOTS`.

    Raises:
        Refused: for what is no such config, and for a class of another kind.
    """
    kind = dict_with(place, config, 'type')['type']
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(
                config.get('_scope_')) as registry:
            kind = registry.get(kind)
    elif not callable(kind):
        raise Refused(f'{place}.type={kind!r}: the name of a class is '
                      f'expected, such as {SLOTS[slot].such_as}')
    if inspect.isclass(kind):
        _check_kind(place, kind, slot)


def _check_kind(place, cls, slot):
    kind = kind_of(cls)
    if kind and kind not in SLOTS[slot].kinds:
        raise _unfit(place, cls, f'is {kind}', slot)


def kind_of(cls):
    """Which of `KINDS` a class is; None where that is not known.

    Args:
        cls (type): of any library. One that a user derives is of the same
            kind, until it has a `forward` or a `loss` of its own.
    """
    writer = next(
        (base for base in cls.__mro__ if {'forward', 'loss'} & {*vars(base)}),
        cls)
    name = f'{writer.__module__}.{writer.__qualname__}'
    return next((kind for kind, pattern in KINDS.items()
                 if re.match(rf'(?:{pattern})\b', name)), None)


def _unfit(place, cls, wrong, slot):
    (expected, *_), _, such_as, _ = SLOTS[slot]
    return Refused(f'{place}: {cls.__name__} {wrong}, and {expected} is '
                   f'expected: set {place}.type={such_as}, say')


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
