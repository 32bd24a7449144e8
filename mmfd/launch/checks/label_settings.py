"""Which settings count classes, say what is ignored, or bring labels."""
from typing import NamedTuple

from mmfd.errors import Refused
from mmfd.hosts.config_tree import dicts, outer_paths

# Parts of a model with classes of their own, not those of the labels
OTHER_PARTS = {
    'rpn_head', 'semantic_head', 'reid', 'track_head', 'task_heads', 'teacher',
    'branches'
}
# Heads that count something else: edges, or the words of a text
OTHER_HEADS = ('STDCHead', 'GroundingDINOHead', 'ATSSVLFusionHead')
OF_THINGS = {'roi_head', 'bbox_head', 'mask_head'}
OF_MAPS = {'decode_head', 'auxiliary_head'}
METRICS_OF_MAPS = ('IoUMetric', 'CityscapesMetric')
# Losses of mmseg that do not ask their head which label is ignored -> where
# they have it
OWN_IGNORED = {
    'DiceLoss': 'ignore_index',
    'HuasdorffDisstanceLoss': 'ignore_index',
    'OhemCrossEntropy': 'ignore_label',
    'TverskyLoss': 'ignore_index',
}
IGNORED = 255  # in mmseg, where nothing is set
# What a sample has to have -> the parts of models that learn from it, and
# which settings of a data set give it
NEEDED = {
    'gt_sem_seg':
    (('decode_head', ), 'data_prefix.seg_map_path of the data set, and '
     'LoadAnnotations in its pipeline'),
    'gt_instances.labels':
    (('bbox_head', 'roi_head', 'mask_head', 'panoptic_head'),
     'ann_file of the data set, and LoadAnnotations in its pipeline'),
    'gt_label':
    (('head', ), 'with_label=True of the data set, with the images '
     'of each class in a folder of its own'),
}


class Count(NamedTuple):
    """A number of classes in a config.

    Attributes:
        settings (str): dotted paths, with ` and ` between them.
        value (int): what stands there.
        allowed (tuple[int]): what may stand there.
        options (str): to set it right on the command line.
    """
    settings: str
    value: int
    allowed: tuple
    options: str


def sections(cfg, loop):
    """The parts of a config that have to do with the labels of a loop.

    Args:
        cfg (dict): of the run.
        loop (str): `train`, `val` or `test`.

    Returns:
        dict: name -> part of the config: `model`, and evaluators.
    """
    names = ('model', ) if loop == 'train' else ('model', f'{loop}_evaluator')
    return {name: cfg[name] for name in names if cfg.get(name)}


def no_labels(field):
    """The error for images without the field that a model learns from."""
    return Refused(f'the model learns from labels, and the images of '
                   f'train_dataloader have none ({field}): set '
                   f'{NEEDED[field][1]}; or distil, which needs no labels '
                   '(configs/fd)')


def class_counts(parts, metainfo):
    """Every number of classes in a config, from the fields that mean one.

    Args:
        parts (dict): of a config, as of `sections`.
        metainfo (dict): of a data set: `classes`, and perhaps
            `thing_classes`, those of boxes.

    Yields:
        Count: also of what stands there rightly.
    """
    classes = len(metainfo['classes'])
    things = len(metainfo.get('thing_classes') or metainfo['classes'])
    for path, part in _parts(parts):
        names = {*path.split('.')}
        expected = things if names & OF_THINGS else classes
        count, weights = part.get('num_classes'), part.get('class_weight')
        # a backbone without a classifier has -1 or 0
        if isinstance(count, int) and count > 0 and not (
                count == 1 and names & OF_MAPS):  # edges, or one foreground
            yield Count(f'{path}.num_classes', count, (expected, ),
                        f'{path}.num_classes={expected}')
        if isinstance(weights, (list, tuple)):  # the last may be of no object
            yield Count(f'{path}.class_weight', len(weights),
                        (expected, expected + 1), f'{path}.class_weight=None')
        if 'num_things_classes' in part:
            settings = [
                f'{path}.num_{kind}_classes' for kind in ('things', 'stuff')
            ]
            number = len(metainfo.get('stuff_classes') or ())
            yield Count(
                ' and '.join(settings),
                part['num_things_classes'] + part.get('num_stuff_classes', 0),
                (classes, ),
                f'{settings[0]}={classes - number} {settings[1]}={number}')


def ignored_labels(parts):
    """The label that heads of maps, their losses and metrics ignore.

    Args:
        parts (dict): of a config, as of `sections`.

    Returns:
        dict: setting -> label, or None.
    """
    found = {}
    for path, part in _parts(parts):
        kind, names = str(part.get('type')), path.split('.')
        key = None
        if kind.endswith(METRICS_OF_MAPS) or path.rstrip('.0123456789').split(
                '.')[-1] in OF_MAPS:
            key = 'ignore_index'
        elif OF_MAPS & {*names}:
            key = OWN_IGNORED.get(kind.removeprefix('mmseg.'))
        if key:
            found[f'{path}.{key}'] = part.get(key, IGNORED)
    return found


def _parts(parts):
    """(dotted path, dict) of every dict but those of other classes."""
    heads = [
        path for path, part in dicts(parts)
        if str(part.get('type')).split('.')[-1] in OTHER_HEADS
    ]
    for path, part in dicts(parts):
        is_other = OTHER_PARTS & {*path.split('.')}
        if not is_other and not {path, *outer_paths(path)} & {*heads}:
            yield path, part
