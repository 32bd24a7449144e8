"""Check model, images and labels before training.

What is wrong is refused with the setting to change. The hosts would train on
it for nothing, or fail with an index error in a loss.
"""
from mmengine.dist import get_world_size

from mmfd.errors import Refused
from mmfd.hosts import openmmlab

LABEL_MAPS = 20  # read in advance, spread over the dataset


def check(model, loader):
    """Check that a loader gives batches, and that its labels fit the model.

    Args:
        model (dict): the model's config.
        loader (DataLoader): of any host library's dataset.

    Raises:
        Refused: if labels have no class or classes no labels, if the model
            has another number of classes, or if there is no batch.
    """
    dataset = loader.dataset
    if hasattr(dataset, 'metainfo'):  # one of a host library's
        _check_annotations(dataset)
        check_classes(model, dataset)
    _check_length(loader)


def check_classes(model, dataset):
    """Check that every head has as many classes as the labels.

    Args:
        model (dict): the model's config.
        dataset (Dataset): whose `metainfo` may name its classes.

    Raises:
        Refused: naming the settings.
    """
    classes = len(dataset.metainfo.get('classes') or ())
    of_heads = {
        key: value
        for key, value in _settings(model)
        if key.endswith('.num_classes') and 'semantic_head' not in key
    }
    # heads of edges and of boxes alone have 1
    wrong = [k for k, value in of_heads.items() if value not in (1, classes)]
    if classes and wrong:
        numbers = ' and '.join(sorted({f'{of_heads[k]:,}' for k in wrong}))
        raise Refused(f'the images have {classes} classes, the model '
                      f'{numbers}: set --cfg-options ' +
                      ' '.join(f'{key}={classes}' for key in wrong))


def _check_length(loader):
    if not len(loader):
        raise Refused(
            f'{len(loader.dataset)} images give no batch of '
            f'{loader.batch_sampler.batch_size} on {get_world_size()} '
            'processes: lower train_dataloader.batch_size')


def _check_annotations(dataset):
    classes = dataset.metainfo.get('classes') or ()
    while hasattr(dataset, 'dataset'):  # within RepeatDataset, say
        dataset = dataset.dataset
    if hasattr(dataset, 'cat_ids'):  # of mmdet: boxes with categories
        if len(dataset.cat_ids) < len(classes):
            raise Refused(
                f'{dataset.ann_file} has categories for '
                f'{len(dataset.cat_ids)} of the {len(classes)} classes '
                f'({", ".join(classes[:8])} ...): set metainfo.classes of '
                'every dataset to names of its categories')
        if not len(dataset):
            raise Refused(f'{dataset.ann_file} has no image with a box: check '
                          "--data-root, ann_file and the dataset's filter_cfg")
    elif hasattr(dataset, 'reduce_zero_label'):  # of mmseg: maps of labels
        _check_label_maps(dataset, len(classes))


def _check_label_maps(dataset, classes):
    read = [
        t for t in dataset.pipeline.transforms if openmmlab.reads_label_maps(t)
    ]
    if not read or not classes:
        return
    for index in range(0, len(dataset), max(1, len(dataset) // LABEL_MAPS)):
        info = dataset.get_data_info(index)
        path = info['seg_map_path']
        try:
            label_map = read[0](info)['gt_seg_map']
        except (OSError, ValueError) as error:
            raise Refused(
                f'the label map {path} cannot be read ({error}): check '
                '--data-root, and data_prefix and seg_map_suffix of its '
                'dataset') from error
        strange = sorted(
            label for label in set(label_map.flatten().tolist())
            if label >= classes and label != dataset.ignore_index)
        if strange:
            raise Refused(
                f'{path} has the labels {strange[:5]}, '
                f'and there are {classes} classes: set metainfo.classes, or '
                'reduce_zero_label, of every dataset')


def _settings(node, path='model'):
    """(dotted path, value) of every setting in a config."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from _settings(value, f'{path}.{key}')
        else:
            yield f'{path}.{key}', value
