"""Weights as people save them: taken with equal numbers, or refused."""
import argparse
import json
import re
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import command, refused
from helpers.foreign import TINY, open_clip_model, skip_without, timm_vit
from helpers.models import clip_teacher, randomise
from mmengine.registry import MODELS
from safetensors.torch import save_file

from mmfd.errors import Refused
from mmfd.weights import checkpoints, convert, strict_loading


@lru_cache(None)
def network(kind):
    torch.manual_seed(0)
    if kind == 'timm':
        return timm_vit(classes=5)
    if kind == 'open-clip':
        return open_clip_model(TINY)
    import timm
    return randomise(
        timm.models.SwinTransformerV2(
            img_size=32,
            window_size=4,
            embed_dim=16,
            depths=(1, 1),
            num_heads=(1, 2)))


KINDS = ('timm', *(pytest.param(kind, marks=pytest.mark.full)
                   for kind in ('swinv2', 'open-clip')))


def below(prefix, weights):
    return {prefix + key: value for key, value in weights.items()}


def other(weights):
    """Another network of the same names, such as an average."""
    return {key: value + 1 for key, value in weights.items()}


def wrapped(weights, part):
    """As FSDP and `compile` name what is in each block that they wrapped."""
    return {
        re.sub(r'((?:blocks|layers|resblocks)\.\d+\.)', rf'\1{part}.', key):
        value
        for key, value in weights.items()
    }


def optimizer(weights):
    """States of AdamW, by number."""
    return dict(
        state={
            i: dict(step=torch.tensor(3.), exp_avg=value, exp_avg_sq=value)
            for i, value in enumerate(weights.values())
        },
        param_groups=[dict(lr=1e-3, params=[*range(len(weights))])])


def lightning(weights):
    return {
        'epoch': 3,
        'global_step': 99,
        'pytorch-lightning_version': '2.5.0',
        'state_dict': weights,
        'loops': dict(fit_loop=dict(state_dict={})),
        'callbacks': {
            "ModelCheckpoint{'monitor': None}":
            dict(best_model_score=torch.tensor(0.7), best_model_path='a')
        },
        'optimizer_states': [optimizer(weights)],
        'lr_schedulers': [],
        'hparams_name': 'kwargs',
        'hyper_parameters': dict(lr=1e-3)
    }


def deepspeed(weights):
    return dict(
        module=weights,
        buffer_names=[],
        optimizer=None,
        param_shapes=[
            OrderedDict((key, value.shape) for key, value in weights.items())
        ],
        lr_scheduler=None,
        skipped_steps=0,
        global_steps=7,
        dp_world_size=2,
        ds_version='0.16.2')


def timm_trainer(weights):
    return dict(
        epoch=3,
        arch='vit',
        state_dict=weights,
        optimizer=optimizer(weights),
        version=2,
        args=argparse.Namespace(model='vit', data_dir=Path('data')),
        amp_scaler=dict(scale=65536.),
        state_dict_ema=other(weights),
        metric=80.)


def deit(weights):
    return dict(
        model=weights,
        optimizer=optimizer(weights),
        model_ema=other(weights),
        scaler={},
        epoch=3)


IN_A_FILE = {  # how it is saved -> what `torch.save` is given
    'plain': dict,
    'OrderedDict': OrderedDict,
    'parameters':
    lambda w: {k: torch.nn.Parameter(v, v.is_floating_point())
               for k, v in w.items()},
    'state_dict': lambda w: dict(epoch=1, state_dict=w),
    'model': lambda w: dict(model=w, optimizer=optimizer(w)),
    'net': lambda w: dict(net=w, acc=93.1, epoch=7),
    'network, nested': lambda w: dict(network=dict(state_dict=w)),
    'params': lambda w: dict(params=w),
    'weights': lambda w: dict(weights=w),
    'model_state_dict': lambda w: dict(
        model_state_dict=w, optimizer_state_dict=optimizer(w), loss=0.1),
    'a key that nobody else has': lambda w: dict(my_best_vit=w),
    'a list': lambda w: [w],
    'with its optimizer': lambda w: (w, optimizer(w)),
    'DataParallel': lambda w: below('module.', w),
    'DataParallel in state_dict': lambda w: dict(
        state_dict=below('module.', w)),
    'compiled': lambda w: below('_orig_mod.', w),
    'compiled DataParallel': lambda w: dict(
        model=below('module._orig_mod.', w)),
    'DataParallel compiled': lambda w: below('_orig_mod.module.', w),
    'blocks compiled': lambda w: wrapped(w, '_orig_mod'),
    'FSDP': lambda w: below('_fsdp_wrapped_module.',
                            wrapped(w, '_fsdp_wrapped_module')),
    'blocks recomputed': lambda w: wrapped(w, '_checkpoint_wrapped_module'),
    'Lightning': lambda w: lightning(below('model.', w)),
    'Lightning with a loss': lambda w: lightning(
        below('net.', w) | {'criterion.weight': torch.ones(5)}),
    'DeepSpeed': deepspeed,
    'timm': timm_trainer,
    'DeiT': deit,
    'an average alone': lambda w: dict(model_ema=w),
    'ModelEma': lambda w: dict(ema=dict(module=w, updates=9)),
    'AveragedModel': lambda w: dict(
        below('module.', w), n_averaged=torch.tensor(5)),
    'encoder': lambda w: below('encoder.', w),
    'backbone': lambda w: below('backbone.', w),
    'student and teacher': lambda w: below('teacher.backbone.', w) | below(
        'student.backbone.', other(w)) | {'student.head.x': torch.ones(2)},
    'bfloat16': lambda w: {k: v.bfloat16() if v.is_floating_point() else v
                           for k, v in w.items()},
    'float64': lambda w: {k: v.double() if v.is_floating_point() else v
                          for k, v in w.items()},
    'TorchScript': None,
}


