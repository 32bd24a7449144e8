"""A classifier in hand: which class an image is of, with what probability."""
import json

import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS
from torch import nn

from mmfd.data.decode import MAX_PIXELS
from mmfd.errors import Refused
from mmfd.recipes.images import short_edge
from mmfd.recipes.runs import file_in
from mmfd.weights import checkpoints, provenance, strict_loading, weight_files
from mmfd.weights.carried_config import carried_config, is_trusted

FILE = weight_files.CLASSIFIER


class Classifier(nn.Module):
    """A fine-tuned network and the names of its classes.

    Args:
        model (nn.Module): `mmpretrain.ImageClassifier`.
        classes (list[str]): in the order of its outputs.
        img_size (tuple[int]): (H, W) of the images that it sees.
    """

    def __init__(self, model, classes, img_size):
        super().__init__()
        self.model = model
        self.classes = classes
        self.load = Compose(_pipeline(img_size))
        self.eval()

    @torch.inference_mode()
    def forward(self, path):
        """The probability of each class, (classes, ), for an image file.

        Raises:
            BrokenImage: if it cannot be read.
        """
        batch = pseudo_collate([self.load(dict(img_path=str(path)))])
        batch = self.model.data_preprocessor(batch)
        logits = self.model(batch['inputs'], mode='tensor')
        return logits[0].softmax(0).cpu()


def _pipeline(img_size):
    """How images are read, as in the evaluation of `images.loaders`."""
    return [
        dict(type='mmfd.LoadImage'),
        dict(
            type='mmpretrain.ResizeEdge',
            scale=short_edge(img_size),
            edge='short',
            interpolation='bicubic',
            backend='pillow'),
        dict(type='mmpretrain.CenterCrop', crop_size=img_size[::-1]),  # (W, H)
        dict(type='mmpretrain.PackInputs')
    ]


def save_classifier(checkpoint, model, img_size, path):
    """Write the classifier of a checkpoint, with all that builds it again.

    Args:
        checkpoint (str): of the run.
        model (dict): the config of its model.
        img_size (tuple[int]): (H, W) of its images.
        path (str): of the file to write.
    """
    loaded = checkpoints.load(checkpoint)
    backbone = dict(model['backbone'])
    backbone.pop('init_cfg')
    carried = dict(
        data_preprocessor=model['data_preprocessor'],
        backbone=backbone,
        neck=model.get('neck'))
    meta = dict(
        provenance.of_file(checkpoint),
        model=json.dumps(carried),
        classes=json.dumps(loaded['meta']['dataset_meta']['classes']),
        img_size=json.dumps(img_size))
    checkpoints.save(checkpoints.state_dict_of(loaded, checkpoint), path, meta)


def load_classifier(path):
    """The classifier of a file, or of the folder of its run.

    Args:
        path (str): file or folder of `mmfd finetune`.

    Raises:
        Refused: if it holds none.
    """
    file = file_in(path, FILE, 'mmfd finetune')
    model, meta = carried_config(file, to_build=True), checkpoints.meta(file)
    if 'classes' not in meta:
        raise Refused(f'{file} is no classifier, as it names no classes: '
                      'mmfd finetune makes one of a student')
    weights = checkpoints.state_dict_in(file)
    try:
        classes = [str(name) for name in json.loads(meta['classes'])]
        height, width = map(int, json.loads(meta['img_size']))
        neck, channels = model['neck'], weights['head.fc.weight'].shape[1]
        trusted = is_trusted(neck) and provenance.statistics(meta)
    except (IndexError, KeyError, TypeError, ValueError,
            RecursionError) as error:  # a file may say anything
        raise Refused(f'{file} is no classifier of mmfd finetune: '
                      f'{type(error).__name__}: {error}') from error
    if not trusted or not classes or not 0 < height * width < MAX_PIXELS:
        raise Refused(f'{file} is no classifier of mmfd finetune')
    network = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            data_preprocessor=dict(
                provenance.statistics(meta),
                type='mmpretrain.ClsDataPreprocessor',
                to_rgb=True),
            backbone=model['backbone'],
            neck=neck,
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=len(classes),
                in_channels=channels)))
    strict_loading.load_into(network, file)
    return Classifier(network, classes, (height, width))
