"""Students in timm and transformers: the same features, by strict loading."""
import json
import os
import re

import mmengine
import pytest
import timm
import torch
import transformers
from helpers.commands import command, refused
from helpers.foreign import build_exported, run_snippet
from helpers.models import (arch, build_random, classifier, downstream,
                            official_name, official_swin_name, save_trained,
                            student, swin_arch, swin_student)
from helpers.official import assert_relative
from helpers.official_files import (converted, distilled, fine_tuned,
                                    fine_tuned_swin, official_case)
from mmengine.config import Config
from mmengine.registry import MODELS
from safetensors import safe_open

from mmfd.errors import Refused
from mmfd.weights import checkpoints, weight_files
from mmfd.weights.convert import convert
from mmfd.weights.export import export


def tokens_of(model, images):
    """Tokens (B, L, C) after the last norm, of a network of any library."""
    if isinstance(model, transformers.PreTrainedModel):
        return model(images).last_hidden_state
    if hasattr(model, 'forward_features'):
        out = model.forward_features(images)  # of Swin (B, h, w, C)
        return out.flatten(1, -2)
    out = model(images)[0]
    return out if out.ndim == 3 else out.flatten(2).transpose(1, 2)


ABSOLUTE = dict(use_shared_rel_pos_bias=False, use_abs_pos_emb=True)
NETWORKS = {
    'shared bias':
    student(),
    'bias per block':
    student(use_rel_pos_bias=True, use_shared_rel_pos_bias=False),
    'absolute positions':
    student(**ABSOLUTE),
    'no layer scale':
    student(layer_scale_init_value=0),
    "mmpretrain's BEiT":
    student(type='mmpretrain.BEiTViT'),
    'Swin V2':
    swin_student(),
    'Swin V2, shrunk window':
    swin_student(window_size=8),
    'Swin V2, shared bias network':
    swin_student(use_shared_rel_pos_bias=True),
    'Swin V2, extrapolating':
    swin_student(window_size=8, pretrained_window_sizes=[6, 6, 3]),
    "mmpretrain's Swin V2":
    swin_student(
        type='mmpretrain.SwinTransformerV2', pretrained_window_sizes=[0] * 3),
}


@pytest.mark.parametrize('library', ['timm', 'hf'])
@pytest.mark.parametrize('name', NETWORKS)
def test_tokens_in_another_library_equal_ours(tmp_path, name, library):
    config = NETWORKS[name]
    ours = build_random(config)
    file = save_trained(ours, tmp_path / 'epoch_1.pth')
    theirs = build_exported(export(file, dict(backbone=config), library))
    images = torch.randn(2, 3, config['img_size'], config['img_size'])
    expected = tokens_of(ours, images)
    assert expected.std() > 0.1
    assert_relative(tokens_of(theirs, images), expected, 1e-5)


CLASSIFIERS = {
    'ViT': (downstream(), 48, {}),
    'Swin V2': (swin_student(), 96,
                dict(neck=dict(type='mmpretrain.GlobalAveragePooling'))),
}


@pytest.mark.parametrize('library', ['timm', 'hf'])
@pytest.mark.parametrize('name', CLASSIFIERS)
def test_classifier_goes_along_and_gives_the_same_logits(
        tmp_path, name, library):
    backbone, width, neck = CLASSIFIERS[name]
    ours = classifier(backbone, width, **neck)
    for part in (ours.backbone, ours.head):
        part.load_state_dict(
            {
                key:
                torch.randn_like(value) * 0.1 +
                (value.ndim == 1 and key.endswith('weight'))
                for key, value in part.state_dict().items()
                if not key.endswith(checkpoints.DERIVED_BUFFERS)
            },
            strict=False)
    file = save_trained(ours, tmp_path / 'epoch_1.pth')
    theirs = build_exported(export(file, dict(backbone=backbone), library))
    images = torch.randn(2, 3, backbone['img_size'], backbone['img_size'])
    logits = theirs(images)
    logits = logits if library == 'timm' else logits.logits
    assert_relative(logits, ours.eval()(images), 1e-5)


# --- official checkpoint -> mmfd -> export ---


@pytest.mark.parametrize('library', ['timm', 'hf'])
def test_official_networks_give_their_tokens_in_another_library(
        tmp_path, library):
    for name, teacher, config in (('clip_vit', 'teacher_openai', student()),
                                  ('esvit_swinv2', 'teacher_esvit',
                                   swin_student())):
        case = official_case(name)
        file = converted(distilled(case, teacher), tmp_path)['checkpoint']
        theirs = build_exported(export(file, dict(backbone=config), library))
        assert_relative(
            tokens_of(theirs, case['input']), case['out']['tokens'], 1e-5)


