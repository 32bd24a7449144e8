"""Teachers by name: facts as typed from their cards, targets as the library's.

The rows are those of docs/teachers.yml; their networks are made small and have
random weights.
"""
import json
from pathlib import Path

import pytest
import timm
import torch
import yaml
from helpers.foreign import skip_without
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, MODEL_MAPPING

from mmfd.networks import by_name
from mmfd.registry import MODELS

ROWS = {
    row['name']: row
    for row in yaml.safe_load(Path('docs/teachers.yml').read_text())
}
SOME = {  # of every kind one, in the default tests
    'timm:vit_small_patch14_reg4_dinov2.lvd142m',
    'timm:eva02_tiny_patch14_224.mim_in22k',
    'timm:vit_base_patch16_radio_v3.c_radio',
    'timm:swin_tiny_patch4_window7_224.ms_in22k',
    'timm:resnet50.a1_in1k',
    'hf:openai/clip-vit-base-patch16',
    'hf:facebook/dinov3-convnext-tiny-pretrain-lvd1689m',
    'hf:microsoft/beit-base-patch16-224',
}
NAMES = [
    pytest.param(name, marks=[] if name in SOME else pytest.mark.full)
    for name in ROWS
]
STATISTICS = dict(
    half=((127.5, ) * 3, (127.5, ) * 3),
    imagenet=((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    clip=((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321375,
                                                     70.32316305)),
    unit=((0., ) * 3, (255., ) * 3))


def size_of(row, square):
    """(H, W) to try a teacher with."""
    if row['facts']['patch'] == 14:
        return (196, 196) if square else (196, 252)
    return (256, 256) if square else (192, 256)


def randomise(network):
    """Let norms, biases and layer scale matter."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def timm_case(row, size, folder):
    """The config of a teacher, its file, and timm's own network."""
    name = row['name'].removeprefix('timm:')
    args = dict(row.get('small', {}))
    if timm.get_pretrained_cfg(name).fixed_input_size:
        args['img_size'] = size
    theirs = randomise(timm.create_model(name, **args))  # and its classifier
    save_file(theirs.state_dict(), folder / 'model.safetensors')
    backbone = dict(
        type='mmfd.TimmNetwork',
        name=name,
        img_size=size,
        model_args=row.get('small'))
    return backbone, folder / 'model.safetensors', theirs


def hub_folder(row, folder):
    """Write a folder as the hub has it; return transformers' own network."""
    skip_without(row['config']['model_type'])
    facts, config = row['facts'], row['config']
    made = CONFIG_MAPPING[config['model_type']].from_dict(config)
    theirs = randomise(MODEL_MAPPING[type(made)](made))
    theirs.save_pretrained(folder)
    mean, std = ([x / 255 for x in numbers]
                 for numbers in STATISTICS[facts['statistics']])
    (folder / 'preprocessor_config.json').write_text(
        json.dumps(dict(image_mean=mean, image_std=std)))
    (folder / 'config.json').write_text(json.dumps(config))
    if 'licence' in facts:
        (folder /
         'README.md').write_text(f'---\nlicense: {facts["licence"]}\n---\n')
    return theirs


def hf_case(row, size, folder):
    theirs = hub_folder(row, folder)
    if 'vision_model' in row.get('norm', '') or hasattr(
            theirs, 'vision_model'):
        theirs = theirs.vision_model  # of a model of text and images
    backbone = dict(type='mmfd.HuggingFaceNetwork', config=str(folder))
    return backbone, folder, theirs


def last_features(row, theirs, images):
    """The library's own features, (B, L, C) or (B, C, h, w)."""
    if row['name'].startswith('timm:'):
        out = theirs.forward_features(images)
    else:
        try:
            out = theirs(images, interpolate_pos_encoding=True)
        except TypeError:  # takes any size by itself
            out = theirs(images)
        out = out.last_hidden_state
    if 'norm' in row:
        norm = theirs.get_submodule(row['norm'].removeprefix('vision_model.'))
        if row['name'].startswith('hf:') and out.ndim == 4:
            return norm(out.movedim(1, -1)).movedim(-1, 1)
        out = norm(out)
    return out.permute(0, 3, 1, 2) if row.get('last') else out


@pytest.mark.parametrize('square',
                         [pytest.param(True, marks=pytest.mark.full), False])
@pytest.mark.parametrize('name', NAMES)
def test_target_is_made_of_the_librarys_own_features(name, square, tmp_path):
    torch.manual_seed(0)
    row = ROWS[name]
    size = size_of(row, square)
    case = timm_case if name.startswith('timm:') else hf_case
    backbone, file, theirs = case(row, size, tmp_path)
    teacher = MODELS.build(
        dict(
            type='mmfd.Teacher',
            checkpoint=str(file),
            backbone=backbone,
            neck=dict(type='mmfd.PlainNeck')))
    pixels = torch.randint(256, (2, 3, *size)).float()
    mean, std = (
        torch.tensor(numbers).view(3, 1, 1)
        for numbers in STATISTICS[row['facts']['statistics']])
    with torch.no_grad():
        right = last_features(row, theirs, (pixels - mean) / std)
    if right.ndim == 4:
        right = right.flatten(2).transpose(1, 2)
    cls, registers = (row['facts'].get(key, 0) for key in ('cls', 'registers'))
    right = torch.cat((right[:, :cls], right[:, cls + registers:]), 1)
    h, w = (side // row['facts']['patch'] for side in size)
    assert right.shape == (2, cls + h * w, row['facts']['width'])
    scale = right.abs().max().clamp(min=1)
    torch.testing.assert_close(
        teacher(pixels) / scale, right / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_facts_are_those_of_the_model_card(name, tmp_path):
    row = ROWS[name]
    if name.startswith('hf:'):
        hub_folder(row, tmp_path)
        facts = by_name.find(f'hf:{tmp_path}').facts
    else:
        facts = by_name.find(name).facts
    typed = dict(row['facts'])
    mean, std = STATISTICS[typed.pop('statistics')]
    assert facts.mean == pytest.approx(mean)
    assert facts.std == pytest.approx(std)
    assert facts.img_size == (typed.pop('img_size'), ) * 2
    typed = dict(dict(cls=0, registers=0, licence=None), **typed)
    assert {key: getattr(facts, key) for key in typed} == typed


def test_table_has_as_many_kinds_as_the_documentation_says():
    counts = [sum(name.startswith(x) for name in ROWS) for x in ('timm', 'hf')]
    assert counts[0] >= 25 and counts[1] >= 10
