"""A plan adds up what is counted, and says what to change."""
import json
import re
import runpy
from dataclasses import replace

import pytest
from helpers.commands import command, refused
from helpers.configs import check_all, leaves, load
from mmengine.config import Config

from mmfd.planning.plan import MemorySettings, Plan, advise
from mmfd.planning.training_images import IMAGENET_IMAGES, img_size_of

DEMO = 'configs/demo/simclr_fd.py'
ARCH = dict(
    embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=768)


def values(quantities):
    return {quantity.name: quantity.value for quantity in quantities}


@pytest.fixture(scope='module')
def vitb():
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.train_dataloader.batch_size = 4
    return Plan(cfg, gpus=16)


@pytest.fixture(scope='module')
def small():
    """The same with two layers."""
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.train_dataloader.batch_size = 4
    cfg.model.backbone.arch = cfg.model.teacher.backbone.arch = ARCH
    cfg.model.neck.update(in_channels=192, out_channels=192)
    return Plan(cfg, gpus=16)


def test_plan_of_vitb_has_the_known_numbers(vitb):
    assert values(vitb.parameters()) == dict(
        backbone=85_665_360, neck=590_592, teacher=85_799_424)
    operations = values(vitb.operations())
    assert operations['teacher'] == pytest.approx(2 * 17.56e9, rel=2e-3)
    assert operations['backward'] == pytest.approx(
        2 * operations['student'], rel=0.01)
    memory = values(vitb.memory(vitb.settings))
    weights = 4 * (85_665_360 + 590_592)
    assert memory['weights'] == memory['buckets'] == weights
    assert memory['gradients'] < weights  # the first ones, at the fullest
    assert memory['moments'] == 2 * weights
    assert memory['teacher'] == 4 * 85_799_424
    assert memory.pop('sum') == sum(memory.values())


@pytest.mark.parametrize('leave_out, tokens', [(False, 197), (True, 81)])
def test_patches_that_are_left_out_cost_nothing(leave_out, tokens):
    """20 of 49 x 4 patches are seen, and the cls token."""
    cfg = load('configs/fd/clip_vitb_fd.py')
    cfg.train_dataloader.batch_size = 4
    cfg.model.backbone.arch = cfg.model.teacher.backbone.arch = ARCH
    cfg.model.neck.update(in_channels=192, out_channels=192)
    cfg.model.update(
        type='mmfd.MaskedFeatureDistillation',
        learns='seen',
        leave_out=leave_out)
    width, layers = 192, 2
    operations = 2 * 196 * 768 * width + 2 * tokens * width**2 + layers * (
        24 * tokens * width**2 + 4 * tokens**2 * width)
    student = values(Plan(cfg, gpus=16).operations())['student']
    assert student == pytest.approx(operations, rel=1e-3)


def test_time_is_images_by_throughput_or_operations_by_speed(small):
    flops = sum(values(small.operations()).values())
    images = 300 * IMAGENET_IMAGES
    stated = values(small.totals(throughput=500))
    assert stated['images'] == images and stated['batch'] == 4 * 16
    assert stated['time'] == pytest.approx(images / 500 / 16)
    assert stated['operations'] == pytest.approx(images * flops)
    by_speed = values(small.totals(tflops=100))['time']
    assert by_speed == pytest.approx(images * flops / 100e12 / 16)
    assert 'time' not in values(small.totals())


def test_shards_divide_what_is_kept_between_steps(small):
    whole = values(small.memory(small.settings))
    shards = values(small.memory(replace(small.settings, sharded=True)))
    for name in 'weights', 'moments', 'teacher':
        assert shards[name] == whole[name] / 16
    assert shards['gradients'] == shards['weights']
    assert 'buckets' not in shards and 'casts' not in shards


def test_advice_changes_what_has_to_be_changed(small):
    settings = [*small.settings.tighter(16)]
    assert len(settings) == 5  # as it is, 2 changes, a batch of 2 and of 1
    needed = [values(small.memory(s))['sum'] / 2**30 for s in settings]
    assert needed == sorted(needed, reverse=True)
    advice = [advise(small, gib) for gib in needed]
    assert advice[0].startswith('It fits')
    assert 'with_cp=True' in advice[1] and 'FullySharded' not in advice[1]
    assert 'with_cp=True' in advice[2] and 'FullySharded' in advice[2]
    assert 'batch_size=1 ' in advice[4]
    assert 'any of these settings' in advise(small, needed[4] * 0.99)


