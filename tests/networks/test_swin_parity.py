"""The Swin V2 student against the official code, number by number.

`fixtures/official_esvit_swinv2.pth` holds what the official code computed in
fp32 on a tiny random Swin V2 with a tiny random EsViT: weights, tokens, loss
and gradients, and the same student fine-tuned at twice the size and window.
"""
import re

import pytest
import torch
from helpers.models import (distillation, esvit_teacher, official_swin_name,
                            swin_student)
from helpers.official import assert_relative, build, pixels_of
from helpers.pretrained import saved
from mmengine.registry import MODELS

from mmfd.weights import checkpoints
from mmfd.weights.convert import CONVERTERS, find
from mmfd.weights.meta_device import LinspaceOnCPU

SWIN = ('fd/esvit_swinb_fd', 'classification/esvit_swinb_fd_in1k')
swinv2 = CONVERTERS['swinv2']


@pytest.fixture(scope='module')
def official():
    return torch.load('tests/fixtures/official_esvit_swinv2.pth')


@pytest.fixture
def ours(official, tmp_path):
    file = tmp_path / 'checkpoint_best.pth'
    wrong = {k: torch.randn(9) for k in official['teacher_esvit']}
    torch.save(dict(student=official['teacher_esvit'], teacher=wrong), file)
    network, _ = find('esvit', checkpoints.load(file), file)
    checkpoints.save(network.fitted, tmp_path / 'esvit.pth', {})
    model = MODELS.build(
        distillation(
            esvit_teacher(tmp_path / 'esvit.pth'),
            backbone=swin_student(),
            neck=dict(
                type='mmfd.ProjectionNeck', in_channels=96, out_channels=64)))
    model.backbone.load_state_dict(swinv2(official['student']), strict=False)
    model.neck.projection.load_state_dict(
        dict(
            weight=official['decoder']['0.weight'][..., 0],
            bias=official['decoder']['0.bias']))
    return model.train()


def test_target_tokens_pred_and_loss_equal_the_official_ones(ours, official):
    pixels, out = pixels_of(official), official['out']
    feats = ours.extract_feat(pixels)
    tokens = feats[-1].flatten(2).transpose(1, 2)
    teacher = ours.teacher.backbone(ours.normalize(pixels))[-1]
    assert_relative(teacher.flatten(2).transpose(1, 2), out['teacher'], 1e-5)
    assert_relative(ours.teacher(pixels), out['target'], 1e-5)
    assert_relative(tokens, out['tokens'], 1e-5)
    assert_relative(ours.neck(feats), out['pred'], 1e-5)
    assert_relative(ours.loss(pixels)['loss'], out['loss'], 1e-5)


@pytest.mark.parametrize('with_cp', [False, True])
def test_gradient_of_every_parameter_equals_the_official_one(
        ours, official, with_cp):
    for stage in ours.backbone.stages:
        for block in stage.blocks:
            block.with_cp = with_cp
    ours.loss(pixels_of(official))['loss'].backward()
    grads = official['out']['grads']
    # renaming and reordering gradients is renaming and reordering weights
    expected = swinv2({
        name.removeprefix('encoder.'): grad
        for name, grad in grads.items() if name.startswith('encoder.')
    })
    found = dict(ours.backbone.named_parameters())
    assert found.keys() == expected.keys() and len(grads) == len(found) + 2
    for name, param in found.items():
        assert_relative(param.grad, expected[name], 1e-4)
    projection = ours.neck.projection
    assert_relative(projection.weight.grad, grads['decoder.0.weight'][..., 0],
                    1e-4)
    assert_relative(projection.bias.grad, grads['decoder.0.bias'], 1e-4)


def test_logits_at_another_size_and_window_equal_the_official_ones(
        official, tmp_path):
    case = official['finetune']
    distilled = MODELS.build(swin_student())
    distilled.load_state_dict(swinv2(official['student']), strict=False)
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=swin_student(
                img_size=128,
                window_size=8,
                init_cfg=saved(distilled, tmp_path / 'fd.pth', 'backbone.')),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='mmpretrain.LinearClsHead', num_classes=7,
                in_channels=96)))
    model.init_weights()
    model.head.fc.load_state_dict({
        name.removeprefix('head.'): value
        for name, value in case['head'].items()
    })
    assert_relative(model.eval()(case['input']), case['logits'], 1e-5)
    for name, table in case['tables'].items():
        attn = model.backbone.stages[0].blocks[0].attn.w_msa
        assert_relative(attn.relative_coords_table, table, 1e-6)


# --- layers, decay, counts ---


def official_layer(name, depths):
    """Facts C.3: the layer id of an official name."""
    if name.startswith('patch_embed'):
        return 0
    found = re.match(r'layers\.(\d+)\.(downsample|blocks\.(\d+))\.', name)
    if not found:
        return sum(depths) + 1
    stage = int(found[1])
    if found[2] == 'downsample':
        return sum(depths[:stage + 1])
    return sum(depths[:stage]) + int(found[3]) + 1


UNDECAYED = {  # facts A.6; the second is Swin V1's own code
    'mmfd.StudentSwin': ('rpe_mlp', 'logit_scale', 'absolute_pos_embed'),
    'mmpretrain.SwinTransformer': ('relative_position_bias_table', ),
}


@pytest.mark.parametrize('config', [*SWIN, 'classification/esvit_swinb_in1k'])
def test_decay_and_layer_of_every_parameter_are_the_official_ones(config):
    cfg, model, optim_wrapper = build(config)
    decay = cfg.optim_wrapper.get('paramwise_cfg', {}).get('layer_decay', 1.)
    undecayed = UNDECAYED[cfg.model.backbone.type]
    found = {
        name: (group['weight_decay'], group['lr'])
        for group in optim_wrapper.optimizer.param_groups
        for name in group['param_names']
    }
    assert found.keys() == dict(model.named_parameters()).keys()
    depths, layers, kinds = [2, 2, 18, 2], set(), set()
    for name, param in model.named_parameters():
        own = official_swin_name(name.removeprefix('backbone.'))
        if cfg.model.backbone.type == 'mmpretrain.SwinTransformer':
            own = re.sub(  # it merges where the official code does
                r'^layers\.(-?\d+)\.downsample',
                lambda found: f'layers.{int(found[1]) + 1}.downsample', own)
        weight_decay, lr = found[name]
        kept = param.ndim == 1 or own.endswith('.bias') or any(
            part in own for part in undecayed)
        kinds.update(part for part in undecayed if part in own)
        assert weight_decay == (0 if kept else 0.05), name
        layer = official_layer(own, depths)
        layers.add(layer)
        assert lr == pytest.approx(cfg.optim_wrapper.optimizer.lr *
                                   decay**(25 - layer)), name
    assert layers == set(range(26))
    assert kinds == set(undecayed) - {'absolute_pos_embed'}


def test_parameter_counts_are_the_official_ones():
    _, fd, _ = build(SWIN[0])
    assert sum(p.numel() for p in fd.backbone.parameters()) == 86_893_816
    assert sum(p.numel() for p in fd.neck.parameters()) == 1_049_600
    assert sum(p.numel()
               for p in fd.teacher.backbone.parameters()) == 86_917_944
    _, classifier, _ = build(SWIN[1])
    assert sum(p.numel() for p in classifier.parameters()) == 87_918_816
    with torch.device('meta'), LinspaceOnCPU():
        shared = MODELS.build(
            dict(type='mmfd.StudentSwin', use_shared_rel_pos_bias=True))
    assert sum(p.numel() for p in shared.parameters()) == 86_701_304
