"""Swin V2 as FD has it, and Swins of others as its teachers.

`data/official_esvit_swinv2.pth` holds what the official code computed in fp32
on a tiny random Swin V2 with a tiny random EsViT: weights, tokens, loss and
gradients, and the same student fine-tuned at twice the size and window.
"""
import json
import math
import os
import re
import runpy
import sys

import pytest
import torch
from helpers.models import (distillation, esvit_teacher, official_swin_name,
                            randomise, swin_arch, swin_student)
from helpers.official import assert_relative, build, pixels_of
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.weights import checkpoints, strict_loading
from mmfd.weights.convert import BRANCHES, CONVERTERS
from mmfd.weights.meta_device import RealSchedules

SWIN = ('fd/esvit_swinb_fd', 'classification/esvit_swinb_fd_in1k')
swin, swinv2 = CONVERTERS['swin'], CONVERTERS['swinv2']


def fd_student(**kwargs):
    model = MODELS.build(swin_student(**kwargs))
    model.init_weights()
    return model


# --- parity with the official code ---


@pytest.fixture(scope='module')
def official():
    return torch.load('tests/fixtures/official_esvit_swinv2.pth')


@pytest.fixture
def ours(official, tmp_path):
    file = tmp_path / 'checkpoint_best.pth'
    wrong = {k: torch.randn(9) for k in official['teacher_esvit']}
    torch.save(dict(student=official['teacher_esvit'], teacher=wrong), file)
    weights = checkpoints.state_dict_of(
        checkpoints.load(file), file, BRANCHES['esvit'])
    checkpoints.save(CONVERTERS['esvit'](weights), tmp_path / 'esvit.pth', {})
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


def saved(model, file, prefix=''):
    checkpoints.save({
        prefix + k: v
        for k, v in model.state_dict().items()
    }, file, {})
    return dict(type='Pretrained', checkpoint=str(file), prefix=prefix)


def test_logits_at_another_size_and_window_equal_the_official_ones(
        official, tmp_path):
    case = official['finetune']
    distilled = fd_student()
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


# --- names, layers, decay ---


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


def count(network):
    with torch.device('meta'), RealSchedules():
        return sum(p.numel() for p in MODELS.build(network).parameters())


def test_parameter_counts_are_the_official_ones():
    _, fd, _ = build(SWIN[0])
    assert sum(p.numel() for p in fd.backbone.parameters()) == 86_893_816
    assert sum(p.numel() for p in fd.neck.parameters()) == 1_049_600
    assert sum(p.numel()
               for p in fd.teacher.backbone.parameters()) == 86_917_944
    _, classifier, _ = build(SWIN[1])
    assert sum(p.numel() for p in classifier.parameters()) == 87_918_816
    assert count(dict(type='mmfd.StudentSwin')) == 86_893_816
    assert count(dict(type='mmfd.StudentSwin',
                      use_shared_rel_pos_bias=True)) == 86_701_304


def test_giant_has_three_billion_parameters_and_norms_after_six_blocks():
    student = Config.fromfile('configs/_base_/students/swinv2g.py').student
    with torch.device('meta'):  # no help needed
        model = MODELS.build(student)
    assert all(b.with_cp for stage in model.stages for b in stage.blocks)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(3.0e9, rel=0.002)
    extra = [[
        i for i, block in enumerate(stage.blocks)
        if isinstance(block.norm3, torch.nn.LayerNorm)
    ] for stage in model.stages]
    assert extra == [[], [], [5, 11, 17, 23, 29, 35, 41], []]
    teacher = Config.fromfile('configs/_base_/teachers/swinv2g.py').teacher
    assert count(teacher.backbone) == parameters


# --- windows and sizes ---


