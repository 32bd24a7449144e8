"""The paper's ablations: what each changes, at full size and on the demo."""
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

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
    return Config.fromfile(FOLDER / f'{name}.py')


def flat(node, path=''):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f'{path}{key}.')
        else:
            yield f'{path}{key}', value


def without_files(model):
    """Random weights in the place of every file of the teacher's."""
    for part in (model.teacher, model.teacher.neck):
        if 'checkpoint' in part:
            part.checkpoint = 'random'
    return model


def test_short_recipe_has_the_papers_numbers():
    """Official file `fd_pretrain__clip_vit_base__img224__100ep.yaml`."""
    short, long = (
        Config.fromfile(f'configs/fd/clip_vitb_fd{x}.py')
        for x in ('_100e', ''))
    assert (short.train_cfg.max_epochs, long.train_cfg.max_epochs) == (100,
                                                                       300)
    assert short.model.backbone.drop_path_rate == 0.1
    crop = short.train_dataloader.dataset.pipeline[0].crop
    assert crop.crop_ratio_range == (0.67, 1.0)
    crop.crop_ratio_range = (0.08, 1.0)
    assert short.train_dataloader == long.train_dataloader
    assert short.val_dataloader == long.val_dataloader
    assert short.optim_wrapper == long.optim_wrapper
    assert short.default_hooks == long.default_hooks


def test_every_leaf_is_listed_here_in_the_readme_and_in_the_demo(tool):
    names = {path.stem for path in FOLDER.glob('*.py')}
    assert names == CHANGES.keys() == {path.stem for path in tool.leaves()}
    readme = (FOLDER / 'README.md').read_text()
    assert all(f'[{name}.py]({name}.py)' in readme for name in names)


@pytest.mark.parametrize('name', CHANGES)
def test_leaf_changes_what_it_says_and_nothing_else(name):
    cfg = leaf(name)
    teacher = 'deit' if name == 'target_logits' else 'clip'
    base = Config.fromfile(f'configs/fd/{teacher}_vitb_fd_100e.py')
    before = dict(flat(base.model))
    after = dict(flat(cfg.model))
    assert before.keys() <= after.keys()
    assert CHANGES[name] == {
        key: value
        for key, value in after.items()
        if key not in before or value != before[key]
    }
    assert all(cfg[key] == base[key] for key in base if key != 'model')


@pytest.mark.parametrize('name', CHANGES)
def test_leaf_says_what_it_is_what_it_costs_and_how_to_run_it(name):
    path = FOLDER / f'{name}.py'
    docstring = re.match(r'"""(.*?)"""', path.read_text(), re.S)[1]
    assert re.match(r'[A-Z][a-z ]+: .*\n\n', docstring)
    assert '100 epochs at batch 2048' in docstring
    assert f'python tools/train.py {path}' in docstring


@pytest.mark.parametrize('name', CHANGES)
def test_full_size_model_of_every_leaf_builds(name):
    model = without_files(leaf(name).model)
    with torch.device('meta'), DefaultScope.overwrite_default_scope(
            'mmpretrain'):
        built = MODELS.build(model)
    width = 1000 if name == 'target_logits' else 768
    assert built.neck.projection.out_features == width
    size = sum(p.numel() for p in built.backbone.parameters())
    table = (27**2 + 3) * 12
    assert size - 85_665_360 == dict(
        position_absolute=197 * 768 - table,
        position_block=11 * table).get(name, 0)


@pytest.mark.parametrize('name', CHANGES)
def test_leaf_on_the_demo_keeps_its_change_and_trains(name, tool, tmp_path):
    path = tool.on_demo(FOLDER.absolute() / f'{name}.py', tmp_path)
    cfg, demo = Config.fromfile(path), Config.fromfile(tool.FD)
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


def test_absolute_positions_begin_as_the_official_ones():
    """Truncated at one standard deviation of 0.02."""
    from helpers.models import student
    model = MODELS.build(
        student(use_abs_pos_emb=True, use_shared_rel_pos_bias=False))
    model.init_weights()
    assert model.pos_embed.shape == (1, 17, 48)
    assert 0.019 < model.pos_embed.abs().max() <= 0.02


def test_ridge_regression_is_least_squares_with_as_many_zeros(tool):
    """Without centring: a weight is held back as if C rows asked it to be 0;
    a bias is not."""
    x, labels = torch.randn(40, 6).double() + 1, torch.arange(40) % 3
    weight, bias = tool.ridge(x, labels, strength=2.)
    rows = torch.cat((x, torch.ones(40, 1)), 1)
    zeros = torch.cat((2**0.5 * torch.eye(6), torch.zeros(6, 1)), 1)
    targets = torch.cat((torch.eye(3)[labels], torch.zeros(6, 3)))
    solved = torch.linalg.lstsq(torch.cat((rows, zeros)),
                                targets.double()).solution
    torch.testing.assert_close(weight.double(), solved[:6].T)
    torch.testing.assert_close(bias.double(), solved[6])


@pytest.mark.full
def test_one_command_prints_the_table(tmp_path, shapes_root):
    data = tmp_path / 'data'
    data.mkdir()
    (data / 'shapes').symlink_to(shapes_root)
    done = subprocess.run(
        [sys.executable,
         Path('demo/compare_ablations.py').absolute()],
        cwd=tmp_path,
        capture_output=True,
        text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = done.stdout.split('\nablation ')[1].splitlines()
    assert len(table) == 1 + 1 + len(CHANGES) + 1
    assert '15 of 15' in done.stdout
    assert (tmp_path / 'work_dirs/ablations.png').stat().st_size > 10_000
