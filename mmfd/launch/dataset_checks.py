"""Whether model, images and labels agree, before hours are spent."""
from mmengine.dist import get_world_size

from mmfd.errors import Refused


def check(model, loader):
    """Refuse what the hosts would train on for nothing, or die of in a loss.

    Args:
        model (dict): the model's config.
        loader (DataLoader): of any host library's dataset.

    Raises:
        Refused: if labels have no class or classes no labels, if the model
            has another number of classes, or if there is no batch.
    """
    _check_annotations(loader.dataset)
    _check_length(loader)
    _check_classes(model, loader.dataset)


def _check_length(loader):
    if not len(loader):
        raise Refused(
            f'{len(loader.dataset)} images give no batch of '
            f'{loader.batch_sampler.batch_size} on {get_world_size()} '
            'processes: lower train_dataloader.batch_size')


def _check_annotations(dataset):
    classes = dataset.metainfo.get('classes') or ()
    while hasattr(dataset, 'dataset'):  # repeated, say
        dataset = dataset.dataset
    if hasattr(dataset, 'cat_ids'):  # boxes, by name of their category
        if len(dataset.cat_ids) < len(classes):
            raise Refused(
                f'{dataset.ann_file} has categories for '
                f'{len(dataset.cat_ids)} of the {len(classes)} classes '
                f'({", ".join(classes[:8])} ...): set metainfo.classes of '
                'every dataset to names of its categories')
        if not len(dataset):
            raise Refused(f'{dataset.ann_file} has no image with a box: check '
                          "--data-root, ann_file and the dataset's filter_cfg")
    elif hasattr(dataset, 'reduce_zero_label'):  # maps of labels
        _check_label_maps(dataset, len(classes))


def _check_label_maps(dataset, classes, images=20):
    read = [
        t for t in dataset.pipeline.transforms
        if type(t).__name__ == 'LoadAnnotations'
    ]
    step = max(1, len(dataset) // images)
    for index in range(0, len(dataset) if read and classes else 0, step):
        info = dataset.get_data_info(index)
        labels = set(read[0](info)['gt_seg_map'].flatten().tolist())
        strange = sorted(label for label in labels
                         if label >= classes and label != dataset.ignore_index)
        if strange:
            raise Refused(
                f'{info["seg_map_path"]} has the labels {strange[:5]}, '
                f'and there are {classes} classes: set metainfo.classes, or '
                'reduce_zero_label, of every dataset')


def _check_classes(model, dataset):
    found = len(dataset.metainfo.get('classes') or ())
    expected = {
        key: value
        for key, value in _leaves(model)
        if key.endswith('.num_classes') and 'semantic_head' not in key
    }
    # 1 is said by heads of edges and of boxes alone
    wrong = [k for k, value in expected.items() if value not in (1, found)]
    if found and wrong:
        of = ' and '.join(sorted({f'{expected[key]:,}' for key in wrong}))
        raise Refused(f'the images have {found} classes, the model {of}: set '
                      '--cfg-options ' + ' '.join(f'{key}={found}'
                                                  for key in wrong))


def _leaves(node, path='model'):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from _leaves(value, f'{path}.{key}')
        else:
            yield f'{path}.{key}', value