@pytest.mark.parametrize('img_size, window, expected', [
    (224, 14, [(14, 7), (14, 7), (14, 0), (7, 0)]),
    (192, 12, [(12, 6), (12, 6), (12, 0), (6, 0)]),
    (256, 8, [(8, 4), (8, 4), (8, 4), (8, 0)]),
])
def test_windows_and_shifts_are_the_official_ones(img_size, window, expected):
    model = MODELS.build(
        dict(
            type='mmfd.StudentSwin',
            arch=swin_arch(8, (2, 2, 2, 2), (1, 1, 1, 1)),
            img_size=img_size,
            window_size=window))
    seen = []
    for stage in model.stages:
        w_msa = stage.blocks[1].attn.w_msa  # the odd ones are shifted
        w_msa.register_forward_hook(
            lambda module, args, kwargs, out: seen.append(kwargs['mask']),
            with_kwargs=True)
    with torch.no_grad():
        model(torch.zeros(1, 3, img_size, img_size))
    windows = [s.blocks[1].attn.w_msa.window_size[0] for s in model.stages]
    assert windows == [window for window, _ in expected]
    for mask, stage, (window, shift) in zip(seen, model.stages, expected):
        assert (mask is not None) == (shift > 0)
        if shift:
            assert stage.blocks[1].attn.shift_size == shift
            # of the last window, a quarter sees only itself
            assert (mask[-1] == 0).sum() == sum(
                (a * b)**2 for a in (shift, window - shift)
                for b in (shift, window - shift))


def test_coordinates_are_the_published_numbers():
    attn = MODELS.build(swin_student(window_size=14, img_size=224)).stages[0]
    table = attn.blocks[0].attn.w_msa.relative_coords_table
    facts = [
        0, .2306, .3858, .5030, .5971, .6758, .7434, .8027, .8554, .9030,
        .9462, .9859, 1.0226, 1.0566
    ]  # A.4: norm8_log of a window of 14
    assert table[0, 13:, 0, 0].tolist() == pytest.approx(facts, abs=1e-4)
    assert table[0, 0, :14,
                 1].tolist() == pytest.approx([-x for x in reversed(facts)],
                                              abs=1e-4)


def of_attention(**kwargs):
    return dict(block_cfgs=dict(attn_cfgs=kwargs))


def test_dropout_behind_the_projection_is_the_hosts():
    model = fd_student(stage_cfgs=of_attention(proj_drop=0.5))
    drops = [m.proj_drop for m in model.modules() if hasattr(m, 'proj_drop')]
    assert drops and {drop.p for drop in drops} == {0.5}
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(model.train()(images)[0], model(images)[0])
        assert torch.equal(model.eval()(images)[0], model(images)[0])


@pytest.mark.parametrize('change, message', [
    (dict(img_size=72), 'img_size=72 is not a multiple of 16.*64 or 80'),
    (dict(window_size=5), r'5 does not divide the grids \[16, 8, 4\].*'
     r'one of \[2, 4, 8, 16\]'),
    (dict(init_cfg=dict(type='Kaiming')), "StudentSwin draws FD's initial"),
    (dict(stage_cfgs=of_attention(attn_drop=0.1)), 'attn_drop=0.1, qkv_bias='),
    (dict(stage_cfgs=of_attention(qkv_bias=False)), 'qkv_bias=False: Student'),
])
def test_size_or_setting_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        fd_student(**change)


def test_image_of_another_size_is_refused_unless_windows_are_padded():
    images = torch.randn(1, 3, 80, 56)
    with pytest.raises(ValueError, match='80 x 56 .* img_size=64'):
        fd_student()(images)
    padded = fd_student(pad_small_map=True).eval()
    assert padded(images)[0].shape == (1, 96, 5, 4)


# --- weights: drawn, shared, loaded ---


