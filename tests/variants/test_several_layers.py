"""Several layers in the loss."""
import pytest
import torch
import torch.nn.functional as F
from helpers.commands import command
from helpers.models import (build_random, clip_teacher, distillation,
                            esvit_teacher, pixels, student, swin_student)
from helpers.pages import ROOT, python_blocks
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.launch.checks import target_checks
from mmfd.networks.token_layout import features_of


def projections(*widths, out=128, **kwargs):
    """A student's neck for layers of these widths."""
    return dict(
        type='mmfd.LayersNeck',
        necks=[
            dict(
                type='mmfd.ProjectionNeck',
                in_channels=width,
                out_channels=out,
                **kwargs) for width in widths
        ])


def targets(*kinds, **kwargs):
    """A teacher's neck with a target of each layer."""
    return dict(
        type='mmfd.LayersNeck',
        necks=[dict(type=f'mmfd.{kind}', **kwargs) for kind in kinds])


def layered(layers, teacher_neck, neck, **kwargs):
    teacher = clip_teacher()
    teacher.backbone.out_indices = layers
    teacher.neck = teacher_neck
    return distillation(
        teacher=teacher,
        backbone=student(out_indices=layers),
        neck=neck,
        **kwargs)


WHITE = ['WhiteningNeck'] * 2


def after_blocks(network, x, blocks):
    """Tokens (B, L, C) behind some blocks of a ViT, recorded by hooks."""
    outputs = []
    handles = [
        network.layers[i].register_forward_hook(
            lambda module, inputs, output: outputs.append(output))
        for i in blocks
    ]
    network(x)
    for handle in handles:
        handle.remove()
    return outputs


def test_loss_is_the_mean_of_the_losses_of_layers():
    """By hand: tokens behind block 2 as they are, and those of the end."""
    x = pixels(3)
    model = build_random(layered([1, 2], targets(*WHITE), projections(48, 48)))
    loss = model.loss(x)['loss']
    expected = []
    for layer in range(2):
        pred, target = (after_blocks(network, normalize(x), [1, 2])[layer]
                        for network, normalize in ((model.backbone,
                                                    model.normalize),
                                                   (model.teacher.backbone,
                                                    model.teacher.normalize)))
        if layer:  # mmpretrain's ln1 and the student's come at the end alone
            pred = model.backbone.ln1(pred)
            target = model.teacher.backbone.ln1(target)
        expected.append(
            F.smooth_l1_loss(
                model.neck.necks[layer].projection(pred),
                F.layer_norm(target, target.shape[-1:]),
                beta=2.0))
    torch.testing.assert_close(loss, sum(expected) / 2)
    assert abs(expected[0] - expected[1]) > 1e-3


def test_one_layer_is_fd():
    ours = build_random(layered([2], targets(WHITE[0]), projections(48)))
    fd = build_random(distillation())
    fd.load_state_dict({
        name.replace('neck.necks.0.', 'neck.'): value
        for name, value in ours.state_dict().items()
    })
    fd.teacher.backbone.load_state_dict(ours.teacher.backbone.state_dict())
    fd.teacher.weights_replaced()
    x = pixels()
    assert torch.equal(ours.loss(x)['loss'], fd.loss(x)['loss'])


def test_each_layer_teaches_the_blocks_up_to_it():
    """A loss of the first layer alone moves no later block."""
    model = build_random(layered([0, 2], targets(*WHITE), projections(48, 48)))
    model.neck.necks[1].projection.weight.data.zero_()
    model.loss(pixels())['loss'].backward()
    first, *_, last = model.backbone.layers
    assert first.ffn.layers[1].weight.grad.abs().max() > 0
    assert not last.ffn.layers[1].weight.grad.any()


