"""Ours and the official implementation give the same numbers.

Theirs are in `tests/fixtures/`: what SwinTransformer/Feature-Distillation at
2115145 computed in fp32 for a tiny random student and tiny random teachers,
and the learning rates that its optimizer used.
"""
import json
import re
from pathlib import Path

import pytest
import torch
from helpers.models import (clip_teacher, dino_teacher, distillation,
                            official_name)
from helpers.official import assert_relative, build, pixels_of
from mmengine.registry import HOOKS, MODELS

from mmfd.weights import checkpoints
from mmfd.weights.convert import CONVERTERS

CASES = {  # file of fixtures/ -> key of its teacher, kind, our config of it
    'clip_vit': ('teacher_openai', 'openai-clip', clip_teacher(layers=2)),
    'dino_vit': ('teacher_dino', 'dino', dino_teacher(layers=2, heads=4)),
}


@pytest.fixture(scope='module', params=CASES)
def official(request):
    """The official numbers of a case. All have the same student and input."""
    first, case = (
        torch.load(f'tests/fixtures/official_{name}.pth', weights_only=True)
        for name in ('clip_vit', request.param))
    weights, kind, config = CASES[request.param]
    teacher = CONVERTERS[kind](case[weights])
    return dict(first, **case, teacher=teacher, config=config)


@pytest.fixture
def ours(official, tmp_path):
    """Our model with the official weights."""
    file = tmp_path / 'teacher.pth'
    checkpoints.save(official['teacher'], file, {})
    model = MODELS.build(
        distillation(dict(official['config'], checkpoint=file)))
    state = model.backbone.state_dict()
    model.backbone.load_state_dict(
        {k: official['student'][official_name(k)]
         for k in state})
    model.neck.projection.load_state_dict(
        dict(
            weight=official['decoder']['0.weight'][..., 0],
            bias=official['decoder']['0.bias']))
    return model.train()


def test_target_tokens_pred_and_loss_equal_the_official_ones(ours, official):
    pixels, out = pixels_of(official), official['out']
    target = ours.teacher(pixels)
    tokens = ours.extract_feat(pixels)
    assert_relative(target, out['target'], 1e-5)
    assert_relative(tokens[-1], out['tokens'], 1e-5)
    assert_relative(ours.neck(tokens), out['pred'], 1e-5)
    assert_relative(ours.loss(pixels)['loss'], out['loss'], 1e-5)


def test_gradient_of_every_parameter_equals_the_official_one(ours, official):
    ours.loss(pixels_of(official))['loss'].backward()
    grads = dict(official['out']['grads'])
    for name, param in ours.backbone.named_parameters():
        expected = grads.pop('encoder.' + official_name(name))
        assert_relative(param.grad, expected, 1e-4)
    projection = ours.neck.projection
    assert_relative(projection.weight.grad,
                    grads.pop('decoder.0.weight')[..., 0], 1e-4)
    assert_relative(projection.bias.grad, grads.pop('decoder.0.bias'), 1e-4)
    assert not grads, f'without a counterpart: {list(grads)}'


# --- optimizer: groups and learning rates ---

VITS = sorted(f'{path.parent.name}/{path.stem}'
              for folder in ('fd', 'classification')
              for path in Path('configs', folder).glob('*_vit*.py')
              if not path.stem.endswith('_linear'))
RUNS = {  # official yaml -> our config
    'fd_pretrain__clip_vit_base__img224__100ep': 'fd/clip_vitb_fd_100e',
    'fd_pretrain__clip_vit_base__img224__300ep': 'fd/clip_vitb_fd',
    'fd_pretrain__clip_vit_large__img224__300ep': 'fd/clip_vitl_fd',
    'fd_pretrain__deit_vit_base__img224__300ep': 'fd/deit_vitb_fd',
    'fd_pretrain__dino_vit_base__img224__300ep': 'fd/dino_vitb_fd',
    'fd_pretrain__esvit_swin_base__img224__300ep': 'fd/esvit_swinb_fd',
    'fd_finetune__esvit_swin_base__img224__300ep':
    'classification/esvit_swinb_fd_in1k',
    'fd_finetune__clip_vit_base__img224__100ep':
    'classification/clip_vitb_fd_100e_in1k',
    'fd_finetune__clip_vit_base__img224__300ep':
    'classification/clip_vitb_fd_in1k',
    'fd_finetune__clip_vit_large__img224__300ep':
    'classification/clip_vitl_fd_in1k',
    'fd_finetune__deit_vit_base__img224__300ep':
    'classification/deit_vitb_fd_in1k',
    'fd_finetune__dino_vit_base__img224__300ep':
    'classification/dino_vitb_fd_in1k',
}