def test_initial_weights_are_normal_and_rescaled_by_depth():
    model = fd_student(
        arch=swin_arch(96, (2, 2, 2), (2, 4, 8), extra_norm=2), img_size=64)
    blocks = [block for stage in model.stages for block in stage.blocks]
    for depth, block in enumerate(blocks, start=1):
        attn = block.attn.w_msa
        for layer, scale in ((attn.proj, math.sqrt(2 * depth)),
                             (block.ffn.layers[1], math.sqrt(2 * depth)),
                             (attn.qkv, 1), (block.ffn.layers[0][0], 1),
                             (attn.cpb_mlp[0], 1), (attn.cpb_mlp[2], 1)):
            weight = layer.weight
            spread = 4 / math.sqrt(2 * weight.numel())  # of the deviation
            assert weight.std().item() == pytest.approx(
                0.02 / scale, rel=spread)
            assert layer.bias is None or layer.bias.abs().max() == 0
        assert torch.equal(attn.logit_scale,
                           torch.full_like(attn.logit_scale, math.log(10)))
        assert attn.q_bias.abs().max() == attn.v_bias.abs().max() == 0
        for norm in (block.norm1, block.norm2):
            assert torch.equal(norm.weight, torch.full_like(norm.weight, 1e-5))
            assert norm.bias.abs().max() == 0
    extra = [
        b.norm3 for b in blocks if isinstance(b.norm3, torch.nn.LayerNorm)
    ]
    assert [norm.weight.min() for norm in extra] == [1, 1, 1]
    # not truncated at two deviations, of which a normal has 4.55 % outside
    outside = blocks[-1].attn.w_msa.qkv.weight.abs() > 0.04
    assert outside.float().mean().item() == pytest.approx(.0455, abs=.002)
    convolution = model.patch_embed.projection
    assert convolution.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert convolution.bias.abs().max() == 0
    assert model.patch_embed.norm.weight.min() == model.norm2.weight.min() == 1
    assert model.stages[1].downsample.norm.weight.min() == 1


def test_weights_can_be_drawn_after_a_build_on_the_meta_device():
    with torch.device('meta'):
        model = MODELS.build(swin_student())
    model = model.to_empty(device='cpu')
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.fill_(7)  # whatever was in memory
    model.init_weights()
    torch.manual_seed(0)
    model.init_weights()
    torch.manual_seed(0)
    built = fd_student()
    torch.manual_seed(0)
    built.init_weights()
    for name, value in built.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize('branch', ['norm1', 'norm2'])
def test_drop_path_drops_each_branch_once_and_rescales_the_rest(branch):
    rate, samples = 0.4, 4000
    model = fd_student(drop_path_rate=rate)
    block = model.stages[-1].blocks[-1]  # the rate grows up to this block
    for name in ('norm1', 'norm2'):  # the other branch is silent
        norm = getattr(block, name)
        torch.nn.init.constant_(norm.weight, float(name == branch))
        torch.nn.init.constant_(norm.bias, 0.5 * (name == branch))
    x = torch.randn(1, 16, 96).expand(samples, -1, -1)
    with torch.no_grad():
        kept = block.eval()(x[:1], (4, 4)) - x[:1]
        got = block.train()(x, (4, 4)) - x
    dropped = got.abs().amax((1, 2)) == 0
    deviation = math.sqrt(rate * (1 - rate) / samples)
    assert abs(dropped.float().mean() - rate) < 4 * deviation
    survivors = got[~dropped]
    torch.testing.assert_close(
        survivors, (kept / (1 - rate)).expand_as(survivors),
        rtol=1e-3,
        atol=1e-5)


