"""Blocks and their tokens are found in every kind of network."""
import torch
from helpers.models import build_random, student, swin_student
from mmengine.registry import MODELS

from mmfd.analysis.tokens import TokenRecorder, tokens_of
from mmfd.networks.blocks import blocks
from mmfd.networks.token_layout import Layout

CONVNEXT = dict(
    type='mmpretrain.ConvNeXt',
    arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32]),
    gap_before_final_norm=False)


def test_blocks_are_found_in_every_kind_of_network():
    vit, swin = (MODELS.build(c) for c in (student(), swin_student()))
    convnext = MODELS.build(CONVNEXT)
    assert [*blocks(vit)] == ['layers.0', 'layers.1', 'layers.2']
    assert [*blocks(swin)] == [
        'stages.0.blocks.0', 'stages.1.blocks.0', 'stages.1.blocks.1',
        'stages.2.blocks.0'
    ]
    assert len(blocks(convnext)) == 5


def test_tokens_of_every_block_and_of_the_output_are_recorded():
    backbone, recorded = build_random(student()), {}
    with torch.no_grad(), TokenRecorder(backbone, recorded.__setitem__):
        output = backbone(torch.randn(2, 3, 32, 32))[0]
    assert [*recorded] == ['layers.0', 'layers.1', 'layers.2', 'output']
    assert recorded['layers.0'].map.shape == (2, 4, 4, 48)
    cls, featmap = recorded['output']
    assert torch.equal(torch.cat([cls, featmap.flatten(1, 2)], 1), output)


def test_both_layouts_of_a_map_are_understood():
    channels_first = torch.randn(2, 8, 3, 3)
    for output in channels_first, channels_first.permute(0, 2, 3, 1):
        cls, featmap = tokens_of(output, Layout(None), (12, 12))
        assert cls.shape == (2, 0, 8)
        assert torch.equal(featmap, channels_first.permute(0, 2, 3, 1))
    assert tokens_of(torch.randn(2, 8), Layout(None), (12, 12)) is None


def test_prefix_is_what_the_network_says_and_the_map_is_as_the_image():
    tokens = torch.randn(1, 5 + 12 * 16, 8)  # as many as 1 + 14 * 14
    cls, featmap = tokens_of(tokens, Layout(5, registers=4), (192, 256))
    assert torch.equal(cls, tokens[:, :1])
    assert torch.equal(featmap.flatten(1, 2), tokens[:, 5:])
    assert tokens_of(tokens, Layout(None), (192, 256)) is None


def test_network_by_name_has_its_registers_left_out_on_any_grid():
    network = MODELS.build(
        dict(
            type='mmfd.TimmNetwork',
            name='vit_small_patch16_dinov3',
            img_size=(48, 80),
            model_args=dict(depth=1)))
    recorded, images = {}, torch.randn(1, 3, 48, 80)
    with torch.no_grad(), TokenRecorder(network, recorded.__setitem__):
        tokens = network(images)[-1]
        raw = network.network.forward_features(images)
    assert torch.equal(recorded['output'].map.flatten(1, 2), tokens[:, 1:])
    assert torch.equal(recorded['output'].map.flatten(1, 2), raw[:, 5:])
    inside = recorded['network.blocks.0']
    assert inside.map.shape == (1, 3, 5, 384)
    assert inside.cls.shape == (1, 1, 384)
