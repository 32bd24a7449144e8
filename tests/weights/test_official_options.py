"""Every option of the official code that changes weights: exact, or refused.

`fixtures/official_options.pth` holds small networks that the official code
built with each option, and what they compute.
"""
import pytest
import torch
from helpers.models import arch, classifier, swin_arch
from helpers.official import assert_relative
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import checkpoints, convert, strict_loading

SHARED = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
PER_BLOCK = dict(use_rel_pos_bias=True)
VITS = {  # official option -> what our config says then
    'VIT_WITHKBIAS': SHARED,
    'WITH_CLS_TOKEN': dict(SHARED, with_cls_token=False),
    'INIT_VALUES': dict(SHARED, layer_scale_init_value=0.),
    'QKV_BIAS': dict(SHARED, bias=False),
    'USE_APE': dict(use_rel_pos_bias=False, use_abs_pos_emb=True),
    'USE_RPB and USE_SHARED_RPB': PER_BLOCK,
    'USE_MEAN_POOLING': dict(SHARED, final_norm=False),
    'fine-tuned WITH_CLS_TOKEN': dict(with_cls_token=False),
    'fine-tuned VIT_WITHKBIAS': dict(),
    'fine-tuned INIT_VALUES and QKV_BIAS':
    dict(layer_scale_init_value=0., bias=False),
}
SWINS = {
    'SWIN.QKV_BIAS':
    dict(stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(qkv_bias=False)))),
    'SWIN.APE and PATCH_NORM':
    dict(use_abs_pos_embed=True, patch_cfg=dict(norm_cfg=None)),
}
SCALED = 'fine-tuned RCT_TYPE norm8_log_192to224'


@pytest.fixture(scope='module')
def official():
    return torch.load('tests/fixtures/official_options.pth', weights_only=True)


def vit(**kwargs):
    small = dict(arch(24, 2, 2), feedforward_channels=48)
    return dict(
        dict(
            type='mmfd.StudentViT',
            arch=small,
            img_size=24,
            patch_size=8,
            out_type='raw',
            final_norm=True), **kwargs)


def swin(**kwargs):
    return dict(
        dict(
            type='mmfd.StudentSwin',
            arch=swin_arch(8, (1, 1), (1, 1)),
            img_size=24,
            window_size=3,
            out_indices=(1, ),
            pretrained_window_sizes=(0, 0)), **kwargs)


def saved(weights, file):
    """As the official trainer saves it, after `tools/convert.py`."""
    if 'head.weight' not in weights:
        weights = {f'encoder.{key}': value for key, value in weights.items()}
        weights['decoder.0.weight'] = torch.zeros(1)
    network, _ = convert.find('fd-official', dict(model=weights), file)
    checkpoints.save(network.fitted, file, {})
    return network


@pytest.mark.parametrize('option', [*VITS, *SWINS])
def test_network_of_an_official_option_computes_what_it_did(
        official, option, tmp_path):
    case, file = official['cases'][option], tmp_path / 'student.pth'
    network = saved(case['student'], file)
    config = vit(**VITS[option]) if option in VITS else swin(**SWINS[option])
    if 'logits' in case:
        model = classifier(
            dict(config, out_type='avg_featmap', final_norm=False), 24)
        model.head.fc = torch.nn.Linear(24, 5)
        strict_loading.load_into(model, file)
        out = model.eval()(official['input'])
    else:
        model = MODELS.build(config)
        model.init_weights()
        strict_loading.load_into(model, file, 'backbone')
        out = model.eval()(official['input'])[-1]
        if out.ndim == 4:
            out = out.flatten(2).transpose(1, 2)
    assert_relative(out, case.get('logits', case.get('tokens')), 2e-6)
    said = ' '.join(convert.remarks('fd-official', network))
    assert ('blocks.*.attn.k_bias' in said) == ('KBIAS' in option)


@pytest.mark.parametrize('stage', ['', 'fine-tuned '])
def test_vit_without_cls_token_has_gradients_and_the_official_rows(
        official, stage):
    model = MODELS.build(vit(**VITS[f'{stage}WITH_CLS_TOKEN']))
    model.init_weights()
    tables = [p for n, p in model.named_parameters() if n.endswith('table')]
    assert {len(table) for table in tables} == {5 * 5}
    for table in tables:
        torch.nn.init.normal_(table)
    (tokens, ) = model.train()(official['input'])
    assert tokens.shape == (2, 9, 24)
    tokens.square().mean().backward()
    assert all(table.grad.abs().min() > 0 for table in tables)


@pytest.mark.parametrize('option, message', [
    ('linear', "coords_table' .* DEV.RCT_TYPE='linear'"),
    ('none', "bias_table' is of a Swin V2 with DEV.RCT_TYPE none"),
])
def test_bias_that_ours_does_not_compute_is_refused_by_its_option(
        official, option, message):
    case = official['cases'][f'fine-tuned RCT_TYPE {option}']
    with pytest.raises(Refused, match=message):
        convert.convert('fd-official', case['student'])


def test_coordinates_of_a_smaller_window_ask_for_their_key(official, tmp_path):
    case, file = official['cases'][SCALED], tmp_path / 'whole.pth'
    saved(case['student'], file)
    images = torch.linspace(-2, 2, 3 * 112 * 112).view(1, 3, 112, 112)

    def model(windows):
        config = swin(
            img_size=112, window_size=14, pretrained_window_sizes=windows)
        model = classifier(
            config, 16, neck=dict(type='mmpretrain.GlobalAveragePooling'))
        model.head.fc = torch.nn.Linear(16, 5)
        return model.eval()

    right, wrong = model((12, 12)), model((0, 0))
    strict_loading.load_into(right, file)
    assert_relative(right(images), case['logits'], 2e-6)
    with pytest.raises(
            Refused, match='is not what .* set backbone.pretrained_window_'):
        strict_loading.load_into(wrong, file)


def test_fine_tuned_vit_with_nothing_of_its_own_is_no_eva(official):
    case = official['cases']['fine-tuned INIT_VALUES and QKV_BIAS']
    weights = {
        key: value
        for key, value in case['student'].items() if 'bias_table' not in key
    }
    with pytest.raises(Refused, match='USE_APE, without INIT_VALUES.* EVA'):
        convert.convert('fd-official', weights)