def test_batch_of_a_batch_norm_is_not_halved_to_one_image():
    """It could not train: one image has no variance."""
    assert [
        s.batch_size
        for s in MemorySettings(8, True, False).tighter(1, smallest_batch=2)
    ] == [8, 8, 4, 2]
    cfg = Config.fromfile('configs/classification/clip_vitb_linear.py')
    cfg.model.backbone.arch = ARCH
    cfg.model.head.in_channels = cfg.model.neck.input_features = 192
    cfg.train_dataloader.batch_size = 2
    assert 'any of these settings' in advise(Plan(cfg, gpus=1), gib=0)


def test_tool_prints_a_table_and_writes_the_quantities(tmp_path):
    nowhere = f'train_dataloader.dataset.data_root={tmp_path}/none'
    out = command('benchmark', DEMO, '--plan', '--gpus', 2, '--memory', 24,
                  '--throughput', 100, '--json', tmp_path / 'plan.json',
                  '--cfg-options', nowhere)
    assert re.search(r'sum +2\.\d GiB  assumed', out)
    assert 'It fits in 24 GiB.' in out
    sections = json.loads((tmp_path / 'plan.json').read_text())
    assert [*sections] == [
        'parameters', 'operations for an image', 'memory of a GPU',
        'activations of a GPU', 'run', 'machines'
    ]
    quantities = [q for section in sections.values() for q in section]
    assert {q['how'] for q in quantities} == {'counted', 'stated', 'assumed'}
    assert all(f'  {q["name"]}' in out for q in quantities)


@pytest.mark.parametrize('options, message', [
    (['--gpus', '0'], '--gpus 0'),
    (['--cfg-options', 'train_dataloader.dataset.pipeline=[]'], 'no crop'),
])
def test_tool_refuses_what_it_cannot_count(options, message):
    assert message in refused('benchmark', DEMO, '--plan', *options)


def test_options_of_a_plan_are_refused_without_it(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv',
                        ['benchmark', DEMO, '--tflops', '200', '--amp'])
    with pytest.raises(SystemExit, match='2'):
        runpy.run_path('tools/benchmark.py', run_name='__main__')
    assert '--tflops is for --plan' in capsys.readouterr().err


def test_segmentors_are_sent_to_the_plan_or_the_dry_run():
    config = 'configs/demo/simclr_upernet.py'
    assert refused('benchmark', config) == (
        f'error: {config} trains a model of mmseg; distillations and '
        'classifiers are measured here. --plan counts it, mmfd train '
        f'{config} --dry-run times it')


def test_image_size_is_that_of_the_last_crop_or_resize():
    resize = dict(type='RandomChoiceResize', scales=[(48, 224), (80, 224)])
    choice = [resize], [dict(type='RandomCrop', crop_size=(38, 60)), resize]
    crop = dict(type='mmpretrain.RandomResizedCrop', scale=224)
    inside = dict(type='mmfd.StoredViews', views=2, transforms=[crop])
    for pipeline in ([crop], [inside,
                              dict(type='mmpretrain.PackInputs')
                              ], [dict(type='mmfd.LoadCrop', crop=crop)],
                     [dict(scale=256),
                      dict(crop_size=(224, 224))
                      ], [dict(scale=[(224, 40), (224, 140)])],
                     [dict(type='RandomChoice', transforms=[*choice])]):
        assert img_size_of(pipeline) == 224


@pytest.mark.full
def test_giant_fits_in_eight_gpus_of_80_gib_and_shards_are_a_quarter():
    cfg = Config.fromfile('configs/fd/swinv2g_fd.py')
    giant = Plan(cfg, gpus=8)
    parameters = values(giant.parameters())
    assert parameters['backbone'] == parameters['teacher'] == 2_997_843_680
    assert giant.settings == MemorySettings(64, recompute=True, sharded=True)
    assert advise(giant, 80).startswith('It fits')
    whole = replace(giant.settings, sharded=False)
    needed = [
        values(giant.memory(each))['sum'] for each in (whole, giant.settings)
    ]
    assert needed[0] > 3.5 * needed[1]
    count = giant.count(giant.settings)
    assert count.backward_flops == pytest.approx(
        3 * count.student_flops, rel=0.01)


@pytest.mark.full
def test_every_config_of_a_distillation_or_classifier_can_be_planned():

    def check(leaf):
        cfg = load(leaf)
        cfg.train_dataloader.batch_size = 2
        plan = Plan(cfg, gpus=1)
        assert values(plan.memory(plan.settings))['activations'] > 0

    check_all(check, [
        leaf for leaf in leaves() if 'simclr_teacher' not in leaf
        and load(leaf).default_scope == 'mmpretrain'
    ])
