"""Swin V2 as FD has it: its windows, its initial weights and its files."""
import json
import math
import re

import numpy as np
import pytest
import torch
from helpers.commands import ROOT, command
from helpers.models import randomise
from helpers.models import student as vit_student
from helpers.models import swin_arch, swin_student
from helpers.pretrained import initialised, saved
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import checkpoints, strict_loading
from mmfd.weights.convert import convert
from mmfd.weights.meta_device import LinspaceOnCPU


@pytest.fixture
def official():
    return torch.load('tests/fixtures/official_esvit_swinv2.pth')


def fd_student(**kwargs):
    return initialised(swin_student(**kwargs))


def count(network):
    with torch.device('meta'), LinspaceOnCPU():
        return sum(p.numel() for p in MODELS.build(network).parameters())


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
    (dict(window_size=[4, 4]), r'\[4, 4\] for 3 stages: set .* one number'),
    (dict(test_window_size=5), r'test_window_size=5 does not divide the grids '
     r'\[16, 8, 4\].*backbone.test_window_size to one of \[2, 4, 8, 16\]'),
    (dict(test_window_size=[8, 8]),
     r'\[8, 8\] for 3 stages: set backbone.test_window_size'),
    (dict(init_cfg=dict(type='Kaiming')), "StudentSwin draws FD's initial"),
    (dict(init_cfg=dict(type='Pretrained')), 'checkpoint=FILE'),
    (dict(init_cfg=[dict(type='Pretrained')]), 'checkpoint=FILE'),
    (dict(stage_cfgs=of_attention(attn_drop=0.1)), 'attn_drop=0.1: Student'),
])
def test_size_or_setting_that_cannot_be_is_refused(change, message):
    with pytest.raises(Refused, match=message):
        fd_student(**change)


def test_image_of_another_size_is_refused_unless_windows_are_padded():
    images = torch.randn(1, 3, 80, 56)
    with pytest.raises(Refused, match='80 x 56 .* img_size=64'):
        fd_student()(images)
    padded = fd_student(pad_small_map=True).eval()
    assert padded(images)[0].shape == (1, 96, 5, 4)


def bias_by_microsofts_formula(w_msa, window, trained):
    """(H, L, L), pair by pair, in double precision."""
    inner, outer = (
        layer.weight.detach().double().numpy()
        for layer in (w_msa.cpb_mlp[0], w_msa.cpb_mlp[2]))
    shift = w_msa.cpb_mlp[0].bias.detach().double().numpy()
    offsets = np.arange(1 - window, window) / (trained - 1) * 8
    offsets = np.sign(offsets) * np.log2(np.abs(offsets) + 1) / np.log2(8)
    table = np.stack(np.meshgrid(offsets, offsets, indexing='ij'), -1)
    table = np.maximum(table @ inner.T + shift, 0) @ outer.T
    table = 16 / (1 + np.exp(-table))
    y, x = (i.ravel() for i in np.mgrid[:window, :window])
    return table[y[:, None] - y + window - 1,
                 x[:, None] - x + window - 1].transpose(2, 0, 1)


