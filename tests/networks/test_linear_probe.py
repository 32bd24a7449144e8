"""The linear probe: a frozen backbone, a head as the official script's."""
import re

import pytest
import torch
import torch.nn.functional as F
from helpers.commands import ROOT, command
from helpers.models import arch, dino_teacher, downstream, student
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from mmfd.weights import checkpoints, strict_loading

LEAF = 'configs/classification/clip_vitb_fd_linear.py'


@pytest.fixture
def probe():
    """A tiny student in the probe's config, its drop path far from zero."""
    cfg = Config.fromfile(LEAF)
    cfg.model.backbone = downstream(drop_path_rate=0.5)
    cfg.model.neck.input_features = cfg.model.head.in_channels = 48
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = 4
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        model.init_weights()
        cfg.optim_wrapper.optimizer.lr *= 16384 / 512
        wrapper = dict(cfg.optim_wrapper, type='OptimWrapper')
        return model, build_optim_wrapper(model, wrapper)


def batch():
    """Four colours of noise, to be told apart."""
    labels = torch.arange(4).repeat(8)
    colours = 40. + 50 * torch.stack([labels % 2, labels // 2, labels], 1)
    images = colours[..., None, None] + 40 * torch.rand(32, 3, 32, 32)
    return dict(
        inputs=images,
        data_samples=[DataSample().set_gt_label(x) for x in labels])


def test_backbone_is_the_same_after_50_steps_and_the_head_has_learnt(probe):
    model, optim = probe
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    losses = [
        model.train().train_step(batch(), optim)['loss'].item()
        for _ in range(50)
    ]
    assert losses[0] == pytest.approx(1.386, abs=0.05)  # log 4
    assert losses[-1] < 0.3, losses
    after = model.backbone.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)
    hits = [(sample.pred_label == sample.gt_label).item()
            for sample in model.eval().test_step(batch())]
    assert sum(hits) == 32


def test_backbone_has_no_gradient_and_no_place_in_the_optimizer(probe):
    model, optim = probe
    names = [
        name for group in optim.optimizer.param_groups
        for name in group['param_names']
    ]
    assert sorted(names) == ['head.fc.bias', 'head.fc.weight']
    model.train_step(batch(), optim)
    assert all(p.grad is None for p in model.backbone.parameters())
    feature = model.extract_feat(torch.randn(2, 3, 32, 32))[-1]
    assert not feature.requires_grad


def test_backbone_stays_in_eval_and_the_batch_norm_does_not(probe):
    model, _ = probe
    assert model.train() is model and model.neck.bn.training
    assert not any(module.training for module in model.backbone.modules())
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(model.backbone(images)[-1], model.backbone(images)[-1])


def test_feature_is_a_bare_norm_of_the_mean_patch_before_the_last_norm(
        probe, tmp_path):
    distilled = MODELS.build(student())
    distilled.init_weights()
    torch.nn.init.normal_(distilled.ln1.weight)  # learnt, and left out
    weights = {f'backbone.{k}': v for k, v in distilled.state_dict().items()}
    checkpoints.save(weights, tmp_path / 'epoch_1.pth', {})
    model, _ = probe
    strict_loading.load_into(model.backbone, tmp_path / 'epoch_1.pth',
                             'backbone')
    images = torch.randn(4, 3, 32, 32)
    distilled.ln1 = torch.nn.Identity()
    tokens = distilled.eval()(images)[-1]
    expected = F.layer_norm(tokens[:, 1:].mean(1), (48, ), eps=1e-6)
    torch.testing.assert_close(model.backbone(images)[-1], expected)


def test_head_is_the_official_batch_norm_and_linear_layer(probe):
    model, _ = probe
    official = torch.nn.Sequential(
        torch.nn.BatchNorm1d(48, affine=False, eps=1e-6), model.head.fc)
    features = 3 + 5 * torch.randn(16, 48)
    for training in True, False:
        model.train(training)
        official.train(training)
        ours = model.head(model.neck((features, )))
        torch.testing.assert_close(ours, official(features))
    assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert not model.head.fc.bias.any()


TINY = '''
_base_ = '{repo}/configs/classification/dino_vitb_linear.py'
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        arch=dict(_delete_=True, **{arch}),
        img_size=32,
        patch_size=8,
        init_cfg=dict(checkpoint='{folder}/dino.pth')),
    neck=dict(input_features=128),
    head=dict(in_channels=128, num_classes=10))
images = dict(
    batch_size=30, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{shapes}/imagenet', pipeline=[
        dict(type='mmfd.LoadImage'),
        dict(type='mmfd.ClampedCrop', scale=32),
        dict(type='mmpretrain.PackInputs')]))
train_dataloader = val_dataloader = test_dataloader = images
train_cfg = dict(max_epochs=1)
default_hooks = dict(param_scheduler=dict(warmup_epochs=0))
'''


def test_teacher_is_probed_from_its_file(tmp_path, shapes_root):
    teacher = MODELS.build(dino_teacher(layers=2)).backbone.state_dict()
    checkpoints.save(teacher, tmp_path / 'dino.pth', {})
    config, run = tmp_path / 'probe.py', tmp_path / 'run'
    config.write_text(
        TINY.format(
            repo=ROOT,
            folder=tmp_path,
            shapes=shapes_root,
            arch=arch(128, 2, 2)))
    trained, tested = (
        re.findall(r'accuracy/top1 ([\d.]+)',
                   command(*arguments, '--work-dir', run))
        for arguments in (('train', config), ('test', config,
                                              run / 'epoch_1.pth')))
    assert len(trained) == 1
    saved = checkpoints.load(run / 'epoch_1.pth')['state_dict']
    assert all(
        torch.equal(saved[f'backbone.{k}'], v) for k, v in teacher.items())
    assert len(tested) == 1
