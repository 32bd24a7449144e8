"""The official evaluation's statistics, and how they are asked for."""
import argparse

import pytest
import torch
from mmengine.registry import MODELS

from mmfd.launch.config_options import load_config

QUIRK = 'model.data_preprocessor.type'
OFFICIAL = {QUIRK: 'mmfd.OfficialEvalPreprocessor'}


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


def test_no_config_evaluates_in_other_statistics_unasked():
    for leaf in 'clip_vitb_fd_in1k', 'dino_vitb_fd_linear':
        kind = load(leaf, {}).model.data_preprocessor.type
        assert kind == 'mmpretrain.ClsDataPreprocessor'


def test_statistics_are_in_no_checkpoint():
    cfg = load('clip_vitb_fd_in1k', OFFICIAL).model.data_preprocessor
    assert not MODELS.build(dict(cfg, _scope_='mmpretrain')).state_dict()
