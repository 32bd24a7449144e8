"""Foreign Swins, V1 and V2: the features of timm, or a refusal."""
import re

import pytest
import torch
from helpers.commands import command
from helpers.models import randomise, swin_arch
from helpers.pretrained import saved
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.fast.cosine_attention import log_coordinates
from mmfd.weights import checkpoints, strict_loading
from mmfd.weights.convert import CONVERTERS

swin, swinv2 = CONVERTERS['swin'], CONVERTERS['swinv2']


@pytest.fixture(scope='module')
def official():
    return torch.load('tests/fixtures/official_esvit_swinv2.pth')


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


@pytest.mark.parametrize('stages, keys', [
    (3, dict(out_indices=(2, ))),
    (4, dict(norm_cfg=None)),
])
def test_third_stage_or_no_norm_is_the_target_of_pred_feat_options(
        stages, keys, tmp_path):
    theirs, file = timm_swin('v1', TINY), tmp_path / 'swin.pth'
    checkpoints.save(swin(theirs.state_dict()), file, {})
    host = host_of('v1', TINY)
    teacher = type(host)(
        arch=host.arch_settings,
        img_size=64,
        window_size=4,
        stage_cfgs=[{}, {}, {}, dict(window_size=2)],
        **keys)
    strict_loading.load_into(teacher, file, exact=True)
    teacher.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.layers[:stages](theirs.patch_embed(images))
        if stages == 3:  # its norm has no weights: they are not in the file
            expected = torch.nn.functional.layer_norm(expected, (96, ))
        (found, ) = teacher(images)
    torch.testing.assert_close(
        found.permute(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-4)


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
        'norm.weight': torch.zeros(1)
    }, "not EsViT's Swin: nothing in it becomes 'patch_embed"),
])
def test_weights_of_another_kind_are_refused(kind, weights, message):
    with pytest.raises(Refused, match=message):
        CONVERTERS[kind](weights())


def test_student_of_an_esvit_checkpoint_is_converted_without_its_heads(
        official, tmp_path):
    weights = official['teacher_esvit']
    heads = {
        'module.head.mlp.0.weight': torch.zeros(1),
        'module.head.last_layer.weight_g': torch.zeros(1),
        'module.head_dense.mlp.0.weight': torch.zeros(1),
    }
    wrong = {k: v + 1 for k, v in weights.items()}
    source, to = tmp_path / 'checkpoint_best.pth', tmp_path / 'esvit.pth'
    torch.save(dict(student=weights | heads, teacher=wrong, epoch=300), source)
    command('convert', 'esvit', source, to)
    file = checkpoints.load(to)
    assert file['meta']['kind'] == 'esvit'
    found = file['state_dict']
    assert torch.equal(found['norm2.weight'], weights['module.norm.weight'])
    left_out = ('relative_position_index', 'attn_mask')
    assert len(found) == sum(not name.endswith(left_out) for name in weights)


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
            f'{prefix}relative_coords_table': log_coordinates((4, 4), (4, 4)),
            f'{prefix}relative_position_index': torch.zeros(16, 16).long(),
        }
    converted = swinv2(weights)
    assert converted.keys() == per_block.keys()
    for block in range(2):
        key = f'stages.1.blocks.{block}.attn.w_msa.cpb_mlp.2.weight'
        assert torch.equal(converted[key],
                           weights['layers.1.rel_pos_bias.rpe_mlp.2.weight'])


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
    with pytest.raises(Refused, match='tables are of other windows. Set'):
        strict_loading.load_into(hosts[1], files[0])
