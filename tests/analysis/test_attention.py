"""Recorded attention maps are those that other libraries show."""
import re

import pytest
import timm
import torch
from helpers.foreign import TINY, build_exported, hf_vit, hf_weights
from helpers.models import (arch, build_random, randomise, save_trained,
                            student, swin_student)
from mmengine.registry import MODELS

from mmfd.analysis.attention import (AttentionRecorder, attention_weights,
                                     token_positions)
from mmfd.weights.convert import CONVERTERS
from mmfd.weights.export import export


def recorded(backbone, images):
    maps = []
    with torch.no_grad(), AttentionRecorder(backbone, maps.append):
        backbone(images)
    return maps


def assert_same_maps(backbone, expected, size, rtol=1e-5):
    """Expected: images to [(B W, H, L, L)]."""
    images = torch.randn(2, 3, size, size)
    maps = recorded(backbone, images)
    with torch.no_grad():
        expected = expected(images)
    assert len(maps) == len(expected) > 1
    for attention, weights in zip(maps, expected):
        assert weights.std() > 1e-3  # there is something to compare
        torch.testing.assert_close(
            attention.weights.flatten(0, 1), weights, rtol=rtol, atol=1e-5)


@torch.no_grad()
def sharp(model):
    """Fresh weights are so small that attention would be uniform."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(4)
    return model


def hf_maps(model):
    if not hasattr(model, 'set_attn_implementation'):
        pytest.skip('the transformers of the older OpenMMLab hides its maps')
    model.set_attn_implementation('eager')
    return lambda images: model(images, output_attentions=True).attentions


def timm_maps(model):
    """What the attention dropout of timm's blocks is given, unfused."""

    def maps(images):
        seen = []
        for block in model.modules():
            if hasattr(block, 'attn_drop'):
                block.fused_attn = False
                block.attn_drop.register_forward_hook(
                    lambda module, args, out: seen.append(out))
        model(images)
        return seen

    return maps


def test_maps_of_a_plain_vit_are_those_of_transformers():
    theirs = sharp(hf_vit(TINY))
    ours = MODELS.build(
        dict(
            type='mmpretrain.VisionTransformer',
            arch=arch(128, 2, 2),
            img_size=32,
            patch_size=8,
            norm_cfg=dict(type='LN', eps=1e-6),
            out_type='raw'))
    ours.load_state_dict(CONVERTERS['hf-vit'](hf_weights(theirs)))
    ours.eval()
    assert_same_maps(ours, hf_maps(theirs), 32)


@pytest.mark.parametrize('bias', ['shared', 'per block'])
def test_maps_of_a_beit_are_those_of_transformers(tmp_path, bias):
    shared = bias == 'shared'
    config = student(
        use_shared_rel_pos_bias=shared, use_rel_pos_bias=not shared)
    ours = build_random(config)
    file = save_trained(ours, tmp_path / 'epoch_1.pth')
    theirs = build_exported(export(file, dict(backbone=config), 'hf'))
    assert_same_maps(ours, hf_maps(theirs), 32)


def test_maps_of_swin_are_those_of_timm():
    theirs = timm.models.SwinTransformer(
        img_size=64,
        window_size=4,
        embed_dim=24,
        depths=(2, 2),
        num_heads=(1, 2),
        num_classes=0)
    sharp(randomise(theirs))
    official = {  # a merging ends a stage there, begins one in timm
        re.sub(r'^layers\.1\.downsample', 'layers.0.downsample', key): value
        for key, value in theirs.state_dict().items()
    }
    ours = MODELS.build(
        dict(
            type='mmpretrain.SwinTransformer',
            arch=dict(embed_dims=24, depths=(2, 2), num_heads=(1, 2)),
            img_size=64,
            window_size=4,
            out_indices=(1, )))
    weights = CONVERTERS['swin'](official)
    own = ours.state_dict()
    ours.load_state_dict({k: weights.get(k, own[k]) for k in own})
    ours.eval()
    assert_same_maps(ours, timm_maps(theirs), 64)


