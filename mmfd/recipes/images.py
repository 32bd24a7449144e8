"""The images at hand: how many to train on, which are held out, which size."""
import os
from typing import NamedTuple

from mmfd.data import stores
from mmfd.data.image_folder import ImageFolder

SMALL = 128  # pixels, below which crops keep a third of an image or more
SHARE, FEWEST, MOST = 0.01, 50, 0.1  # to hold out: at least, images, at most


class Images(NamedTuple):
    """Images below folders.

    Attributes:
        train (int): how many to train on.
        held_out (float): share that is held out, where no folder is.
        classes (tuple[str]): empty if they have none.
    """
    train: int
    held_out: float
    classes: tuple


def absolute(data):
    """A folder, or several, as a list of absolute paths and of addresses."""
    data = [data] if isinstance(data, (str, os.PathLike)) else data
    return [
        folder if stores.is_address(folder) else os.path.abspath(folder)
        for folder in data
    ]


def look_at(folders, with_label=None):
    """Count images, and choose how many to hold out.

    Args:
        folders (list[str]): as `mmfd.ImageFolder` takes them.
        with_label (bool): as there.

    Raises:
        Refused: as there, and if a folder has no image.
    """
    count = len(_open(folders, with_label, 0.))
    share = round(min(max(SHARE, FEWEST / count), MOST), 3)
    dataset = _open(folders, with_label, share)
    return Images(len(dataset), share, tuple(dataset.metainfo['classes']))


def _open(folders, with_label, held_out):
    return ImageFolder(
        folders,
        split='train',
        pipeline=[],
        with_label=with_label,
        held_out=held_out)


def short_edge(size):
    """Pixels to which an image is resized before (H, W) are cut out."""
    return round(max(size) * 8 / 7)  # as 256 to 224


def loaders(images, folders, size, batch_size):
    """Lines of a config that read them.

    Args:
        images (Images): in these folders.
        size (tuple[int]): (H, W) of what networks see.
    """
    ratio = ', crop_ratio_range=(0.35, 1.0)' * (min(size) < SMALL)
    return f'''
_base_.train_dataloader.dataset.pipeline[0].crop.update(scale=size{ratio})
for loader in _base_.val_dataloader, _base_.test_dataloader:
    loader.dataset.pipeline[1].scale = {short_edge(size)}
    loader.dataset.pipeline[2].crop_size = size[::-1]  # (W, H)
dataset = dict(data_root={folders!r}, held_out={images.held_out})
train_dataloader = dict(batch_size={batch_size}, dataset=dataset)
val_dataloader = test_dataloader = train_dataloader
'''
