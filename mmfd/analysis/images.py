"""The images of a diagnosis: some of a folder, evenly spread over it."""
import random

from mmengine.dataset import Compose, pseudo_collate

from mmfd.data.decode import BrokenImage
from mmfd.data.image_folder import ImageFolder
from mmfd.errors import Refused


class ImageSample:
    """Some images of a folder, with labels where it has them.

    Of a folder with splits the images of `val` or `test`, or of `train` if
    there is neither; of any other folder all. Broken ones are left out.

    Args:
        root (str): the folder.
        count (int): how many, evenly spread over the sorted paths.

    Attributes:
        available (int): how many images the folder has.
        infos (list[dict]): path, and label if there is one, of each image.
        broken (dict): path -> why the image could not be read.

    Raises:
        Refused: if none is asked for, or the folder has none.
    """

    def __init__(self, root, count):
        if count < 1:
            raise Refused(f'{count} images asked for: at least one is '
                          'needed')
        self.root, self.asked = root, count
        folder = ImageFolder(root, 'val', pipeline=[], held_out=1.)
        self.available = len(folder)
        count = min(count, self.available)
        self.infos = [
            folder.get_data_info(i * self.available // count)
            for i in range(count)
        ]
        random.Random(0).shuffle(self.infos)  # the first ones are shown
        self.broken = {}

    def batches(self, pipelines, batch_size):
        """Batches of images, each as every network wants it.

        Args:
            pipelines (list[Compose]): one for each network, as `pipeline_of`
                gives it.

        Yields:
            list[dict]: a batch for each pipeline, as preprocessors take it.

        Raises:
            Refused: at the end, if no image could be read.
        """
        count = 0
        for start in range(0, len(self.infos), batch_size):
            rows = [
                self._read(info, pipelines)
                for info in self.infos[start:start + batch_size]
            ]
            rows = [row for row in rows if row]
            count += len(rows)
            if rows:
                yield [pseudo_collate(column) for column in zip(*rows)]
        if not count:
            path, reason = next(iter(self.broken.items()))
            raise Refused(f'none of {len(self.infos)} images in '
                          f'{self.root} can be read, e.g. {path}: {reason}')

    def _read(self, info, pipelines):
        try:
            return [pipeline(dict(info)) for pipeline in pipelines]
        except BrokenImage as error:
            self.broken[info['img_path']] = str(error)

    def notes(self):
        """Sentences: what a reader of the report has to know of the images."""
        if self.available < self.asked:
            yield (f'{self.asked:,} images were asked for, '
                   f'{self.root} has {self.available:,}.')
        if self.broken:
            path, reason = next(iter(self.broken.items()))
            yield (f'{len(self.broken):,} images could not be read and '
                   f'are left out, e.g. {path}: {reason}.')


def check_batch_size(batch_size):
    """Refuse batches of less than one image."""
    if batch_size < 1:
        raise Refused(f'--batch-size {batch_size}: one image at a time is the '
                      'least')


def pipeline_of(cfg):
    """The pipeline by which a config loads images that it does not train on.

    Raises:
        Refused: if it has none, or one that begins with another transform.
    """
    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        raise Refused(
            f'{cfg.filename} has no val_dataloader, whose pipeline says how '
            'its images are cropped: add one')
    dataset = loader.get('dataset') if isinstance(loader, dict) else None
    pipeline = dataset.get('pipeline') if isinstance(dataset, dict) else None
    if not pipeline or not all(
            isinstance(step, dict) and 'type' in step for step in pipeline):
        raise Refused(f'{cfg.filename}: val_dataloader.dataset.pipeline is '
                      f'{pipeline!r}: a list of transforms is expected')
    first, *others = pipeline
    if first.type.split('.')[-1] not in ('LoadImage', 'LoadImageFromFile'):
        raise Refused(f'{cfg.filename}: the pipeline of val_dataloader '
                      f'begins with {first.type}, not with mmfd.LoadImage')
    return Compose([dict(type='mmfd.LoadImage'), *others])
