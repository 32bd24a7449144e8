"""The images of a diagnosis: some of a folder, spread evenly over it."""
import random

from mmengine.dataset import Compose

from mmfd.data.decode import BrokenImage
from mmfd.data.image_folder import ImageFolder
from mmfd.errors import Refused


class Images:
    """Images below a folder, some with labels, the broken ones left out.

    Of an ImageNet tree those of `val`, or of `train` where that is all there
    is; of any other folder all.

    Args:
        root (str): the folder.
        count (int): how many, spread evenly over their sorted paths.
    """

    def __init__(self, root, count):
        if count < 1:
            raise Refused(f'{count} images asked for: at least one is '
                          'needed')
        self.root, self.asked = root, count
        folder = ImageFolder(root, 'val', pipeline=[], held_out=1.)
        self.there = len(folder)
        count = min(count, self.there)
        self.infos = [
            folder.get_data_info(i * self.there // count) for i in range(count)
        ]
        random.Random(0).shuffle(self.infos)  # the first are shown
        self.unreadable = {}  # path -> reason

    def batches(self, pipelines, size):
        """For each batch, a dict for each pipeline, as preprocessors take it.

        Args:
            pipelines (list[Compose]): as `pipeline_of` gives them.

        Raises:
            Refused: in the end, if no image could be read.
        """
        seen = 0
        for start in range(0, len(self.infos), size):
            rows = [
                self._read(info, pipelines)
                for info in self.infos[start:start + size]
            ]
            rows = [row for row in rows if row]
            seen += len(rows)
            if rows:
                yield [collate(column) for column in zip(*rows)]
        if not seen:
            path, reason = next(iter(self.unreadable.items()))
            raise Refused(f'none of {len(self.infos)} images in '
                          f'{self.root} can be read, e.g. {path}: {reason}')

    def _read(self, info, pipelines):
        try:
            return [pipeline(dict(info)) for pipeline in pipelines]
        except BrokenImage as error:
            self.unreadable[info['img_path']] = str(error)

    def notes(self):
        """What is to be said of them, sentences."""
        if self.there < self.asked:
            yield (f'{self.asked:,} images were asked for, '
                   f'{self.root} has {self.there:,}.')
        if self.unreadable:
            path, reason = next(iter(self.unreadable.items()))
            yield (f'{len(self.unreadable):,} images could not be read and '
                   f'are left out, e.g. {path}: {reason}.')


def collate(samples):
    """Samples to one dict of lists."""
    return {key: [s[key] for s in samples] for key in samples[0]}


def pipeline_of(cfg):
    """How a config loads images that it does not train on."""
    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        raise Refused(
            f'{cfg.filename} has no val_dataloader, whose pipeline says how '
            'its images are cropped: add one')
    first, *others = loader.dataset.pipeline
    if first.type.split('.')[-1] not in ('LoadImage', 'LoadImageFromFile'):
        raise Refused(f'{cfg.filename}: the pipeline of val_dataloader '
                      f'begins with {first.type}, not with mmfd.LoadImage')
    return Compose([dict(type='mmfd.LoadImage'), *others])