@pytest.mark.parametrize('library', ['timm', 'hf'])
def test_official_classifiers_give_their_logits_in_another_library(
        tmp_path, library):
    for (case,
         weights), config in ((fine_tuned(official_case('clip_vit')),
                               dict(downstream(), img_size=56)),
                              (fine_tuned_swin(official_case('esvit_swinv2')),
                               swin_student(img_size=128, window_size=8))):
        file = converted(weights, tmp_path)['checkpoint']
        theirs = build_exported(export(file, dict(backbone=config), library))
        logits = theirs(case['input'])
        logits = logits if library == 'timm' else logits.logits
        assert_relative(logits, case['logits'], 1e-5)


def official_weights(model):
    """Ours under the official names, as a distilled checkpoint."""
    vit = hasattr(model, 'cls_token')
    weights = {
        key: value
        for key, value in model.state_dict().items()
        if not key.endswith(checkpoints.DERIVED_BUFFERS)
    }
    if vit:
        return {f'encoder.{official_name(k)}': v for k, v in weights.items()}
    return {
        f'encoder.{official_swin_name(k)}':
        v.unflatten(1, (-1, 2, 2)).permute(0, 3, 2, 1).flatten(1)
        if k.endswith('reduction.weight') else v
        for k, v in weights.items()
    }


@pytest.mark.full
@pytest.mark.parametrize('name', ['vitb16', 'vitl14', 'swinv2b'])
def test_round_trip_at_full_width(tmp_path, name):
    config = Config.fromfile(f'configs/_base_/students/{name}.py').student
    config = json.loads(json.dumps(config))
    ours = build_random(config)
    for parameter in ours.parameters():
        if parameter.ndim > 1:
            parameter.data *= 0.3
    images = torch.randn(2, 3, 224, 224)
    file = tmp_path / 'student.pth'
    with torch.no_grad():
        expected = tokens_of(ours, images)
        checkpoints.save(
            convert('fd-official', official_weights(ours)), file, {})
        del ours
        for library in ('timm', 'hf'):
            theirs = build_exported(
                export(file, dict(backbone=config), library))
            assert_relative(tokens_of(theirs, images), expected, 1e-5)
            del theirs


# --- files ---

META = dict(
    recipe='clip_vitb_fd',
    mmfd='0.1.0',
    **{
        'teacher.source': 'ViT-B-16.pt',
        'teacher.kind': 'openai-clip',
        'teacher.sha256': '5806e77c'
    })


@pytest.fixture
def trained(tmp_path):
    ours = build_random(student())
    return ours, save_trained(ours, tmp_path / 'epoch_1.pth', student(),
                              **META)


def test_folder_loads_by_from_pretrained(trained, tmp_path):
    ours, file = trained
    output = command('export', file, tmp_path / 'folder', '--to', 'hf')
    images = torch.randn(2, 3, 32, 32)
    theirs = run_snippet(output.split('load it by\n')[1])
    assert_relative(tokens_of(theirs, images), tokens_of(ours, images), 1e-5)
    assert set(os.listdir(tmp_path /
                          'folder')) == {'config.json', 'model.safetensors'}
    assert 'no preprocessor_config.json' in output  # statistics are unknown
    for cls in (transformers.BeitModel, transformers.AutoModel):
        theirs, report = cls.from_pretrained(
            tmp_path / 'folder', output_loading_info=True)
        assert not any(report.values())
        assert_relative(
            tokens_of(theirs.eval(), images), tokens_of(ours, images), 1e-5)