@pytest.mark.parametrize('pretrained', [0, 14])
@pytest.mark.parametrize('window', [32, 48])
def test_bias_of_other_windows_is_microsofts_formula(window, pretrained):
    model = lively(
        fd_student(
            arch=swin_arch(12, (1, ), (2, )),
            img_size=128,
            window_size=32,
            pretrained_window_sizes=[pretrained],
            out_indices=0,
            pad_small_map=True,
            test_window_size=window)).eval()
    w_msa = model.stages[0].blocks[0].attn.w_msa
    w_msa.cpb_mlp[0].weight.data *= 20  # so that sigmoids differ
    bias = w_msa.bias().detach().numpy()
    expected = bias_by_microsofts_formula(w_msa, window, pretrained or 32)
    assert bias.std() > 0.05
    np.testing.assert_allclose(bias, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('pretrained', [0, 14])
def test_features_in_larger_windows_are_those_of_the_host(pretrained):
    settings = dict(
        arch=swin_arch(12, (2, 1), (2, 4)),
        img_size=128,
        pad_small_map=True,
        out_indices=(1, ))
    ours = lively(
        fd_student(
            window_size=[32, 16],
            test_window_size=48,
            pretrained_window_sizes=[pretrained] * 2,
            **settings))
    assert [*ours.state_dict()
            ] == [*fd_student(window_size=32, **settings).state_dict()]
    host = MODELS.build(
        swin_student(
            type='mmpretrain.SwinTransformerV2',
            window_size=48,
            pretrained_window_sizes=[pretrained or 32, pretrained or 16],
            **settings))
    host.eval()  # it returns nothing
    host.load_state_dict(
        {
            name: value
            for name, value in ours.state_dict().items()
            if not name.endswith(checkpoints.DERIVED_BUFFERS)
        },
        strict=False)
    images = torch.randn(1, 3, 230, 384)  # some windows are padded
    with torch.no_grad():
        larger, expected = ours.eval()(images)[0], host(images)[0]
        alike = ours.train()(images)[0]
    torch.testing.assert_close(larger, expected, rtol=1e-5, atol=1e-5)
    assert (larger - alike).abs().max() > 1e-3


def test_windows_of_the_test_leave_those_of_training_alone():
    settings = dict(img_size=64, window_size=4, pad_small_map=True)
    plain, images = lively(fd_student(**settings)), torch.randn(2, 3, 64, 64)
    for test_windows in 4, [8, 8, 4]:
        other = fd_student(test_window_size=test_windows, **settings)
        other.load_state_dict(plain.state_dict(), strict=True)
        other.eval()
        assert torch.equal(other.train()(images)[0], plain.train()(images)[0])
        equal = torch.equal(other.eval()(images)[0], plain.eval()(images)[0])
        assert equal == (test_windows == 4)
        shifts = [
            block.attn.shift_size for stage in other.stages
            for block in stage.blocks
        ]
        sides = [test_windows] * 3 if test_windows == 4 else test_windows
        assert shifts == [0, 0, sides[1] // 2, 0]


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


def test_networks_of_blocks_are_not_taken_for_a_shared_one(tmp_path):
    init = saved(fd_student(), tmp_path / 'own.pth')
    with pytest.raises(
            Refused, match='stages.1.blocks.1.*use_shared_rel_pos_bias'):
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
    with pytest.raises(Refused, match=message):
        fd_student(**dict(change, init_cfg=init))


def test_tables_are_never_those_of_a_file(tmp_path):
    wrong = {
        name: value + 1 if name.endswith('position_index') else value
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


# --- a run of the official recipe ---

RUN_FD = '''
_base_ = '{repo}/configs/fd/esvit_swinb_fd.py'
student_arch = dict(
    _delete_=True, embed_dims=24, depths=(1, 2, 1), num_heads=(1, 2, 4),
    extra_norm_every_n_blocks=0)
teacher_arch = dict(
    _delete_=True, embed_dims=16, depths=(1, 2, 1), num_heads=(1, 2, 4))
small = dict(img_size=64, window_size=4, out_indices=(2, ))
model = dict(
    teacher=dict(
        checkpoint='{folder}/esvit.pth', img_size=64,
        backbone=dict(arch=teacher_arch, stage_cfgs=[dict()] * 3, **small)),
    backbone=dict(arch=student_arch, **small),
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
                          'classification/{leaf}').split('model =')[0] + '''
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


@pytest.fixture
def train(official, tmp_path, shapes_root):
    """Run a config to its end; the lines of its log."""
    checkpoints.save(
        convert('esvit', official['teacher_esvit']), tmp_path / 'esvit.pth',
        {})

    def train(name, text, **changes):
        config, run = tmp_path / f'{name}.py', tmp_path / name
        config.write_text(
            text.format(
                repo=ROOT, folder=tmp_path, shapes=shapes_root, **changes))
        command('train', config, '--work-dir', run)
        assert (run / 'epoch_1.pth').is_file()
        file, = run.glob('*/vis_data/scalars.json')
        return [json.loads(line) for line in file.read_text().splitlines()]

    return train


def test_swin_is_distilled_and_the_student_fine_tuned(train):
    losses = [
        line['loss'] for line in train('fd', RUN_FD) if 'grad_norm' in line
    ]
    assert len(losses) == 4 and all(0.1 < loss < 1 for loss in losses)
    log = train(
        'after',
        RUN_TUNE,
        leaf='esvit_swinb_fd_in1k',
        arch='student_arch',
        width=96,
        weights='fd/epoch_1.pth',
        more='')
    assert any('accuracy/top1' in line for line in log)


@pytest.mark.full
def test_teacher_is_fine_tuned(train):
    log = train(
        'before',
        RUN_TUNE,
        leaf='esvit_swinb_in1k',
        arch='teacher_arch',
        width=64,
        weights='esvit.pth',
        more='stage_cfgs=[dict()] * 3')
    assert any('accuracy/top1' in line for line in log)


def test_stages_are_counted_from_the_last_too():
    image = torch.rand(1, 3, 64, 64)
    for indices, sides in ((-1, [4]), ((-1, ), [4]), ((-3, 2), [16, 4])):
        model = fd_student(out_indices=indices).eval()
        assert [x.shape[-1] for x in model(image)] == sides
    with pytest.raises(
            Refused,
            match=r'out_indices=\[3\] of a backbone of 3 '
            'stages: set backbone.out_indices to some of 0 to 2'):
        fd_student(out_indices=(3, ))
    for student in swin_student, vit_student:
        with pytest.raises(Refused, match=r'out_indices=\[\] of a backbone'):
            MODELS.build(student(out_indices=()))
    with pytest.raises(Refused, match='frozen_stages=3 of a backbone of stag'):
        fd_student(frozen_stages=3)
