"""Weights as the official code (Feature-Distillation) saves them.

Made of `fixtures/official_*.pth`. `official_vit_finetune.pth` is what
fine-tuning adds to the student of `official_clip_vit.pth` at 56 pixels.
"""
import torch

from mmfd.weights import checkpoints
from mmfd.weights.convert import convert

BIAS_TABLE = 'relative_position_bias_table'


def official_case(name):
    """Weights, input and output of a small network of the official code."""
    return torch.load(f'tests/fixtures/official_{name}.pth', weights_only=True)


def distilled(case, teacher):
    """The weights of a distillation: student, projection, whole teacher."""
    return {
        f'{part}.{key}': value
        for part, weights in (('encoder', case['student']),
                              ('decoder', case['decoder']), ('feature_model',
                                                             case[teacher]))
        for key, value in weights.items()
    }


def fine_tuned(vit):
    """A fine-tuning of `clip_vit` at 56 pixels: its case and its weights."""
    case = official_case('vit_finetune')
    weights = {
        key: value
        for key, value in vit['student'].items()
        if not key.startswith(('norm.', 'rel_pos_bias.'))
    }
    for i in range(3):
        weights[f'blocks.{i}.attn.{BIAS_TABLE}'] = case['rpb_table']
    return case, weights | case['new']


def fine_tuned_swin(swin):
    """A fine-tuning of `esvit_swinv2`: its case and its weights."""
    case = swin['finetune']
    return case, swin['student'] | case['head']


def converted(weights, folder):
    """The converted file, as tools/convert.py writes it."""
    file = folder / 'student.pth'
    checkpoints.save(convert('fd-official', weights), file, {})
    return dict(type='Pretrained', checkpoint=str(file), prefix='backbone.')
