"""The paper's ablations: what each changes, at full size and on the demo."""
import re
from pathlib import Path

import pytest
import torch
from helpers.configs import (check_all, load, on_meta_device, parameters,
                             without_files)
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.launch.rebased_config import rebased

FOLDER = Path('configs/fd/ablations')
CHANGES = {  # leaf -> keys of the model that it changes, and nothing else
    'target_cls': {
        'teacher.neck.tokens': 'cls',
        'neck.tokens': 'cls'
    },
    'target_mean': {
        'teacher.neck.tokens': 'mean',
        'neck.tokens': 'mean'
    },
    'target_logits': {
        'teacher.neck.type': 'mmfd.LogitsNeck',
        'teacher.neck.checkpoint': 'checkpoints/deit_vitb16.pth',
        'teacher.neck.in_channels': 768,
        'teacher.neck.num_classes': 1000,
        'neck.tokens': 'cls',
        'neck.out_channels': 1000
    },
    'norm_none': {
        'teacher.neck.type': 'mmfd.PlainNeck',
        'teacher.backbone.final_norm': False
    },
    'norm_affine': {
        'teacher.neck.type': 'mmfd.PlainNeck'
    },
    'norm_l2': {
        'teacher.neck.type': 'mmfd.L2Neck'
    },
    'position_absolute': {
        'backbone.use_abs_pos_emb': True,
        'backbone.use_shared_rel_pos_bias': False
    },
    'position_block': {
        'backbone.use_rel_pos_bias': True,
        'backbone.use_shared_rel_pos_bias': False
    },
    **{
        f'drop_path_t0_s{rate}': {
            'backbone.drop_path_rate': rate / 10
        }
        for rate in (0, 2, 3, 4)
    },
    'drop_path_t1_s0': {
        'teacher.drop_path_rate': 0.1,
        'backbone.drop_path_rate': 0.
    },
    'drop_path_t1_s1': {
        'teacher.drop_path_rate': 0.1
    },
}


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend('demo')
    import compare_ablations
    return compare_ablations


def leaf(name):
    return FOLDER / f'{name}.py'


def flat(node, path=''):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f'{path}{key}.')
        else:
            yield f'{path}{key}', value


def test_every_leaf_is_listed_here_and_in_the_demo(tool):
    names = {path.stem for path in FOLDER.glob('*.py')} - {'student_rotary'}
    assert names == CHANGES.keys() == {path.stem for path in tool.leaves()}


def test_student_with_rotary_positions_is_of_the_same_size():
    built = on_meta_device(load(leaf('student_rotary')))
    assert built.backbone.network.rope and built.neck.projection
    table, biases_of_keys = (27**2 + 3) * 12, 12 * 768
    assert parameters(built.backbone) == 85_665_360 - table + biases_of_keys


def test_leaf_changes_what_it_says_and_nothing_else():

    def check(name):
        cfg = load(leaf(name))
        teacher = 'deit' if name == 'target_logits' else 'clip'
        base = load(f'configs/fd/{teacher}_vitb_fd_100e.py')
        before, after = dict(flat(base.model)), dict(flat(cfg.model))
        assert before.keys() <= after.keys()
        assert CHANGES[name] == {
            key: value
            for key, value in after.items()
            if key not in before or value != before[key]
        }
        assert all(cfg[key] == base[key] for key in base if key != 'model')

    check_all(check, CHANGES)


def test_leaf_says_what_it_is_and_what_it_costs():

    def check(name):
        docstring = re.match(r'"""(.*?)"""', leaf(name).read_text(), re.S)[1]
        assert re.match(r'[A-Z][a-z ]+: .*\n\nTable \d of the paper: ',
                        docstring)
        assert '100 epochs at batch 2048' in docstring

    check_all(check, CHANGES)


def test_full_size_model_of_every_leaf_builds():

    def check(name):
        built = on_meta_device(load(leaf(name)))
        width = 1000 if name == 'target_logits' else 768
        assert built.neck.projection.out_features == width
        table = (27**2 + 3) * 12
        more = dict(
            position_absolute=197 * 768 - table, position_block=11 * table)
        assert parameters(built.backbone) == 85_665_360 + more.get(name, 0)

    check_all(check, CHANGES)


def test_leaf_on_the_demo_keeps_its_change_and_trains(tool, tmp_path):

    def check(name):
        cfg = Config.fromfile(
            rebased(leaf(name).absolute(), tool.FD, tmp_path))
        demo = load(tool.FD)
        changed = dict(CHANGES[name])
        if name == 'target_logits':  # the demo's own widths
            changed.update({
                'teacher.neck.checkpoint': demo.classifier.checkpoint,
                'teacher.neck.in_channels': 96,
                'teacher.neck.num_classes': 10,
                'neck.out_channels': 10
            })
        assert dict(flat(cfg.model)) == dict(flat(demo.model)) | changed
        model = MODELS.build(without_files(cfg.model))
        model.init_weights()
        model.train()
        pixels = torch.randint(0, 256, (4, 3, 48, 48)).float()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        before = model.loss(pixels)['loss']
        before.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        assert model.eval().loss(pixels)['loss'] < before

    check_all(check, CHANGES)
