"""Captions say what is drawn, and the loss asks for the own one."""
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement

from mmfd.data import toy_images


@pytest.fixture
def captions(monkeypatch):
    monkeypatch.syspath_prepend('evidence')
    import captions
    return captions


def test_caption_names_the_shape_and_where_it_is(captions):
    for index in range(20):
        _, texture, shape, row, column = captions.caption('train', index)
        image, label, objects = toy_images.draw('train', index)
        y, x = (i.mean() / toy_images.SIZE for i in objects[-1][1].nonzero())
        assert shape == toy_images.CLASSES[label]
        assert row == ('top', 'middle', 'bottom')[int(3 * y)]
        assert column == ('left', 'centre', 'right')[int(3 * x)]


def test_texture_follows_from_the_class_in_part_as_it_is_drawn(captions):
    """0.6 and a sixth of the rest, of 60 discs: 40; five errors aside."""
    disc = toy_images.CLASSES.index('disc')
    favourite = captions.TEXTURES[disc % toy_images.TEXTURES]
    found = Counter(
        captions.caption('train', 10 * i + disc)[1] for i in range(60))
    assert abs(found[favourite] - 40) < 5 * (60 * 2 / 9)**0.5


@pytest.mark.parametrize('bgr, name', [((0, 0, 200), 'red'),
                                       ((0, 200, 200), 'yellow'),
                                       ((200, 0, 0), 'blue'),
                                       ((120, 120, 125), 'grey')])
def test_colour_is_that_of_the_shape(captions, monkeypatch, bgr, name):
    image, mask = np.zeros((96, 96, 3), np.uint8), np.zeros((96, 96), bool)
    mask[:32, 64:] = True
    image[mask] = bgr
    monkeypatch.setattr(toy_images, 'draw_with_texture', lambda *_:
                        (image, 3, 1, [(3, mask)]))
    assert captions.caption('train',
                            0) == [name, 'striped', 'disc', 'top', 'right']


def test_loss_is_cross_entropy_of_images_among_texts_and_back(captions):
    arch = dict(
        embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8)
    model = captions.CaptionContrast(
        dict(
            type='mmpretrain.VisionTransformer',
            arch=arch,
            img_size=16,
            patch_size=8,
            out_type='cls_token'), 8, BaseDataPreprocessor())
    words = [[0, 7, 13], [1, 8, 14], [2, 9, 15]]
    samples = [BaseDataElement(metainfo=dict(words=x)) for x in words]
    x = torch.randn(3, 3, 16, 16)
    image = model.towers.project(model.backbone(x)[-1])
    text = model.towers.text(
        torch.stack([model.towers.words.weight[row].mean(0) for row in words]))
    cosine = torch.cosine_similarity(image[:, None], text[None], dim=2) * 10
    by_hand = -(cosine.log_softmax(1).diag() + cosine.log_softmax(0).diag())
    loss = model(x, samples)['loss']
    torch.testing.assert_close(loss, by_hand.mean() / 2)