def test_rates_of_drop_path_grow_linearly_from_zero():
    model = fd_student(drop_path_rate=0.3)
    rates = [
        block.drop_path.drop_prob for stage in model.stages
        for block in stage.blocks
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    others = [
        module for module in model.modules()
        if type(module).__name__ in ('DropPath', 'Dropout')
        and getattr(module, 'drop_prob', 0) + getattr(module, 'p', 0)
    ]
    assert len(others) == 3  # one in each block but the first


def lively(model):
    """Branches of their own size, so that no weight hides behind 1e-5."""
    for name, param in model.named_parameters():
        if re.search(r'blocks\.\d+\.norm[12]\.weight', name):
            torch.nn.init.ones_(param)
    randomise(model)
    return model


@pytest.mark.parametrize('shared', [False, True])
def test_host_swin_loads_the_weights_and_gives_equal_features(
        tmp_path, shared):
    ours = lively(
        fd_student(
            arch=swin_arch(extra_norm=2),
            use_shared_rel_pos_bias=shared)).eval()
    saved(ours, tmp_path / 'student.pth')
    host = MODELS.build(
        dict(swin_student(), arch=swin_arch(extra_norm=2))
        | dict(type='mmpretrain.SwinTransformerV2', window_size=[4, 4, 4]))
    host.eval()
    strict_loading.load_into(host, tmp_path / 'student.pth')
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(
        ours(images)[0], host(images)[0], rtol=1e-5, atol=1e-5)


def test_shared_network_has_one_gradient_and_loads_into_every_block(tmp_path):
    shared = lively(fd_student(use_shared_rel_pos_bias=True))
    init = saved(shared, tmp_path / 'shared.pth')
    own = fd_student(init_cfg=init)
    images = torch.randn(2, 3, 64, 64)
    for model in (shared, own):
        model(images)[0].square().sum().backward()
    networks = [block.attn.w_msa.cpb_mlp for block in own.stages[1].blocks]
    assert networks[0] is not networks[1]
    one = shared.stages[1].blocks[0].attn.w_msa.cpb_mlp
    for name, param in one.named_parameters():
        copies = [network.get_parameter(name) for network in networks]
        assert all(torch.equal(copy, param) for copy in copies)
        torch.testing.assert_close(param.grad, sum(c.grad for c in copies))
    again = fd_student(use_shared_rel_pos_bias=True, init_cfg=init)
    assert torch.equal(again(images)[0], shared(images)[0])


def test_official_shared_network_is_copied_into_every_block(official):
    weights = {
        k: v
        for k, v in official['student'].items() if '.rpe_mlp.' not in k
    }
    per_block = swinv2(official['student'])
    for stage, heads in enumerate((1, 2, 4)):
        prefix = f'layers.{stage}.rel_pos_bias.'
        weights |= {
            f'{prefix}rpe_mlp.0.weight': torch.randn(512, 2),
            f'{prefix}rpe_mlp.0.bias': torch.randn(512),
            f'{prefix}rpe_mlp.2.weight': torch.randn(heads, 512),
            f'{prefix}relative_coords_table': torch.zeros(1, 7, 7, 2),
            f'{prefix}relative_position_index': torch.zeros(16, 16).long(),
        }
    converted = swinv2(weights)
    assert converted.keys() == per_block.keys()
    for block in range(2):
        key = f'stages.1.blocks.{block}.attn.w_msa.cpb_mlp.2.weight'
        assert torch.equal(converted[key],
                           weights['layers.1.rel_pos_bias.rpe_mlp.2.weight'])


def test_networks_of_blocks_are_not_taken_for_a_shared_one(tmp_path):
    init = saved(fd_student(), tmp_path / 'own.pth')
    with pytest.raises(
            ValueError, match='stages.1.blocks.1.*use_shared_rel_pos_bias'):
        fd_student(use_shared_rel_pos_bias=True, init_cfg=init)


@pytest.mark.parametrize('change, message', [
    (dict(arch=swin_arch(48)), 'another size'),
    (dict(arch=swin_arch(depths=(1, 1, 1))), 'stages.1.blocks.1'),
    (dict(arch=swin_arch(depths=(1, 2, 2))), 'stages.2.blocks.1'),
    (dict(arch=swin_arch(extra_norm=2)), 'stages.1.blocks.1.norm3'),
])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change,
                                                     message):
    init = saved(fd_student(), tmp_path / 'student.pth')
    with pytest.raises(ValueError, match=message):
        fd_student(**dict(change, init_cfg=init))


def test_bias_tables_of_other_windows_are_refused_in_one_message(tmp_path):
    small = swin_arch(16)
    del small['extra_norm_every_n_blocks']
    files, hosts = [], []
    for window in (4, 8):
        hosts.append(
            MODELS.build(
                dict(
                    type='mmpretrain.SwinTransformer',
                    arch=small,
                    img_size=32 * window // 2,
                    window_size=window,
                    out_indices=(2, ))))
        files.append(tmp_path / f'{window}.pth')
        saved(hosts[-1], files[-1])
    strict_loading.load_into(hosts[0], files[0])
    with pytest.raises(ValueError, match='tables are of other windows. Set'):
        strict_loading.load_into(hosts[1], files[0])


