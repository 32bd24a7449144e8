"""Statistics of a teacher's tokens, from a folder of images to a neck."""
import json

import pytest
import torch
from helpers.commands import command, run
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmfd.analysis import target_statistics
from mmfd.analysis.images import ImageSample
from mmfd.errors import Refused
from mmfd.necks import TargetNeck
from mmfd.targets.token_statistics import load, selection
from mmfd.weights import checkpoints


@pytest.fixture(scope='module')
def teacher_file(tmp_path_factory):
    file = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    model = MODELS.build(config().model.teacher)
    checkpoints.save(model.backbone.state_dict(), file, {})
    return str(file)


def config(checkpoint='random', **neck):
    cfg = Config.fromfile('configs/demo/simclr_fd.py')
    small = dict(
        embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64)
    cfg.model.teacher.backbone.update(arch=small, img_size=32)
    cfg.model.teacher.update(checkpoint=checkpoint, img_size=32)
    cfg.model.teacher.neck.update(neck)
    return cfg


def test_statistics_are_those_of_all_tokens(teacher_file, shapes_root):
    """Computed once more, by PyTorch from all tokens at once."""
    folder = f'{shapes_root}/imagenet'
    cfg = config(teacher_file, type='mmfd.TargetNeck', tokens='map')
    dataset = DATASETS.build(
        dict(cfg.val_dataloader.dataset, data_root=folder))
    batch = pseudo_collate([*dataset])
    expected_cfg = config(teacher_file, type='mmfd.PlainNeck', tokens='map')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(expected_cfg.model.teacher)
        preprocess = MODELS.build(cfg.model.data_preprocessor)
    tokens = teacher(preprocess(batch)['inputs']).flatten(0, 1).double()
    found = target_statistics.measure(cfg, ImageSample(folder, len(dataset)),
                                      7)
    torch.testing.assert_close(found.mean, tokens.mean(0))
    torch.testing.assert_close(found.covariance, torch.cov(tokens.T))
    assert found.tokens == len(tokens) and found.images == len(dataset)
    assert found.teacher == teacher.fingerprint != 'random'
    assert json.loads(found.img_size) == [32, 32]


def test_file_of_the_command_is_what_a_neck_reads(teacher_file, shapes_root,
                                                  tmp_path):
    """Also where its config names the file that is not there yet."""
    out, cfg = tmp_path / 'tokens.safetensors', tmp_path / 'fd.py'
    neck = dict(
        type='mmfd.TargetNeck',
        normalize='phi_s',
        statistics=str(out),
        tokens='map')
    config(teacher_file, **neck).dump(cfg)
    text = command('-m', 'mmfd.__main__', 'statistics', cfg, '--images',
                   f'{shapes_root}/imagenet', '--number', 6, '--out', out)
    assert "6 images, 32 channels, tokens='map', grid=null" in text
    found = load(str(out), selection('map', None))
    target = TargetNeck('phi_s', str(out), 'map').normalize
    covariance = target.matrix.double() @ found.covariance @ (
        target.matrix.double().T)
    torch.testing.assert_close(covariance.diagonal().float(), torch.ones(32))


def test_what_cannot_be_written_is_said_before_measuring(
        teacher_file, shapes_root, tmp_path):
    path = tmp_path / 'fd.py'
    config(teacher_file).dump(path)
    status, text = run('-m', 'mmfd.__main__', 'statistics', path, '--images',
                       f'{shapes_root}/imagenet', '--out', tmp_path / 'a.txt')
    assert status == 1 and 'a.txt is to end in .safetensors' in text
    assert 'task/s' not in text


@pytest.mark.parametrize('size', [0, -1])
def test_batches_of_no_image_are_refused(teacher_file, shapes_root, size):
    images = ImageSample(f'{shapes_root}/imagenet', 2)
    with pytest.raises(Refused, match=f'--batch-size {size}: one image'):
        target_statistics.measure(config(teacher_file), images, size)


def test_branch_is_named_where_there_are_several(teacher_file, shapes_root):
    images = ImageSample(f'{shapes_root}/imagenet', 2)
    with pytest.raises(Refused, match='no branches: leave out --branch clip'):
        target_statistics.measure(config(teacher_file), images, 2, 'clip')
    several = config(teacher_file)
    branch = dict(teacher=several.model.pop('teacher'))
    several.model.branches = dict(clip=branch, dino=branch)
    with pytest.raises(Refused, match='--branch clip or dino'):
        target_statistics.measure(several, images, 2)


def test_what_has_no_statistics_is_refused(teacher_file, shapes_root):
    images = ImageSample(f'{shapes_root}/imagenet', 2)
    with pytest.raises(
            Refused, match='2 images give 2 tokens, too few for .*'
            '32 channels'):
        target_statistics.measure(
            config(teacher_file, tokens='mean'), images, 8)
    with pytest.raises(Refused, match='LogitsNeck gives logits'):
        target_statistics.measure(
            config(teacher_file, type='mmfd.LogitsNeck'), images, 8)
    with pytest.raises(Refused, match='LayersNeck gives tokens of several'):
        target_statistics.measure(
            config(teacher_file, type='mmfd.LayersNeck'), images, 8)
    cfg = Config.fromfile('configs/demo/simclr_fd.py')
    del cfg.model['teacher']
    with pytest.raises(Refused, match='has no teacher'):
        target_statistics.measure(cfg, images, 8)
