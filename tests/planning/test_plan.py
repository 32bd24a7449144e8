"""What is counted before a run is what the run then takes."""
import json
import os
import re
import runpy
from functools import partial
from math import prod

import pytest
import torch
from helpers.configs import leaves, load
from helpers.models import distillation
from mmengine.config import Config
from mmengine.registry import MODELS
from test_tools import command, refused
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmfd.planning import measure, plan
from mmfd.training.sharding import BLOCKS, sharding_units

SWIN = dict(
    type='mmpretrain.SwinTransformerV2',
    arch=dict(
        embed_dims=32,
        depths=[1, 1, 6, 1],
        num_heads=[1, 2, 4, 8],
        extra_norm_every_n_blocks=6),
    img_size=64,
    window_size=[8, 8, 4, 2])


def swin():
    config = Config.fromfile('configs/fd/swinv2g_fd.py').model
    config.teacher.update(checkpoint='random', backbone=SWIN, img_size=64)
    config.backbone = dict(SWIN, type='mmfd.StudentSwin', drop_path_rate=0.)
    config.neck.update(in_channels=256, out_channels=256)
    return config, 64


def vit():
    return distillation(), 32


@pytest.fixture
def one_thread():
    """Each further one sums into a buffer of its own, which no plan counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def measured(config, batch, side, dtype, recompute, trace):
    """Bytes kept after the forward, and the most, by PyTorch's own count.

    Gradients of weights are let go as soon as they are there.
    """
    model = MODELS.build(config).train()
    for block in sharding_units(model.backbone, BLOCKS) if recompute else ():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for param in model.parameters():
        param.register_post_accumulate_grad_hook(
            lambda p: setattr(p, 'grad', None))
    pixels = torch.rand(batch, 3, side, side)

    def step():
        with torch.autocast('cpu', dtype, enabled=dtype is not None):
            loss = model(pixels, mode='loss')['loss']
        with torch.profiler.record_function('backward begins'):
            pass
        loss.backward()

    step()  # makes what is made once
    with profile(
            activities=[ProfilerActivity.CPU],
            profile_memory=True) as profiler:
        step()
    profiler.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())['traceEvents']
    [middle] = [e['ts'] for e in events if e['name'] == 'backward begins']
    changes = sorted(
        (e['ts'], e['args']['Total Allocated'], e['args']['Bytes'])
        for e in events if e['name'] == '[memory]')
    before = changes[0][1] - changes[0][2]
    kept = [total for ts, total, _ in changes if ts < middle][-1]
    return kept - before, max(total for _, total, _ in changes) - before


@pytest.mark.parametrize('recompute', [None, BLOCKS])
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
@pytest.mark.parametrize('network', [swin, vit])
def test_counted_memory_of_a_step_is_what_pytorch_allocates(
        network, dtype, recompute, tmp_path, one_thread):
    config, side = network()
    step = plan.follow(config, 8, side, 'cpu', dtype, recompute)
    kept, peak = measured(config, 8, side, dtype, recompute,
                          tmp_path / 'trace')
    assert step.kept == pytest.approx(kept, rel=0.02, abs=2**17)
    assert step.peak == pytest.approx(peak, rel=0.03, abs=2**17)


def test_kept_memory_grows_with_the_batch_alone():
    few, more, most = (
        plan.follow(vit()[0], n, 32, 'cuda', torch.bfloat16, backward=False)
        for n in (12, 24, 36))
    assert most.kept - more.kept == more.kept - few.kept > 0
    assert most.casts == few.casts  # 2 bytes of each number that is multiplied
    scaled = 'attn.proj.weight', 'ffn.layers.1.weight'  # by gamma before that
    weights = sum(p.numel()
                  for name, p in plan.build(vit()[0]).named_parameters()
                  if p.ndim > 1 and not name.endswith(scaled))
    assert few.casts == pytest.approx(2 * weights, rel=0.01)


def test_counted_operations_are_those_of_pytorchs_counter():
    config, side = vit()
    step = plan.follow(config, 2, side, 'cpu')
    model, pixels = MODELS.build(config), torch.rand(2, 3, side, side)
    # it does not know the kernels of a CPU
    counter = partial(
        FlopCounterMode,
        display=False,
        custom_mapping={
            plan.CPU_ATTENTION:
            lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
            torch.ops.mkldnn._linear_pointwise:
            lambda x, weight, *_, **__: 2 * prod(x) * weight[0]
        })
    with counter() as teacher:
        model.teacher(pixels)
    with counter() as whole:
        model(pixels, mode='loss')['loss'].backward()
    assert step.teacher == teacher.get_total_flops()
    assert (step.teacher + step.forward +
            step.backward == whole.get_total_flops())


@pytest.fixture(scope='module')
def vitb():
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    cfg.train_dataloader.batch_size = 4
    return plan.Plan(cfg, gpus=16)


def values(figures):
    return {figure.name: figure.value for figure in figures}


def test_plan_of_vitb_has_the_known_numbers(vitb):
    assert values(vitb.parameters()) == dict(
        backbone=85_665_360, neck=590_592, teacher=85_799_424)
    operations = values(vitb.operations())
    assert operations['teacher'] == pytest.approx(2 * 17.56e9, rel=2e-3)
    assert operations['backward'] == pytest.approx(
        2 * operations['student'], rel=0.01)
    memory = values(vitb.memory(vitb.setting))
    weights = 4 * (85_665_360 + 590_592)
    assert memory['weights'] == memory['gradients'] == memory[
        'buckets'] == weights
    assert memory['moments'] == 2 * weights
    assert memory['teacher'] == 4 * 85_799_424
    assert memory.pop('sum') == sum(memory.values())


def test_time_is_images_by_throughput_or_operations_by_speed(vitb):
    work = sum(values(vitb.operations()).values())
    seen = 300 * 1_281_167
    stated = values(vitb.time(throughput=500))
    assert stated['images'] == seen and stated['batch'] == 4 * 16
    assert stated['time'] == pytest.approx(seen / 500 / 16)
    assert stated['operations'] == pytest.approx(seen * work)
    assert values(vitb.time(tflops=100))['time'] == pytest.approx(seen * work /
                                                                  100e12 / 16)
    assert 'time' not in values(vitb.time())


def test_shards_divide_what_is_kept_between_steps(vitb):
    whole = values(vitb.memory(vitb.setting))
    shards = values(vitb.memory(plan.replace(vitb.setting, sharded=True)))
    for name in 'weights', 'gradients', 'moments', 'teacher':
        assert shards[name] == whole[name] / 16
    assert 'buckets' not in shards and 'casts' not in shards


def test_verdict_turns_what_has_to_be_turned(vitb):
    settings = [*vitb.setting.tighter(16)]
    assert len(settings) == 5  # as it is, 2 things to turn, batch of 2 and 1
    needed = [values(vitb.memory(s))['sum'] / 2**30 for s in settings]
    assert needed == sorted(needed, reverse=True)
    said = [plan.verdict(vitb, n * 1.0001) for n in needed]
    assert said[0].startswith('It fits')
    assert 'with_cp=True' in said[1] and 'FullySharded' not in said[1]
    assert 'with_cp=True' in said[2] and 'FullySharded' in said[2]
    assert 'batch_size=1 ' in said[4]
    assert 'whatever is turned' in plan.verdict(vitb, needed[4] * 0.99)


def test_tool_prints_a_table_and_writes_the_figures(tmp_path):
    out = command('benchmark', 'configs/demo/simclr_fd.py', '--plan', '--gpus',
                  2, '--memory', 24, '--throughput', 100, '--json',
                  tmp_path / 'plan.json')
    assert re.search(r'sum +2\.\d GiB  assumed', out)
    assert 'It fits in 24 GiB.' in out
    sections = json.loads((tmp_path / 'plan.json').read_text())
    assert [*sections] == [
        'parameters', 'operations for an image', 'memory of a GPU',
        'activations of a GPU', 'run'
    ]
    figures = [figure for part in sections.values() for figure in part]
    assert {f['how'] for f in figures} == {'counted', 'stated', 'assumed'}
    assert all(f'  {f["name"]}' in out for f in figures)


@pytest.mark.parametrize('options, message', [
    (['--gpus', '0'], '--gpus 0'),
    (['--cfg-options', 'train_dataloader.dataset.pipeline=[]'], 'no crop'),
])
def test_tool_refuses_what_it_cannot_count(monkeypatch, options, message):
    assert message in refused(monkeypatch, 'benchmark',
                              'configs/demo/simclr_fd.py', '--plan', *options)


def test_what_is_for_a_plan_is_refused_without(monkeypatch, capsys):
    monkeypatch.setattr(
        'sys.argv',
        ['benchmark', 'configs/demo/simclr_fd.py', '--tflops', '200', '--amp'])
    with pytest.raises(SystemExit, match='2'):
        runpy.run_path('tools/benchmark.py', run_name='__main__')
    assert '--tflops is for --plan' in capsys.readouterr().err


@pytest.mark.full
def test_giant_fits_in_eight_gpus_of_80_gib_only_in_shards():
    cfg = Config.fromfile('configs/fd/swinv2g_fd.py')
    giant = plan.Plan(cfg, gpus=8)
    parameters = values(giant.parameters())
    assert parameters['backbone'] == parameters['teacher'] == 2_997_843_680
    assert giant.setting == plan.Setting(64, recompute=True, sharded=True)
    assert plan.verdict(giant, 80).startswith('It fits')
    whole = plan.replace(giant.setting, sharded=False)
    assert values(giant.memory(whole))['sum'] > 80 * 2**30
    step = giant.step(giant.setting)
    assert step.backward == pytest.approx(3 * step.forward, rel=0.01)


@pytest.mark.full
@pytest.mark.parametrize('leaf', [
    *leaves('fd', 'classification'),
    *(x for x in leaves('demo') if 'fd_short' in x or 'shapes' in x)
])
def test_every_config_can_be_planned(leaf):
    cfg = load(leaf)
    cfg.train_dataloader.batch_size = 2
    made = plan.Plan(cfg, gpus=1)
    assert values(made.memory(made.setting))['activations'] > 0


# --- measured ---


def test_live_and_cached_teacher_cost_what_they_compute_and_read(
        vitb, tmp_path):
    pipeline = vitb.cfg.train_dataloader.dataset.pipeline
    vitb.cfg.train_dataloader.dataset.pipeline = [
        dict(type='mmfd.StoredViews', views=8, transforms=pipeline[:-1]),
        pipeline[-1]
    ]
    found = [*measure.live_or_cached(vitb, tmp_path, 'int8', tflops=100)]
    told, teacher = values(found), values(vitb.operations())['teacher']
    seen, drawn = 300 * plan.IMAGENET, 8 * plan.IMAGENET
    assert told['teacher'] == pytest.approx(teacher / 1e11)  # ms
    assert told['live'] == pytest.approx(seen * teacher / 1e14)
    assert told['size'] == pytest.approx(drawn * 197 * 768)
    read = (seen - drawn) * 197 * 768 / told['disk']
    assert told['cached'] == pytest.approx(drawn * teacher / 1e14 + read)
    better = 'cached' if told['cached'] < told['live'] else 'live'
    assert measure.cheaper(found).startswith(
        f'The teacher is cheaper {better}: ')
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match='/nowhere cannot be measured: No su'):
        measure.disk_speed('/nowhere')


def figures(path):
    return {
        figure['name']: figure['value']
        for part in json.loads(path.read_text()).values()
        for figure in part
    }


def test_tool_measures_step_loader_and_whole_and_leaves_nothing(
        shapes_root, tmp_path):
    out = command('benchmark', 'configs/demo/simclr_fd.py', '--data-root',
                  shapes_root / 'imagenet', '--rounds', 3, '--length', 2,
                  '--json', tmp_path / 'f.json', '--work-dir',
                  tmp_path / 'run', '--cfg-options',
                  'train_dataloader.batch_size=16',
                  'train_dataloader.num_workers=0',
                  'train_dataloader.persistent_workers=False')
    found = figures(tmp_path / 'f.json')
    assert re.search(r'step +[\d.]+ img/s  measured quartiles', out)
    assert not (tmp_path / 'run').exists()
    assert 0 < found['whole'] <= found['loader']
    used = 100 * found['step'] * found['image'] / found['GEMM']
    assert found['used'] == pytest.approx(used) and 0 < used < 100
    phases = [found[name] for name in PHASES]
    assert min(phases) > 0
    assert 0.4 < sum(phases) / (1000 * 16 / found['step']) < 2.5
    assert found['peak'] > 2**26


PHASES = 'pixels', 'teacher', 'student', 'backward', 'optimizer'


@pytest.fixture
def medium():
    torch.set_float32_matmul_precision('medium')
    yield
    torch.set_float32_matmul_precision('highest')


def test_fp32_in_less_precision_is_not_measured(monkeypatch, shapes_root,
                                                medium):
    assert "computed in 'medium' precision" in refused(
        monkeypatch, 'benchmark', 'configs/demo/simclr_fd.py', '--data-root',
        str(shapes_root / 'imagenet'), '--cfg-options',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False')


@pytest.mark.parametrize('options', [['--plan'], []])
def test_segmentors_are_sent_to_the_dry_run(monkeypatch, options):
    config = 'configs/demo/simclr_upernet.py'
    assert refused(monkeypatch, 'benchmark', config, *options) == (
        f'error: {config} trains a model of mmseg; distillations and '
        'classifiers are measured and planned here. python tools/train.py '
        f'{config} --dry-run times it')