class Run:
    """What the hook reads of a Runner, with 7 iterations an epoch."""

    def __init__(self, optim_wrapper, epochs, batch):
        self.optim_wrapper = optim_wrapper
        self.max_iters = 7 * epochs
        self.train_dataloader = torch.utils.data.DataLoader(
            range(7 * batch), batch_size=batch)
        self.logger = self

    def info(self, message):
        self.message = message


@pytest.mark.parametrize('yaml', RUNS)
def test_lr_of_every_iteration_and_group_equals_the_official_one(
        yaml, monkeypatch):
    monkeypatch.setattr('mmfd.training.lr_schedule.get_world_size', lambda: 16)
    with open('tests/fixtures/official_lr_curves.json') as file:
        curve = json.load(file)[yaml]
    cfg, model, optim_wrapper = build(RUNS[yaml])
    hook = HOOKS.build(cfg.default_hooks.param_scheduler)
    batch = cfg.train_dataloader.batch_size
    run = Run(optim_wrapper, cfg.train_cfg.max_epochs, batch)
    assert (run.max_iters, 16 * batch) == (curve['total_iters'],
                                           curve['batch'])
    hook.before_train(run)
    depth_of = {
        name: model.backbone.get_layer_depth(name, 'backbone.')[0]
        for name, _ in model.named_parameters()
    }
    for iteration, expected in curve['lr_used_at_iteration'].items():
        run.iter = int(iteration)
        hook.before_train_iter(run, 0)
        for group in optim_wrapper.optimizer.param_groups:
            for name in group['param_names']:
                layer = depth_of[name] if curve['layer_ids'] > 1 else 0
                assert group['lr'] == pytest.approx(expected[layer], rel=1e-6)


def test_lr_counts_batch_processes_and_accumulation(monkeypatch):
    monkeypatch.setattr('mmfd.training.lr_schedule.get_world_size', lambda: 4)
    cfg, _, optim_wrapper = build('fd/clip_vitb_fd',
                                  {'optim_wrapper.accumulative_counts': 2})
    hook = HOOKS.build(cfg.default_hooks.param_scheduler)
    run = Run(optim_wrapper, 300, batch=64)
    hook.before_train(run)  # 64 x 4 x 2 = 512
    run.iter = 72  # of 2 an update: the first after warm-up
    hook.before_train_iter(run, 0)
    lr = optim_wrapper.optimizer.param_groups[0]['lr']
    assert lr == pytest.approx(3e-4)


def official_layer(name, depth):
    """The layer that an official name counts to (`optimizer.py` there)."""
    if name.startswith(('cls_token', 'pos_embed', 'patch_embed', 'pre_norm')):
        return 0  # CLIP's pre_norm, which the official code does not fine-tune
    block = re.match(r'blocks\.(\d+)\.', name)
    return int(block[1]) + 1 if block else depth + 1


@pytest.mark.parametrize('config', VITS)
def test_decay_and_layer_of_every_parameter_are_the_official_ones(config):
    cfg, model, optim_wrapper = build(config)
    depth = model.backbone.num_layers
    decay = cfg.optim_wrapper.get('paramwise_cfg', {}).get('layer_decay', 1.)
    settings = {  # parameter -> weight decay, learning rate
        name: (group['weight_decay'], group['lr'])
        for group in optim_wrapper.optimizer.param_groups
        for name in group['param_names']
    }
    assert settings.keys() == dict(model.named_parameters()).keys()
    recipe = cfg.optim_wrapper.optimizer
    for name, param in model.named_parameters():
        theirs = official_name(name.removeprefix('backbone.'))
        undecayed = (
            param.ndim == 1 or name.endswith('bias')
            or theirs in ('cls_token', 'pos_embed'))
        weight_decay, lr = settings[name]
        assert weight_decay == (0 if undecayed else recipe.weight_decay), name
        scale = decay**(depth + 1 - official_layer(theirs, depth))
        assert lr == pytest.approx(recipe.lr * scale)
    tables = [name for name in settings if name.endswith('bias_table')]
    assert bool(tables) == ('fd' in config)  # the students have them
    assert all(settings[name][0] > 0 for name in tables)


PARAMETERS = {  # config -> the official count, the projection included
    'fd/clip_vitb_fd': 85_665_360 + 590_592,
    'fd/dino_vitb_fd': 85_665_360 + 590_592,
    'fd/deit_vitb_fd': 85_665_360 + 590_592,
    'fd/clip_vitl_fd': 302_955_584 + 1_049_600,
    'classification/clip_vitb_fd_in1k': 86_530_984,
    'classification/dino_vitb_fd_in1k': 86_530_984,
    'classification/deit_vitb_fd_in1k': 86_530_984,
    'classification/clip_vitl_fd_in1k': 304_335_336,
}


@pytest.mark.parametrize('config', PARAMETERS)
def test_parameter_counts_are_the_official_ones(config):
    _, model, _ = build(config)
    count = sum(p.numel() for p in model.parameters())
    assert count == PARAMETERS[config]
