"""Predict images with a trained model, and draw what it says."""
import tempfile
from pathlib import Path

import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, VISUALIZERS, DefaultScope

from mmfd import files
from mmfd.data.decode import BrokenImage
from mmfd.data.scan import find_images
from mmfd.data.transforms import LoadImage
from mmfd.errors import Refused
from mmfd.launch import parallel_config
from mmfd.launch.failed_start import build_errors_refused
from mmfd.registry import branches_of
from mmfd.weights import checkpoints, strict_loading

# Library of a config -> what draws in it, and its method for a prediction
DRAWING = {
    'mmpretrain':
    (dict(type='mmpretrain.UniversalVisualizer'), 'visualize_cls'),
    'mmseg': (dict(type='mmseg.SegLocalVisualizer',
                   alpha=0.6), 'add_datasample'),
    'mmdet': (dict(type='mmdet.DetLocalVisualizer'), 'add_datasample'),
}
# Transforms of a test pipeline that read files: the image is read already, and
# there may be no labels
READERS = 'LoadImage', 'LoadImageFromFile', 'LoadAnnotations'


class Predictor:
    """A trained model that writes pictures of its predictions.

    Args:
        cfg (Config): of a classifier, a segmentor or a detector; changed in
            place.
        checkpoint (str): what its training wrote.

    Raises:
        Refused: if the config is of a distillation or has no pipeline to test
            with, or the checkpoint does not fit.
    """

    def __init__(self, cfg, checkpoint):
        self.library = cfg.get('default_scope')
        if branches_of(cfg.model) or self.library not in DRAWING:
            raise Refused(
                f'{cfg.filename} predicts no classes: give the config of a '
                'fine-tuned classifier, a segmentor or a detector. What a '
                'distilled student sees is shown by tools/analyze.py')
        if not cfg.get('test_dataloader'):
            raise Refused(f'{cfg.filename} has no test_dataloader, whose '
                          'pipeline says how images are prepared: add one')
        cfg.launcher = 'none'
        parallel_config.adapt(cfg)
        cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
        drawing, self.method = DRAWING[self.library]
        with self._scope(), build_errors_refused():
            self.model = MODELS.build(cfg.model)
            self.pipeline = Compose(_steps(cfg.test_dataloader.dataset))
        self.visualizer = VISUALIZERS.build(dict(drawing, name='predictions'))
        strict_loading.load_into(self.model, checkpoint)
        self.model.eval().to('cuda' if torch.cuda.is_available() else 'cpu')
        self.visualizer.dataset_meta = _classes(checkpoint)

    def __call__(self, path):
        """The pixels of an image and what the model says of it.

        Args:
            path (Path): image.

        Returns:
            tuple: RGB uint8 (H, W, 3), and the data sample of the library.

        Raises:
            BrokenImage: if it cannot be read.
        """
        image = LoadImage()(dict(img_path=str(path), img_id=0))
        pixels = image['img'][..., ::-1]
        with self._scope(), torch.no_grad():
            batch = pseudo_collate([self.pipeline(image)])
            [prediction] = self.model.test_step(batch)
        return pixels, prediction.cpu()

    def draw(self, path, picture, **options):
        """Predict an image and write a picture of the prediction.

        Args:
            path (Path): image.
            picture (Path): to write.
            options: of the library's method that draws, such as mmdet's
                `pred_score_thr`.

        Raises:
            BrokenImage: if the image cannot be read.
        """
        pixels, prediction = self(path)
        with files.output_file(picture) as file, \
                tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder, 'drawn.png')  # the suffix says the format
            getattr(self.visualizer, self.method)(
                image=pixels,
                data_sample=prediction,
                name=path.stem,
                draw_gt=False,
                out_file=str(drawn),
                **options)
            file.write_bytes(drawn.read_bytes())

    def _scope(self):
        return DefaultScope.overwrite_default_scope(self.library)


def predict(cfg, checkpoint, images, out, score):
    """Write a picture with the prediction for an image, or each of a folder.

    Args:
        cfg (Config), checkpoint (str): as of `Predictor`.
        images (str): image, or folder with images at any depth.
        out (str): folder for pictures of the same names, as `.png`.
        score (float): 0-1, from which on a detector's objects are drawn.

    Returns:
        tuple[int, list[str]]: how many pictures were written, and why others
            were not.

    Raises:
        Refused: as `Predictor`; if there is no image, or none can be read.
    """
    root = Path(images)
    names = [root.name] if root.is_file() else find_images(images)
    root = root.parent if root.is_file() else root
    if not names:
        raise Refused(f'{images} has no image')
    options = dict(pred_score_thr=score)
    options = options if cfg.get('default_scope') == 'mmdet' else {}
    predictor, broken = Predictor(cfg, checkpoint), []
    for name in names:
        picture = Path(out, name).with_suffix('.png')
        try:
            predictor.draw(root / name, picture, **options)
        except BrokenImage as error:
            broken.append(f'{root / name}: {error}')
    if len(broken) == len(names):
        raise Refused(f'none of {len(names)} images can be read, e.g. '
                      f'{broken[0]}')
    return len(names) - len(broken), broken


def _steps(dataset):
    """The transforms of a data set, or of the one in it, that read no file."""
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return [
        step for step in dataset['pipeline']
        if step['type'].split('.')[-1] not in READERS
    ]


def _classes(checkpoint):
    """Names and colours of the classes that a checkpoint was trained on."""
    classes = checkpoints.meta(checkpoint).get('dataset_meta')
    if not isinstance(classes, dict):
        raise Refused(f'{checkpoint} does not name the classes of its '
                      'predictions: give the checkpoint that training wrote')
    return classes