def test_tables_are_never_those_of_a_file(tmp_path):
    wrong = {
        name:
        value + 1 if name.endswith(checkpoints.DERIVED_BUFFERS) else value
        for name, value in fd_student().state_dict().items()
    }
    checkpoints.save(wrong, tmp_path / 'wrong.pth', {})
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'wrong.pth'))
    right = fd_student().state_dict()
    loaded, direct = fd_student(init_cfg=init), fd_student()
    direct.load_state_dict(wrong, strict=True)
    for model in (loaded, direct):
        for name, value in model.state_dict().items():
            if name.endswith(checkpoints.DERIVED_BUFFERS):
                assert torch.equal(value, right[name])


# --- converters ---

TINY = dict(
    img_size=64,
    window_size=4,
    embed_dim=24,
    depths=(1, 2, 2, 1),
    num_heads=(1, 2, 4, 8))
BASE = dict(
    img_size=224,
    window_size=14,
    embed_dim=128,
    depths=(2, 2, 18, 2),
    num_heads=(4, 8, 16, 32))


def timm_swin(version, size):
    timm = pytest.importorskip('timm')
    theirs = dict(
        v1=timm.models.swin_transformer.SwinTransformer,
        v2=timm.models.swin_transformer_v2.SwinTransformerV2)[version]
    model = theirs(
        **size,
        **(dict(pretrained_window_sizes=PRETRAINED[size['img_size']])
           if version == 'v2' else {}))
    randomise(model)
    for name, param in model.named_parameters():
        if 'relative_position_bias_table' in name or 'cpb_mlp' in name:
            torch.nn.init.normal_(param, std=0.5)
        if version == 'v2' and re.search(r'blocks.*\.norm\d\.weight', name):
            torch.nn.init.ones_(param)  # timm draws zeros: no branches
    return model.eval()


PRETRAINED = {64: (3, 3, 3, 2), 224: (12, 12, 12, 6)}


def microsoft(state_dict):
    """timm's names to those that timm's authors took over."""

    def earlier(found):
        return f'layers.{int(found[1]) - 1}.downsample'

    weights = {
        re.sub(r'layers\.(\d+)\.downsample', earlier,
               name.replace('head.fc.', 'head.')):
        value
        for name, value in state_dict.items()
    }
    for name in [k for k in weights if k.endswith('attn.proj.bias')]:
        block = name.removesuffix('attn.proj.bias')
        weights[f'{block}attn.relative_position_index'] = torch.zeros(1)
        weights[f'{block}attn_mask'] = torch.zeros(1)
    return weights


def host_of(version, size):
    """The host's network: of the teacher bases at full size."""
    name = dict(v1='esvit_swinb', v2='swinv2b')[version]
    teacher = Config.fromfile(f'configs/_base_/teachers/{name}.py').teacher
    config = teacher.backbone
    if size is TINY:
        small = swin_arch(24, (1, 2, 2, 1), (1, 2, 4, 8))
        if version == 'v1':
            del small['extra_norm_every_n_blocks']
        config.update(arch=small, img_size=64)
        if version == 'v1':
            config.update(
                window_size=4, stage_cfgs=[{}, {}, {},
                                           dict(window_size=2)])
        else:
            config.update(
                window_size=[4, 4, 4, 2],
                pretrained_window_sizes=PRETRAINED[64])
    return MODELS.build(config)