@pytest.mark.parametrize('library', ['backbone', 'timm', 'hf'])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_file_carries_its_origin_and_how_to_build_it(trained, tmp_path,
                                                     library, suffix):
    ours, file = trained
    dst = tmp_path / f'student.{suffix}'
    printed = command('export', file, dst, '--to', library)
    if suffix == 'pth':
        read = torch.load(dst, weights_only=True)
        meta, weights = read['meta'], read['state_dict']
    else:
        with safe_open(dst, 'pt') as opened:
            meta = opened.metadata()
        weights = checkpoints.load(dst)
    assert META.items() <= meta.items()
    assert meta['file'] == 'epoch_1.pth' and meta['library'] == library
    lines = dict(re.findall(r'^  (\S+) +(.*)$', printed, re.M))
    assert lines['recipe'] == 'clip_vitb_fd'
    assert lines['teacher.source'] == 'ViT-B-16.pt'
    assert lines['teacher.licence'] == 'unknown'  # as nobody has said
    built = eval(meta['python'],
                 dict(timm=timm, transformers=transformers, mmengine=mmengine))
    theirs = run_snippet(printed.split('load it by\n')[1])
    assert type(built) is type(theirs)
    if library != 'hf':  # whose files have names of their own
        assert theirs.state_dict().keys() == weights.keys()
    images = torch.randn(2, 3, 32, 32)
    assert_relative(tokens_of(theirs, images), tokens_of(ours, images), 1e-5)


def test_exported_backbone_can_be_exported_again(trained, tmp_path):
    _, file = trained
    command('export', file, tmp_path / 'bare.safetensors')
    command('export', tmp_path / 'bare.safetensors', tmp_path / 'timm.pth',
            '--to', 'timm')
    meta = checkpoints.meta(tmp_path / 'timm.pth')
    assert meta['teacher.sha256'] == '5806e77c'
    assert meta['file'] == 'bare.safetensors'


def test_config_is_asked_for_and_checked(trained, tmp_path):
    ours, _ = trained
    file = save_trained(ours, tmp_path / 'plain.pth')
    tiny, large = tmp_path / 'tiny.py', tmp_path / 'large.py'
    tiny.write_text(f'model = dict(backbone={student()!r})')
    large.write_text(f'model = dict(backbone={student(arch=arch(96))!r})')
    before = sorted(os.listdir(tmp_path))

    def answer(*more):
        return refused('export', file, tmp_path / 'out.pth', '--to', 'timm',
                       *more)

    message = answer()
    assert 'does not say of what network' in message
    assert '--config configs/....py' in message
    assert 'no config file nowhere.py' in answer('--config', 'nowhere.py')
    assert re.search(r'another size .*\[1, 1, 48\].*\[1, 1, 96\]',
                     answer('--config', large))
    assert sorted(os.listdir(tmp_path)) == before
    output = command('export', file, tmp_path / 'out.pth', '--to', 'timm',
                     '--config', tiny)
    lines = dict(re.findall(r'^  (\S+) +(.*)$', output, re.M))
    assert lines['sha256'] == weight_files.sha256(file)
    assert lines['recipe'] == lines['teacher.source'] == 'unknown'


CANNOT = {
    'norm of another stage': (student(), downstream(), 'unlike the config'),
    'two norms': (downstream(final_norm=True), None, 'one norm'),
    'no norm': (student(final_norm=False), None, 'one norm'),
    'windows': (swin_student(img_size=128,
                             window_size=[8, 4, 8]), None, r'\[8, 4, 8\]'),
    'extra norms': (swin_student(arch=swin_arch(extra_norm=2)), None,
                    r"no counterpart of 'stages.1.blocks.1.norm3"),
    'several outputs':
    (swin_student(out_indices=(1, 2)), None, "no counterpart of 'norm1"),
    'no cls token': (student(with_cls_token=False), None, 'cls_token=False'),
    'no biases': (student(bias=False), None, 'bias=False: export'),
    'no biases of a Swin': (swin_student(
        stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(qkv_bias=False)))),
                            None, 'qkv_bias=False: export'),
    'no norm of patches': (swin_student(patch_cfg=dict(norm_cfg=None)), None,
                           'patch_cfg.norm_cfg=None'),
    'another family': (dict(type='mmpretrain.ResNet', depth=18), None,
                       'and this one is a ResNet: export'),
    'no such backbone':
    (student(), dict(type='mmfd.Nothing'), 'builds no backbone: KeyError'),
    'another argument':
    (student(), student(colour='red'), 'builds no backbone: TypeError'),
}


@pytest.mark.parametrize('library', ['timm', 'hf'])
@pytest.mark.parametrize('name', CANNOT)
def test_what_no_library_has_is_refused(tmp_path, name, library):
    network, config, message = CANNOT[name]
    file = save_trained(MODELS.build(network), tmp_path / 'epoch_1.pth')
    with pytest.raises(Refused, match=message):
        export(file, dict(backbone=config or network), library)


def test_export_to_no_known_suffix_is_refused(trained, tmp_path):
    _, file = trained
    assert '.pth or .safetensors' in refused('export', file,
                                             tmp_path / 'student')
