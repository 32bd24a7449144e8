"""Pixels of a batch, and evaluation with CLIP's statistics."""
import argparse

import pytest
import torch
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.launch.config_options import load_config
from mmfd.pixels import Normalize

OFFICIAL = {'model.data_preprocessor.type': 'mmfd.OfficialEvalPreprocessor'}


def load(leaf, options):
    return load_config(
        argparse.Namespace(
            config=f'configs/classification/{leaf}.py',
            cfg_options=options,
            data_root=None,
            work_dir=None,
            launcher='none',
            local_rank=0))


@pytest.mark.parametrize('leaf', ['clip_vitb_fd_in1k', 'dino_vitb_fd_linear'])
def test_one_option_evaluates_in_clips_statistics_and_trains_as_before(leaf):
    images = dict(inputs=torch.randint(0, 256, (2, 3, 4, 4)).float())
    plain, official = (
        MODELS.build(
            dict(
                load(leaf, options).model.data_preprocessor,
                _scope_='mmpretrain')) for options in ({}, OFFICIAL))
    torch.testing.assert_close(
        official(images, True)['inputs'],
        plain(images, True)['inputs'])
    rgb = images['inputs'].flip(1) / 255
    mean = torch.tensor([.48145466, .4578275, .40821073]).view(3, 1, 1)
    std = torch.tensor([.26862954, .26130258, .27577711]).view(3, 1, 1)
    evaluated = official(images, False)['inputs']
    torch.testing.assert_close(evaluated, (rgb - mean) / std)
    assert not torch.allclose(evaluated, plain(images, False)['inputs'])


def test_configs_evaluate_in_their_own_statistics_by_default():
    for leaf in 'clip_vitb_fd_in1k', 'dino_vitb_fd_linear':
        kind = load(leaf, {}).model.data_preprocessor.type
        assert kind == 'mmpretrain.ClsDataPreprocessor'


def test_statistics_are_in_no_checkpoint():
    cfg = load('clip_vitb_fd_in1k', OFFICIAL).model.data_preprocessor
    assert not MODELS.build(dict(cfg, _scope_='mmpretrain')).state_dict()


def test_preprocessor_turns_bgr_bytes_into_rgb_pixels():
    preprocess = MODELS.build(dict(type='mmfd.PixelPreprocessor'))
    bgr = [torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1)] * 2
    inputs = preprocess(dict(inputs=bgr))['inputs']
    assert inputs.dtype is torch.float32
    assert inputs.flatten(1).tolist() == [[3, 2, 1]] * 2


def test_images_of_different_sizes_say_what_to_set():
    preprocess = MODELS.build(dict(type='mmfd.PixelPreprocessor'))
    images = [torch.zeros(3, 4, 4), torch.zeros(3, 4, 6)]
    with pytest.raises(Refused, match='end the pipeline with a crop'):
        preprocess(dict(inputs=images))


@pytest.mark.parametrize('mean, std', [
    (5, [1.] * 3),
    ([0.] * 4, [1.] * 4),
    ([0.] * 3, [1., 0., 1.]),
])
def test_statistics_that_divide_by_nothing_are_refused(mean, std):
    with pytest.raises(Refused, match='3 numbers each are expected, of RGB'):
        Normalize(mean, std)