def test_stages_of_a_swin_meet_on_one_grid():
    teacher = esvit_teacher()
    teacher.backbone.out_indices = (0, 2)
    teacher.neck = targets(*WHITE, grid=4)
    model = build_random(
        distillation(
            teacher=teacher,
            backbone=swin_student(out_indices=(0, 2)),
            neck=dict(
                type='mmfd.LayersNeck',
                necks=[
                    dict(
                        type='mmfd.ProjectionNeck',
                        in_channels=24 << stage,
                        out_channels=16 << stage,
                        grid=4) for stage in (0, 2)
                ])))
    x = pixels(2, size=64)
    target = model.teacher(x)
    assert target.shape == (2, 16, 16 + 64)
    for part in target.split([16, 64], -1):  # each white by itself
        torch.testing.assert_close(
            part.mean(-1), torch.zeros(2, 16), rtol=0, atol=1e-5)
    assert model.loss(x)['loss'] > 0


def test_registers_are_left_out_of_all_layers():

    class Network(torch.nn.Module):  # as timm's say it
        num_prefix_tokens, num_reg_tokens = 1 + 4, 4
        has_class_token = True

    tokens = [torch.randn(2, 5 + 16, 8) for _ in range(2)]
    feats = features_of(Network(), tokens, (32, 32))
    assert (feats.cls, feats.grid) == (1, (4, 4))
    for given, left in zip(tokens, feats):
        expected = torch.cat((given[:, :1], given[:, 5:]), 1)
        assert torch.equal(left, expected)


def test_the_example_of_the_docs_trains(shapes_root, tmp_path):
    [example] = (
        block for block in python_blocks(ROOT / 'docs/targets.md')
        if 'LayersNeck' in block)
    config = tmp_path / 'layers.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/demo/simclr_fd.py'\n{example}")
    output = command('train', config, '--data-root', f'{shapes_root}/imagenet',
                     '--dry-run', '--cfg-options',
                     'train_dataloader.batch_size=10')
    assert '10 iterations of ' in output


def test_hidden_patches_of_several_layers_are_learnt():
    model = build_random(
        layered([0, 2],
                targets(*WHITE),
                projections(48, 48),
                type='mmfd.MaskedFeatureDistillation',
                hidden=0.5,
                side=16))
    assert model.loss(pixels())['loss'] > 0


@pytest.mark.parametrize('layers, teacher_neck, neck, message', [
    ([2], targets(*WHITE), projections(48), 'gives 1 layers, and mmfd.Layers'
     'Neck has 2 necks: let backbone.out_indices name a layer for each'),
    ([1, 2],
     dict(
         type='mmfd.LayersNeck',
         necks=[
             dict(type='mmfd.WhiteningNeck'),
             dict(type='mmfd.WhiteningNeck', tokens='map')
         ]), projections(48,
                         48), r'give \[17, 16\] tokens: set the same grid'),
    ([1, 2], targets(*WHITE), projections(
        48, 48, out=64), 'gives 128 channels, the teacher has 256'),
    ([1, 2], targets(
        'TargetNeck', 'TargetNeck', artifacts=dict(action='mask')),
     projections(48, 48), "other ones are long in each: set it to 'clip'"),
])
def test_layers_that_do_not_meet_are_refused(layers, teacher_neck, neck,
                                             message):
    with pytest.raises(Refused, match=message):
        build_random(layered(layers, teacher_neck, neck)).loss(pixels())


@pytest.mark.parametrize('side', ['', 'teacher.'])
def test_layers_that_would_be_paired_otherwise_than_named_are_refused(side):
    """A backbone gives them in the order of its blocks, whatever it says."""
    config = layered([1, 2], targets(*WHITE), projections(48, 48))
    owner = config['teacher'] if side else config
    owner['backbone']['out_indices'] = [2, 1]
    with pytest.raises(Refused, match=rf'^{side}backbone.out_indices=\[2, 1'):
        target_checks.check_losses(build_random(config))


def test_no_layer_is_refused():
    config = layered([1, 2], targets(*WHITE), projections(48, 48))
    config['teacher']['backbone']['out_indices'] = []
    with pytest.raises(Refused, match='gives no layer: let its out_indices'):
        build_random(config).loss(pixels())


@pytest.mark.parametrize('necks', [None, [], 'mmfd.WhiteningNeck', [None]])
def test_necks_are_a_list_of_configs(necks):
    with pytest.raises(Refused, match='mmfd.LayersNeck.necks'):
        MODELS.build(dict(type='mmfd.LayersNeck', necks=necks))
