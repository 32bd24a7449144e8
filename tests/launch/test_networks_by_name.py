"""A run of networks by name: what its log and its checkpoints say."""
import argparse
import json
import os

import timm
import torch
from helpers.runs import CONFIG
from safetensors.torch import save_file

from mmfd.launch import command_line, runner
from mmfd.launch.config_options import load_config
from mmfd.weights import checkpoints

NETWORKS = '''
teacher = dict(
    _delete_=True,
    type='mmfd.Teacher',
    checkpoint='{file}',
    backbone=dict(
        type='mmfd.TimmNetwork',
        name='vit_small_patch16_dinov3',
        img_size=32,
        model_args=dict(depth=1),
        facts=dict(licence='ours')),
    neck=dict(type='mmfd.WhiteningNeck', tokens='map'))
student = dict(
    _delete_=True, type='mmfd.TimmNetwork', name='resnet10t')
model = dict(
    teacher=teacher,
    backbone=student,
    neck=dict(in_channels=512, out_channels=384, grid=2))
train_cfg = dict(max_epochs=1, val_interval=1)
'''


def test_facts_are_in_the_log_and_in_the_checkpoint(tmp_path, shapes_root):
    theirs = timm.create_model(
        'vit_small_patch16_dinov3', num_classes=0, depth=1)
    save_file(theirs.state_dict(), tmp_path / 'dinov3.safetensors')
    base = tmp_path / 'base.py'
    base.write_text(CONFIG.format(repo=os.getcwd(), root=shapes_root))
    config = tmp_path / 'named.py'
    config.write_text("_base_ = 'base.py'" +
                      NETWORKS.format(file=tmp_path / 'dinov3.safetensors'))
    parser = argparse.ArgumentParser()
    command_line.add_arguments(parser)
    args = parser.parse_args(
        [str(config), '--work-dir',
         str(tmp_path / 'run')])
    runner.train(load_config(args))
    log, = (tmp_path / 'run').glob('*/*.log')
    said = log.read_text()
    assert ('teacher: timm:vit_small_patch16_dinov3: 384 channels, patches of '
            '16, tokens before the map: 1 cls and 4 registers; trained on '
            '256 x 256 pixels') in said
    assert 'backbone: timm:resnet10t: 512 channels, patches of 32' in said
    file = tmp_path / 'run/epoch_1.pth'
    meta = checkpoints.meta(file)
    facts = json.loads(meta['teacher.facts'])
    assert (facts['registers'], facts['licence']) == (4, 'ours')
    assert meta['teacher.licence'] == 'ours'
    assert meta['teacher.file'] == 'dinov3.safetensors'
    assert json.loads(meta['facts'])['name'] == 'timm:resnet10t'
    weights = checkpoints.state_dict_of(checkpoints.load(file), file)
    student = timm.create_model('resnet10t', num_classes=0)
    student.load_state_dict({
        name.removeprefix('backbone.network.'): value
        for name, value in weights.items() if name.startswith('backbone.')
    })
    assert all(torch.isfinite(x).all() for x in student.state_dict().values())
