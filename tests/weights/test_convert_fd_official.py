"""Checkpoints as the official trainers save them, options and all."""
import os
import re
import sys
import types

import pytest
import torch
from helpers.commands import command, refused
from helpers.corpus import runs_command
from helpers.models import (classifier, downstream, official_name, student,
                            swin_student)
from helpers.official import assert_relative
from helpers.official_files import (BIAS_TABLE, converted, distilled,
                                    fine_tuned, fine_tuned_swin, official_case)
from helpers.small_configs import FINETUNE
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.launch.checks.resume_checks import check_not_classified
from mmfd.weights import checkpoints, strict_loading
from mmfd.weights.convert import convert


@pytest.fixture(scope='module')
def vit():
    return official_case('clip_vit')


@pytest.fixture(scope='module')
def swin():
    return official_case('esvit_swinv2')


class CfgNode(dict):
    """As yacs pickles it: a dict with attributes of its own."""

    def __init__(self, options):
        super().__init__({
            key:
            CfgNode(value) if isinstance(value, dict) else value
            for key, value in options.items()
        })
        self.__dict__.update(
            __immutable__=True,
            __deprecated_keys__=set(),
            __renamed_keys__={},
            __new_allowed__=False)


CfgNode.__module__ = 'yacs.config'
OPTIONS = dict(
    TAG='fd_pretrain__clip_vit_base__img224__300ep',
    BASE=[''],
    DEV=dict(PRED_FEAT='CLIP_400M', CHECKPOINT_BLOCKS=[0, 0]),
    TRAIN=dict(OPTIMIZER=dict(BETAS=(0.9, 0.999)), QK_SCALE=None))


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Save weights as the official trainers do, then forget yacs."""

    def saved(weights, **more):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weight])
        weight.sum().backward()
        optimizer.step()
        yacs = types.ModuleType('yacs.config')
        yacs.CfgNode = CfgNode
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, 'yacs', types.ModuleType('yacs'))
            patch.setitem(sys.modules, 'yacs.config', yacs)
            torch.save(
                dict(
                    dict(
                        model=weights,
                        optimizer=optimizer.state_dict(),
                        lr_scheduler=dict(base_values=[1e-3], metric=None),
                        scaler=dict(scale=65536., growth_factor=2.),
                        max_accuracy=0.,
                        epoch=299,
                        config=CfgNode(OPTIONS)), **more),
                tmp_path / 'official.pth')
        monkeypatch.setitem(sys.modules, 'yacs', None)  # cannot be imported
        return tmp_path / 'official.pth'

    return saved


# --- distilled ---


@pytest.mark.parametrize('teacher', ['teacher_openai', 'teacher_esvit'])
def test_every_tensor_becomes_one_or_is_left_out_on_purpose(
        vit, swin, teacher):
    case = vit if teacher == 'teacher_openai' else swin
    weights = distilled(case, teacher)
    renamed = convert('fd-official', weights)
    network = student() if case is vit else swin_student()
    expected = {
        f'backbone.{key}'
        for key in MODELS.build(network).state_dict()
        if not key.endswith(checkpoints.DERIVED_BUFFERS)
    }
    assert renamed.keys() == expected
    derived = (*checkpoints.DERIVED_BUFFERS, 'attn_mask')  # from the grid
    used = [v for k, v in case['student'].items() if not k.endswith(derived)]
    assert sorted(v.double().sum().item() for v in renamed.values()) == \
        pytest.approx(sorted(v.double().sum().item() for v in used))
    others = [k for k in weights if not k.startswith('encoder.')]
    assert len(renamed) == len(used) == len(weights) - len(others) - sum(
        k.endswith(derived) for k in case['student'])


def test_vit_tokens_equal_the_official_ones(vit, tmp_path):
    model = MODELS.build(
        student(
            init_cfg=converted(distilled(vit, 'teacher_openai'), tmp_path)))
    model.init_weights()
    assert_relative(model.eval()(vit['input'])[0], vit['out']['tokens'], 1e-5)


def test_swin_tokens_equal_the_official_ones(swin, tmp_path):
    model = MODELS.build(
        swin_student(
            init_cfg=converted(distilled(swin, 'teacher_esvit'), tmp_path)))
    model.init_weights()
    tokens = model.eval()(swin['input'])[0].flatten(2).transpose(1, 2)
    assert_relative(tokens, swin['out']['tokens'], 1e-5)


def test_fine_tuning_at_another_size_starts_as_the_official_one(vit, tmp_path):
    case, weights = fine_tuned(vit)
    init_cfg = converted(distilled(vit, 'teacher_openai'), tmp_path)
    model = MODELS.build(dict(downstream(init_cfg=init_cfg), img_size=56))
    model.init_weights()
    for name, value in model.named_parameters():
        if not name.startswith('ln2.'):
            expected = weights[official_name(name)]
            if name.endswith(BIAS_TABLE):
                expected = case['rpb_table']
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


def test_missing_and_unexpected_are_those_of_the_official_fine_tuning(vit):
    case, _ = fine_tuned(vit)
    model = classifier(dict(downstream(), img_size=56))
    missing, unexpected = model.load_state_dict(
        convert('fd-official', distilled(vit, 'teacher_openai')), strict=False)

    def official(keys):
        return [
            official_name(key.removeprefix('backbone.')).replace('.fc.', '.')
            for key in keys
        ]

    # the index is in no file and is never missed: it follows from the grid
    assert official(missing) == [
        key for key in case['missing'] if 'relative_position_index' not in key
    ]
    assert official(unexpected) == case['unexpected']


# --- fine-tuned ---


def test_fine_tuned_vit_is_a_classifier_with_the_official_logits(vit):
    case, weights = fine_tuned(vit)
    model = classifier(dict(downstream(), img_size=56))
    model.load_state_dict(convert('fd-official', weights), strict=True)
    assert_relative(model.eval()(case['input']), case['logits'], 1e-5)


def test_fine_tuned_swin_is_a_classifier_with_the_official_logits(
        swin, tmp_path):
    case, weights = fine_tuned_swin(swin)
    checkpoints.save(
        convert('fd-official', weights), tmp_path / 'whole.pth', {})
    model = classifier(
        swin_student(img_size=128, window_size=8),
        width=96,
        neck=dict(type='mmpretrain.GlobalAveragePooling'))
    strict_loading.load_into(model, tmp_path / 'whole.pth')
    assert_relative(model.eval()(case['input']), case['logits'], 1e-5)


def test_shared_bias_network_of_a_stage_goes_to_each_of_its_blocks(swin):
    weights, networks = {}, {}
    for key, value in distilled(swin, 'teacher_esvit').items():
        if '.rpe_mlp.' not in key:
            weights[key] = value
        elif '.blocks.0.' in key:
            key = key.replace('blocks.0.attn', 'rel_pos_bias')
            networks[key] = weights[key] = value
    renamed = convert('fd-official', weights)
    for key, value in networks.items():
        stage, name = key[len('encoder.layers.')], key.split('rpe_mlp.')[1]
        blocks = [
            k for k in renamed if k.startswith(f'backbone.stages.{stage}.')
            and k.endswith(f'cpb_mlp.{name}')
        ]
        assert len(blocks) == swin['arch']['depths'][int(stage)]
        assert all(torch.equal(renamed[block], value) for block in blocks)


# --- the file ---


def test_options_optimizer_and_teacher_beside_the_weights_do_not_matter(
        vit, save, tmp_path):
    file = save(distilled(vit, 'teacher_openai'))
    output = command(
        'convert',
        'fd-official',
        file,
        tmp_path / 'student.pth',
        before='import sys; sys.modules["yacs"] = None')  # cannot be imported
    assert '51 tensors, 94,524 numbers' in output
    meta = checkpoints.meta(tmp_path / 'student.pth')
    assert meta['kind'] == 'fd-official' and meta['source'] == 'official.pth'
    assert meta['recipe'] == 'fd_pretrain__clip_vit_base__img224__300ep'
    assert meta['teacher.source'] == 'CLIP_400M'


@pytest.mark.parametrize('config', [
    lambda proof: runs_command(proof),
    lambda proof: CfgNode(dict(DEV=runs_command(proof))),
])
def test_options_that_run_a_command_are_refused_and_do_not_run(
        vit, save, tmp_path, config):
    proof = tmp_path / 'was_here'
    file = save(distilled(vit, 'teacher_openai'), config=config(proof))
    with pytest.raises(Refused, match='posix.system.*was not loaded'):
        checkpoints.load(file)
    assert not proof.exists()


# --- refusals ---


def beit_pretrained(vit):
    return dict(vit['student'], mask_token=torch.zeros(1, 1, 48))


def half(weights):
    return {
        k: v.half() if v.is_floating_point() else v
        for k, v in weights.items()
    }


def plain_vit(vit):
    _, weights = fine_tuned(vit)
    return {
        key.replace('q_bias', 'qkv.bias'): value
        for key, value in weights.items()
        if not key.endswith((BIAS_TABLE, 'v_bias', 'gamma_1', 'gamma_2'))
    }


def swinv2(swin):
    _, weights = fine_tuned_swin(swin)
    return {k.replace('rpe_mlp', 'cpb_mlp'): v for k, v in weights.items()}


REFUSED = {
    'BEiT before fine-tuning': (beit_pretrained, 'no network of FD'),
    'the student alone':
    (lambda vit: vit['student'], 'a distilled one has encoder'),
    'CLIP': (lambda vit: vit['teacher_openai'],
             'no network of FD.* Kind .*openai-clip takes it'),
    'half precision': (lambda vit: half(distilled(vit, 'teacher_openai')),
                       'is in torch.float16.* lost digits'),
    'another part':
    (lambda vit: dict(distilled(vit, 'teacher_openai'), queue=torch.zeros(1)),
     "distilled by FD, which has no 'queue'"),
    'a plain ViT': (plain_vit, "no 'blocks.0.attn.qkv.bias'"),
}


@pytest.mark.parametrize('case', REFUSED)
def test_another_kind_is_refused_by_name(vit, case):
    make, message = REFUSED[case]
    with pytest.raises(Refused, match=message):
        convert('fd-official', make(vit))


def test_other_swins_are_refused_by_name(swin):
    with pytest.raises(
            Refused,
            match='rpe_mlp in the place of .*cpb_mlp.*'
            'Kind swinv2 takes it'):
        convert('fd-official', swinv2(swin))
    first = {
        key.removeprefix('module.'): value
        for key, value in swin['teacher_esvit'].items()
    }
    first |= {'head.weight': torch.zeros(7, 64), 'head.bias': torch.zeros(7)}
    with pytest.raises(
            Refused, match='not Swin Transformer V2, .*'
            'Kind .*swin.* takes it'):
        convert('fd-official', first)


def test_refused_file_leaves_nothing_behind(vit, save, tmp_path):
    file = save(half(distilled(vit, 'teacher_openai')))
    assert str(file) in refused('convert', 'fd-official', file,
                                tmp_path / 'student.pth')
    assert os.listdir(tmp_path) == ['official.pth']


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_official_file_given_directly_is_answered_with_the_command(
        vit, save, prefix):
    for weights in (distilled(vit, 'teacher_openai'), fine_tuned(vit)[1]):
        file = save(weights)
        model = MODELS.build(
            student(
                init_cfg=dict(
                    type='Pretrained', checkpoint=str(file), prefix=prefix)))
        with pytest.raises(
                Refused,
                match=f'python tools/convert.py fd-official {file} DST'):
            model.init_weights()


def test_b_where_l_is_expected_is_refused(vit, tmp_path):
    init_cfg = converted(distilled(vit, 'teacher_openai'), tmp_path)
    large = dict(
        embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=256)
    model = MODELS.build(student(arch=large, init_cfg=init_cfg))
    with pytest.raises(Refused, match=r'another size .*\[1, 1, 48\].*arch'):
        model.init_weights()


def test_fine_tuned_file_is_no_distilled_one(vit, tmp_path):
    _, weights = fine_tuned(vit)
    init_cfg = converted(weights, tmp_path)
    for backbone, message in ((student(img_size=56, init_cfg=init_cfg),
                               f'lacks rel_pos_bias.{BIAS_TABLE}'),
                              (student(
                                  img_size=56,
                                  init_cfg=dict(init_cfg, prefix='')),
                               "add prefix='backbone.'")):
        with pytest.raises(Refused, match=message):
            MODELS.build(backbone).init_weights()
    saved = checkpoints.load(init_cfg['checkpoint'])
    model = dict(head=dict(num_classes=7))
    with pytest.raises(Refused, match='fine-tuned already.* of 7 classes'):
        check_not_classified(model, saved, 'student.pth')
    # of ImageNet-22K it would be a start
    model = dict(head=dict(num_classes=10))
    check_not_classified(model, saved, 'student.pth')
    with pytest.raises(Refused, match='fine-tuned already.* of 7 classes'):
        check_not_classified(
            dict(model, type='mmfd.LinearProbe'), saved, 'student.pth')


def test_fine_tuned_file_is_tested_and_refused_as_a_start(
        vit, save, tmp_path, shapes_root):
    _, weights = fine_tuned(vit)
    weights |= {
        'head.weight': torch.randn(10, 48),
        'head.bias': torch.zeros(10)
    }
    whole, config = tmp_path / 'whole.pth', tmp_path / 'finetune.py'
    config.write_text(
        FINETUNE.format(repo=os.getcwd(), folder=tmp_path,
                        shapes=shapes_root).replace('=32', '=56').replace(
                            'run/epoch_2.pth', 'whole.pth'))
    command('convert', 'fd-official', save(weights), whole)
    output = command('test', config, whole, '--work-dir', tmp_path / 'run')
    top1 = re.findall(r'accuracy/top1 ([\d.]+)', output)
    assert 0 <= float(top1[-1]) <= 100
    assert 'whole.pth is fine-tuned already, a classifier of 10' in refused(
        'train', config, '--work-dir', tmp_path / 'run')
