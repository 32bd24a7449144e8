"""Images with text: captions of drawn shapes, and a contrastive loss on them.

The least of CLIP (Radford et al., arXiv 2103.00020): a text is a bag of words,
and an image has to tell its own text from the others of its batch.
"""
import json
from colorsys import rgb_to_hsv
from functools import cache
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from mmfd.data import toy_images

COLOURS = 'red', 'yellow', 'green', 'cyan', 'blue', 'magenta'
TEXTURES = 'plain', 'striped', 'checked', 'dotted', 'shaded', 'mottled'
PLACES = 'top', 'middle', 'bottom', 'left', 'centre', 'right'
WORDS = [*COLOURS, 'grey', *TEXTURES, *PLACES, *toy_images.CLASSES]


def caption(split, index):
    """Colour, texture, shape and place of a drawn image: [word]."""
    image, label, texture, objects = toy_images.draw_with_texture(split, index)
    _, mask = objects[-1]
    hue, saturation, _ = rgb_to_hsv(*image[mask].mean(0)[::-1] / 255)
    colour = COLOURS[round(6 * hue) % 6] if saturation > 0.2 else 'grey'
    y, x = (int(3 * i.mean() / toy_images.SIZE) for i in mask.nonzero())
    shape = toy_images.CLASSES[label]
    return [colour, TEXTURES[texture], shape, PLACES[y], PLACES[3 + x]]


class AddWords:
    """A transform: the numbers of the words of an image's caption."""

    def __init__(self, captions):
        self.read = cache(lambda: json.loads(Path(captions).read_text()))

    def __call__(self, results):
        words = self.read()[Path(results['img_path']).stem]
        return dict(results, words=[WORDS.index(word) for word in words])


class Towers(nn.Module):
    """Images and texts in one space, where the cosine says what fits."""

    def __init__(self, width):
        super().__init__()
        self.project = nn.Linear(width, width)
        self.words = nn.EmbeddingBag(len(WORDS), width, mode='mean')
        self.text = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.scale = nn.Parameter(torch.tensor(10.).log())

    def images(self, cls_tokens):
        return F.normalize(self.project(cls_tokens), dim=1)

    def texts(self, words):
        """Of bags of words, (N, words in each)."""
        return F.normalize(self.text(self.words(words)), dim=1)

    def classes(self):
        """One text for each class: the mean of all captions that name it."""
        means = torch.stack([
            self.texts(
                torch.tensor([[*map(WORDS.index, (*others, shape))]
                              for others in product(COLOURS, TEXTURES,
                                                    PLACES[:3], PLACES[3:])
                              ])).mean(0) for shape in toy_images.CLASSES
        ])
        return F.normalize(means, dim=1)


class CaptionContrast(BaseModel):
    """The cls token of an image against the mean of its words."""

    def __init__(self, backbone, width, data_preprocessor):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.towers = Towers(width)

    def forward(self, inputs, data_samples=None, mode='loss'):
        words = torch.tensor([sample.words for sample in data_samples])
        image = self.towers.images(self.backbone(inputs)[-1])
        logits = self.towers.scale.exp() * image @ self.towers.texts(words).T
        own = torch.arange(len(words))
        return dict(
            loss=F.cross_entropy(logits, own) / 2 +
            F.cross_entropy(logits.T, own) / 2)