def folder_of_the_hub(weights, folder):
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(dict(architecture='vit')))
    save_file(weights, folder / 'model.safetensors', dict(format='pt'))
    return folder


def cache_of_the_hub(weights, folder):
    snapshot = folder / 'snapshots' / 'abcdef'
    snapshot.parent.mkdir(parents=True)
    (folder / 'blobs').mkdir()
    save_file(weights, folder / 'blobs' / '0123')
    snapshot.mkdir()
    (snapshot / 'model.safetensors').symlink_to('../../blobs/0123')
    return folder


def shards(weights, folder, save, suffix, stem):
    folder.mkdir()
    names, where = [*weights], {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = f'{stem}-0000{i}-of-00002{suffix}'
        save({name: weights[name] for name in part}, folder / file)
        where |= dict.fromkeys(part, file)
    (folder / f'{stem}{suffix}.index.json').write_text(
        json.dumps(dict(metadata={}, weight_map=where)))
    return folder


def safetensors(weights, file):
    file = file.with_suffix('.safetensors')
    save_file(weights, file)
    return file


def old_format(weights, file):
    torch.save(weights, file, _use_new_zipfile_serialization=False)
    return file


ELSEWHERE = {  # how it is saved -> writes it and returns its path
    'safetensors': safetensors,
    'safetensors, DataParallel': lambda w, file: safetensors(
        below('module.', w), file),
    'old PyTorch': old_format,
    'a folder of the hub': folder_of_the_hub,
    'the cache of the hub': cache_of_the_hub,
    'a folder of shards': lambda w, folder: shards(
        w, folder, save_file, '.safetensors', 'model'),
    'a folder of pickled shards': lambda w, folder: shards(
        w, folder, torch.save, '.bin', 'pytorch_model'),
}
STYLES = [*IN_A_FILE, *ELSEWHERE]


def write(kind, style, path):
    """Save the network of a kind in a style; the path."""
    weights = {
        key: value.detach().contiguous()
        for key, value in network(kind).state_dict().items()
    }
    if style in ELSEWHERE:
        return ELSEWHERE[style](weights, path)
    if style == 'TorchScript':
        if kind == 'open-clip':
            pytest.skip('it is traced with text')
        with torch.no_grad():
            traced = torch.jit.trace(network(kind), torch.ones(1, 3, 32, 32))
        traced.save(path)
        return path
    torch.save(IN_A_FILE[style](weights), path)
    return path


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('style', STYLES)
def test_network_is_taken_as_people_save_it(kind, style, tmp_path):
    path = write(kind, style, tmp_path / 'file.pth')
    found, _ = convert.find(kind, checkpoints.load(path), path)
    weights = network(kind).state_dict()
    if style == 'bfloat16':
        weights = {k: v.bfloat16().float() for k, v in weights.items()}
    expected = convert.CONVERTERS[kind](weights)
    assert found.fitted.keys() == expected.keys()
    for name, value in expected.items():
        assert found.fitted[name].dtype == torch.float32
        assert torch.equal(found.fitted[name], value)


def test_more_than_32_styles_are_tried():
    assert len(STYLES) > 32


# --- what is said ---


def test_command_prints_what_was_taken_stripped_skipped_and_left_out(tmp_path):
    file = tmp_path / 'file.pth'
    weights = network('open-clip').state_dict()
    averages = below('module.', other(weights))
    torch.save(
        dict(
            state_dict=below('net.', weights)
            | {'criterion.weight': torch.ones(2)},
            averaged=averages), file)
    output = command('convert', 'open-clip', file, tmp_path / 'out.pth')
    for line in ("taken are the weights at 'state_dict.net', not those at "
                 "'averaged.module': --take takes another",
                 "left out of all names there: 'net.'",
                 'beside them, and left out: criterion',
                 'left out: ln_final.bias, ln_final.weight, logit_scale'):
        assert line in output
    command('convert', 'open-clip', file, tmp_path / 'average.pth', '--take',
            'averaged')
    plain, average = (
        checkpoints.load(tmp_path / name)['state_dict']
        for name in ('out.pth', 'average.pth'))
    assert all(torch.equal(plain[k] + 1, average[k]) for k in plain)


def test_half_precision_becomes_whole_and_is_said(tmp_path):
    path = write('timm', 'bfloat16', tmp_path / 'file.pth')
    output = command('convert', 'timm', path, tmp_path / 'out.pth')
    assert 'torch.bfloat16 became fp32: digits that the original' in output


def test_network_that_diverged_is_refused_by_name():
    weights = dict(network('timm').state_dict())
    weights['norm.bias'] = weights['norm.bias'] * float('nan')
    with pytest.raises(
            Refused,
            match='^file.pth: ln1.bias has numbers that are not '
            'finite, as after a run that diverged: give an earlier file$'):
        convert.find('timm', weights, 'file.pth')


@pytest.mark.parametrize('averaged', [False, True])
def test_start_of_a_training_is_taken_the_same_way_and_the_log_says_so(
        averaged, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(strict_loading.log, 'info', said.append)
    file, linear = tmp_path / 'start.pth', torch.nn.Linear(2, 2)
    weights = below('module.', linear.state_dict())
    more = dict(ema_state_dict=other(weights)) if averaged else {}
    torch.save(dict(model=weights, **more), file)
    loaded = torch.nn.Linear(2, 2)
    strict_loading.load_into(loaded, file)
    assert torch.equal(loaded.weight, linear.weight)
    output = '\n'.join(said)
    assert "left out of all names there: 'module.'" in output
    assert ("not those at 'ema_state_dict.module': to use those"
            in output) == averaged


# --- what is refused ---


def test_two_networks_without_a_choice_are_refused_by_their_places(tmp_path):
    file, weights = tmp_path / 'file.pth', network('timm').state_dict()
    torch.save(dict(a=weights, b=other(weights)), file)
    message = refused('convert', 'timm', file, tmp_path / 'out.pth')
    assert "several networks that fit, at 'a', 'b'" in message
    command('convert', 'timm', file, tmp_path / 'out.pth', '--take', 'b')
    message = refused('convert', 'timm', file, tmp_path / 'out.pth', '--take',
                      'c')
    assert "no network at 'c' that fits, but at 'a', 'b'" in message


def test_equal_networks_are_no_choice(tmp_path):
    weights = network('timm').state_dict()
    found, others = convert.find('timm', dict(a=weights, b=dict(weights)), '')
    assert (found.place, others) == ('a', ['b'])


@pytest.mark.parametrize('make, message', [
    (lambda w: dict(epoch=3, args=dict(lr=1)),
     'no named tensors, so no weights; at its top are epoch, args'),
    (lambda w: [1, 'a'], 'no named tensors, so no weights; it is a list'),
    (lambda w: dict(net=below('conv1.', w), epoch=1),
     "has no '.*'; at its top are net, epoch"),
    (lambda w: below('module.', {'conv1.weight': torch.ones(1)}),
     "which has no 'weight'"),
])
def test_what_is_no_network_is_refused_by_what_lies_at_its_top(
        make, message, tmp_path):
    with pytest.raises(Refused, match=message):
        convert.find('timm', make({'x': torch.ones(2)}), 'file.pth')


@pytest.mark.parametrize('change, message', [
    (lambda key: f'{key}.lora_A.default.weight', r'has no .*: it is trained '
     r'with LoRA, .*\(merge_and_unload\(\) of peft\)'),
    (lambda key: f'{key}.base_layer.weight', 'trained with LoRA'),
    (lambda key: f'{key}.weight_orig', 'it is pruned, with masks beside its'),
    (lambda key: f'{key}.parametrizations.weight.original0',
     'it is made of other weights'),
    (lambda key: f'{key}.weight_g', 'it is made of other weights'),
    (lambda key: f'{key}.qweight', 'it is quantised: take the file before'),
    (lambda key: '_fsdp_wrapped_module._flat_param', 'it is sharded by FSDP'),
    (lambda key: 'mask_token', 'trained on masked images, as SimMIM, BEiT'),
    (lambda key: 'blocks.0.total_ops', 'it is a network whose operations '),
])
def test_weights_that_are_not_plain_are_called_by_what_was_done(
        change, message):
    weights = dict(network('timm').state_dict())
    key = 'blocks.0.attn.qkv'
    weights[change(key)] = weights.pop(f'{key}.weight')
    with pytest.raises(Refused, match=message):
        convert.find('timm', weights, 'file.pth')


def test_weights_that_zero_has_taken_to_pieces_are_refused():
    empty = {k: torch.empty(0) for k in network('timm').state_dict()}
    with pytest.raises(Refused, match=r"\.weight' is empty, .*zero_to_fp32"):
        convert.find('timm', dict(module=empty), 'file.pth')


def test_archive_of_numpy_is_refused_in_words(tmp_path):
    file = tmp_path / 'vit.npz'
    np.savez(file, **{'Transformer/encoder_norm/bias': np.zeros(3)})
    message = refused('convert', 'timm', file, tmp_path / 'out.pth')
    assert 'vit.npz is of NumPy, as JAX saves weights' in message


def foreign(name):
    """A small network of the hub, in its own names."""
    import timm
    import transformers
    small = dict(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=32)
    if name == 'dinov2':
        return transformers.Dinov2Model(transformers.Dinov2Config(**small))
    if name == 'dinov3':
        skip_without('dinov3_vit')
        return transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**small, num_register_tokens=2))
    if name == 'siglip':
        return transformers.SiglipVisionModel(
            transformers.SiglipVisionConfig(**small))
    return timm.models.eva.Eva(
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=1,
        num_heads=2,
        swiglu_mlp=name == 'eva02 large',
        scale_mlp=name == 'eva02 large')


