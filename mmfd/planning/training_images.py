"""The images that a config trains on: how many there are, and how large."""
from mmengine.registry import DATASETS

from mmfd.data.roots import check_root
from mmfd.errors import Refused
from mmfd.hosts.config_tree import dicts
from mmfd.planning.count import mmpretrain_scope

IMAGENET_IMAGES = 1_281_167  # for training, in ImageNet-1K
# of other sets, by the name that their library has for them
IMAGES = dict(
    ADE20KDataset=20_210,
    CocoDataset=117_266,  # of 118,287 those with a box
    Objects365V2Dataset=1_742_289)


def training_set(cfg):
    """The images to train on, as a data set; None if they are not there.

    Nor are those of other libraries, whose number is known, built.

    Args:
        cfg (Config): of any training.
    """
    dataset = _innermost(cfg.train_dataloader.dataset)
    if _library_name(dataset) in IMAGES:
        return None
    roots = dataset.data_root
    try:
        for root in [roots] if isinstance(roots, str) else roots:
            check_root(root)
    except Refused:
        return None
    with mmpretrain_scope():
        return DATASETS.build(dataset)


def usual_number(cfg):
    """How many images the set that a config names has, as is known of it."""
    name = _library_name(_innermost(cfg.train_dataloader.dataset))
    return IMAGES.get(name, IMAGENET_IMAGES)


def img_size_of(pipeline):
    """Side of the training images in pixels: of the last crop or resize.

    Raises:
        Refused: if there is none.
    """
    sizes = [
        step[key] for _, step in dicts(pipeline)
        for key in ('scales', 'scale', 'crop_size') if key in step
    ]
    if not sizes:
        raise Refused('the size of the images is not known: '
                      'train_dataloader.dataset.pipeline has no crop or '
                      'resize')
    return _largest(sizes[-1])


def _largest(size):
    """The largest side of a size, or of a list of sizes."""
    return size if isinstance(size, int) else max(map(_largest, size))


def _innermost(dataset):
    while 'dataset' in dataset:  # in a RepeatDataset, say
        dataset = dataset.dataset
    return dataset


def _library_name(dataset):
    return dataset.type.rpartition('.')[2]