@pytest.mark.parametrize('names', [dict, microsoft])
@pytest.mark.parametrize('size', [
    pytest.param(TINY, id='tiny'),
    pytest.param(BASE, id='base', marks=pytest.mark.full),
])
@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_features_equal_those_of_timm(version, size, names, tmp_path):
    theirs = timm_swin(version, size)
    weights = names(theirs.state_dict())
    converted = dict(v1=swin, v2=swinv2)[version](weights)
    # each tensor once, but for what is left out on purpose
    left_out = [k for k in weights if k.startswith('head.')
                ] + [k for k in weights if k.endswith(('index', 'mask'))]
    assert len(converted) == len(weights) - len(left_out)
    checkpoints.save(converted, tmp_path / 'host.pth', {})
    ours = host_of(version, size)
    strict_loading.load_into(ours, tmp_path / 'host.pth')
    ours.eval()
    images = torch.randn(2, 3, size['img_size'], size['img_size'])
    with torch.no_grad():
        expected = theirs.forward_features(images)  # (B, h, w, C)
        got = ours(images)[-1].permute(0, 2, 3, 1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def fresh(kind, **kwargs):
    size = dict(TINY, depths=(1, 1, 1, 1), embed_dim=8)
    weights = timm_swin(kind, size).state_dict()
    return dict(weights, **kwargs)


@pytest.mark.parametrize('kind, weights, message', [
    ('swin', lambda: fresh('v2'), 'not Swin Transformer V1.*logit_scale'),
    ('swinv2', lambda: fresh('v1'), 'not Swin Transformer V2.*relative_pos'),
    ('swin', lambda: fresh('v1', new=torch.zeros(1)), "no 'new'"),
    ('swin', lambda: dict(cls_token=torch.zeros(1)), "no 'cls_token'"),
    ('esvit', lambda: {
        'module.norm.weight': torch.zeros(1)
    }, "not EsViT's Swin: nothing in it becomes 'patch_embed"),
])
def test_weights_of_another_kind_are_refused(kind, weights, message):
    with pytest.raises(ValueError, match=message):
        CONVERTERS[kind](weights())


def test_student_of_an_esvit_checkpoint_is_converted_without_its_heads(
        official, tmp_path, monkeypatch):
    weights = official['teacher_esvit']
    heads = {
        'module.head.mlp.0.weight': torch.zeros(1),
        'module.head.last_layer.weight_g': torch.zeros(1),
        'module.head_dense.mlp.0.weight': torch.zeros(1),
    }
    wrong = {k: v + 1 for k, v in weights.items()}
    source, to = tmp_path / 'checkpoint_best.pth', tmp_path / 'esvit.pth'
    torch.save(dict(student=weights | heads, teacher=wrong, epoch=300), source)
    monkeypatch.setattr(sys, 'argv',
                        ['convert', 'esvit',
                         str(source), str(to)])
    runpy.run_path('tools/convert.py', run_name='__main__')
    file = checkpoints.load(to)
    assert file['meta']['kind'] == 'esvit'
    found = file['state_dict']
    assert torch.equal(found['norm2.weight'], weights['module.norm.weight'])
    left_out = ('relative_position_index', 'attn_mask')
    assert len(found) == sum(not name.endswith(left_out) for name in weights)


# --- configs ---


def test_recipes_have_the_official_numbers():
    fd, tune = (Config.fromfile(f'configs/{name}.py') for name in SWIN)
    for cfg, epochs, drop_path, batch in ((fd, 300, .3, 128), (tune, 100, .4,
                                                               64)):
        backbone = cfg.model.backbone
        assert cfg.train_cfg.max_epochs == epochs
        assert cfg.train_dataloader.batch_size == batch
        assert (backbone.arch, backbone.img_size, backbone.window_size,
                backbone.drop_path_rate) == ('base', 224, 14, drop_path)
    assert fd.optim_wrapper.clip_grad.max_norm == 3.0
    assert tune.optim_wrapper.clip_grad.max_norm == 5.0
    assert tune.optim_wrapper.paramwise_cfg == dict(layer_decay=0.8)
    crop = fd.train_dataloader.dataset.pipeline[0].crop
    assert crop.crop_ratio_range == (.08, 1)
    assert tune.model.head.init_cfg.std == 0.02


def test_before_column_has_the_recipe_of_its_student():
    before, after = (
        Config.fromfile(f'configs/classification/esvit_swinb{x}_in1k.py')
        for x in ('', '_fd'))
    assert before.optim_wrapper.paramwise_cfg.pop('no_decay')
    for key in ('train_cfg', 'train_dataloader', 'val_dataloader',
                'default_hooks', 'optim_wrapper'):
        assert before[key] == after[key]
    for key in ('neck', 'head', 'train_cfg', 'data_preprocessor'):
        assert before.model[key] == after.model[key]
    assert before.model.backbone.drop_path_rate == 0.4


# --- runs ---

RUN_FD = '''
_base_ = '{repo}/configs/fd/esvit_swinb_fd.py'
student = dict(
    _delete_=True, embed_dims=24, depths=(1, 2, 1), num_heads=(1, 2, 4),
    extra_norm_every_n_blocks=0)
teacher = dict(
    _delete_=True, embed_dims=16, depths=(1, 2, 1), num_heads=(1, 2, 4))
small = dict(img_size=64, window_size=4, out_indices=(2, ))
model = dict(
    teacher=dict(
        checkpoint='{folder}/esvit.pth', img_size=64,
        backbone=dict(arch=teacher, stage_cfgs=[dict()] * 3, **small)),
    backbone=dict(arch=student, **small),
    neck=dict(in_channels=96, out_channels=64))
loader = dict(
    batch_size=30, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{shapes}/imagenet', pipeline=[
        dict(type='mmfd.LoadImage'),
        dict(type='mmpretrain.Resize', scale=64),
        dict(type='mmpretrain.PackInputs')]))
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=1),
    param_scheduler=dict(warmup_epochs=0))
'''
RUN_TUNE = RUN_FD.replace('fd/esvit_swinb_fd',
                          'classification/{name}').split('model =')[0] + '''
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        arch={arch}, init_cfg=dict(checkpoint='{folder}/{weights}'), **small,
        {more}),
    head=dict(in_channels={width}, num_classes=10))
loader =''' + RUN_FD.split('loader =', 1)[1].split("default_hooks")[0] + '''
default_hooks = dict(
    logger=dict(interval=1), param_scheduler=dict(warmup_epochs=0))
'''


@pytest.fixture(scope='module')
def project(official, tmp_path_factory, shapes_root):
    folder = tmp_path_factory.mktemp('swin')
    checkpoints.save(CONVERTERS['esvit'](official['teacher_esvit']),
                     folder / 'esvit.pth', {})
    places = dict(repo=os.getcwd(), folder=folder, shapes=shapes_root)
    for file, text in {
            'fd.py':
            RUN_FD.format(**places),
            'after.py':
            RUN_TUNE.format(
                name='esvit_swinb_fd_in1k',
                arch='student',
                width=96,
                weights='run/epoch_1.pth',
                more='',
                **places),
            'before.py':
            RUN_TUNE.format(
                name='esvit_swinb_in1k',
                arch='teacher',
                width=64,
                weights='esvit.pth',
                more='stage_cfgs=[dict()] * 3',
                **places)
    }.items():
        (folder / file).write_text(text)
    return folder


def scalars(run):
    """What a run wrote down, one dict a line."""
    return [
        json.loads(line) for file in run.glob('*/vis_data/scalars.json')
        for line in file.read_text().splitlines()
    ]


def test_swin_is_distilled_and_fine_tuned_before_and_after(
        project, monkeypatch):
    for config, run in (('fd', 'run'), ('before', 'before'), ('after',
                                                              'after')):
        arguments = [project / f'{config}.py', '--work-dir', project / run]
        monkeypatch.setattr(sys, 'argv', ['train', *map(str, arguments)])
        runpy.run_path('tools/train.py', run_name='__main__')
        assert (project / run / 'epoch_1.pth').is_file()
    losses = [
        line['loss'] for line in scalars(project / 'run')
        if 'grad_norm' in line
    ]
    assert len(losses) == 4 and all(0.1 < loss < 1 for loss in losses)
    for run in ('before', 'after'):
        assert any('accuracy/top1' in line for line in scalars(project / run))