@pytest.mark.parametrize('name, words', [
    ('dinov2', 'a ViT with layer scale, as DeiT III and DINOv2 are'),
    ('dinov3', 'a ViT with register tokens, as DINOv3 is'),
    ('siglip', 'a ViT that pools with attention, as SigLIP does'),
    ('eva02', 'EVA, EVA-02 and BEiT are'),
    ('eva02 large', 'SwiGLU, as EVA-02 is'),
])
def test_hub_file_is_called_what_it_is_and_never_fds(name, words, tmp_path):
    file = tmp_path / 'model.safetensors'
    save_file(foreign(name).state_dict(), file)
    assert convert.kinds(checkpoints.load(file), file) == []
    with pytest.raises(Refused) as error:
        convert.find('timm', checkpoints.load(file), file)
    assert words in str(error.value) and 'fd-official' not in str(error.value)
    with pytest.raises(Refused) as error:
        MODELS.build(clip_teacher(file))
    assert words in str(error.value) and 'fd-official' not in str(error.value)


def test_error_of_ours_is_not_called_a_wrong_shape(monkeypatch):

    def broken(state_dict):
        raise ValueError('a mistake of ours')

    monkeypatch.setitem(convert.CONVERTERS, 'timm', broken)
    with pytest.raises(ValueError, match='^a mistake of ours$'):
        convert.convert('timm', {'x.weight': torch.ones(1)})
    monkeypatch.undo()
    weights = network('timm').state_dict()
    weights['cls_token'] = torch.ones(7)
    with pytest.raises(Refused, match='positions|shape'):
        convert.convert('timm', weights)


def test_names_that_would_become_one_stay_two():
    weights = network('timm').state_dict()
    twice = dict(weights, **below('_orig_mod.', weights))
    with pytest.raises(Refused, match="has no '_orig_mod.cls_token'"):
        convert.find('timm', twice, 'file.pth')


def test_names_of_many_prefixes_are_not_followed_to_their_end():
    weights = below('a.' * 400, {'x': torch.ones(1), 'y': torch.ones(1)})
    with pytest.raises(Refused, match="has no 'a.a.a"):
        convert.find('timm', weights, 'file.pth')


def test_dicts_that_refer_to_one_another_take_no_time():
    inner = {f'key {i}': {} for i in range(300)}
    node = dict(x=torch.ones(1))
    for _ in range(5):
        node = dict.fromkeys(inner, node) | dict(own=torch.ones(1))
    node['itself'] = node
    with pytest.raises(Refused, match="has no 'own'"):
        convert.find('timm', node, 'file.pth')