def test_maps_of_swin_v2_are_those_of_timm(tmp_path):
    config = swin_student()
    ours = build_random(config)
    file = save_trained(ours, tmp_path / 'epoch_1.pth')
    theirs = build_exported(export(file, dict(backbone=config), 'timm'))
    assert_same_maps(ours, timm_maps(theirs), 64)


def test_fused_and_unfused_attention_of_the_student_give_the_same_maps():
    bias = dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False)
    unfused = build_random(student(**bias))
    fused = MODELS.build(student(out_type='featmap', **bias)).eval()
    fused.load_state_dict(unfused.state_dict())
    images = torch.randn(2, 3, 32, 32)
    for one, other in zip(
            recorded(unfused, images), recorded(fused, images), strict=True):
        torch.testing.assert_close(one.weights, other.weights)
        assert torch.equal(one.positions, other.positions)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'deit3_small'])
def test_timm_is_recorded_as_it_is(name):
    name = dict(deit3_small='deit3_small_patch16_224').get(name, name)
    theirs = timm.create_model(
        name, img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    assert theirs.blocks[0].attn.fused_attn
    assert_same_maps(sharp(randomise(theirs)), timm_maps(theirs), 32)


@pytest.mark.parametrize('mask', ['none', 'float', 'bool', 'causal'])
def test_recomputed_map_times_value_is_fused_attention(mask):
    query, key, value = torch.randn(3, 2, 3, 7, 8)
    kwargs = dict(
        none={},
        causal=dict(is_causal=True),
        float=dict(attn_mask=torch.randn(3, 7, 7), scale=0.3),
        bool=dict(attn_mask=torch.rand(7, 7) > 0.3))[mask]
    fused = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, **kwargs)
    weights = attention_weights(query, key, value, **kwargs)
    torch.testing.assert_close(weights @ value, fused)


def test_recording_changes_nothing_and_leaves_nothing_behind():
    backbone = build_random(student())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = backbone(images)[0]
        with AttentionRecorder(backbone, lambda attention: None):
            during = backbone(images)[0]
    assert torch.equal(before, during)
    assert not any(m._forward_hooks or m._forward_pre_hooks
                   for m in backbone.modules())


def test_shifted_windows_are_where_they_really_are():
    """Each patch of one colour is found at its own place by its query."""
    positions, extra = token_positions((64, 64), 4, 16, shift=2)
    assert extra == 0 and positions.shape == (4, 16, 2)
    index = ((positions - 4) / 8).long()
    rolled = torch.arange(64).view(8, 8).roll((-2, -2), (0, 1))
    windows = rolled.unfold(0, 4, 4).unfold(1, 4, 4).reshape(4, 16)
    assert torch.equal(index[..., 0] * 8 + index[..., 1], windows)
    maps = recorded(build_random(swin_student()), torch.randn(1, 3, 64, 64))
    plain, shifted = (m for m in maps if m.layer[:8] == 'stages.1')
    assert plain.positions[0, 0].tolist() == [4, 4]
    assert shifted.positions[0, 0].tolist() == [20, 20]


def test_masked_pairs_of_shifted_windows_weigh_nothing():
    maps = recorded(build_random(swin_student()), torch.randn(1, 3, 64, 64))
    shifted = [m for m in maps if m.layer[:8] == 'stages.1'][1]
    near = torch.cdist(shifted.positions, shifted.positions) < 40
    assert shifted.weights[0].transpose(0, 1)[:, ~near].max() < 1e-6
    assert not near.all()


def test_positions_of_a_map_that_is_not_square_are_those_of_its_patches():
    """Behind a cls token and four registers, as the network says."""
    positions, extra = token_positions((48, 80), 1, 5 + 3 * 5, prefix=5)
    assert extra == 5
    assert positions[0, 0].tolist() == [8, 8]
    assert positions[0, -1].tolist() == [40, 72]
    assert positions.shape == (1, 15, 2)
