"""The commands, run as a user runs them."""
import json
import os
import pickle
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import student
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain import ImageClassificationInferencer
from PIL import Image
from test_checkpoints import Hostile, resnet, write_clip

import mmfd
from mmfd.launch.config_options import override
from mmfd.launch.failed_start import traces_removed
from mmfd.training.lr_schedule import warmup_cosine
from mmfd.weights import checkpoints, weight_files

FD = '''
_base_ = '{repo}/configs/fd/clip_vitb_fd.py'
arch = dict(
    _delete_=True,
    embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
clip = dict(
    _delete_=True,
    embed_dims=128, num_layers=2, num_heads=2, feedforward_channels=512)
model = dict(
    teacher=dict(
        checkpoint='{folder}/clip.pth',
        img_size=None,
        backbone=dict(arch=clip, img_size=32, patch_size=8)),
    backbone=dict(arch=arch, img_size=32, patch_size=8, drop_path_rate=0.1),
    neck=dict(in_channels=48, out_channels=128))
crop = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.RandomResizedCrop', scale=32, backend='pillow'),
    dict(type='mmpretrain.PackInputs')]
loader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{shapes}/imagenet', pipeline=crop))
train_dataloader = loader
resize = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=32),
    dict(type='mmpretrain.PackInputs')]
val_dataloader = dict(
    batch_size=8, num_workers=0,
    dataset=dict(data_root='{shapes}/imagenet', pipeline=resize))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(
    logger=dict(interval=5), checkpoint=dict(interval=1),
    throughput=dict(interval=5), param_scheduler=dict(warmup_epochs=0))
'''
FINETUNE = '''
_base_ = '{repo}/configs/classification/clip_vitb_fd_in1k.py'
arch = dict(
    _delete_=True,
    embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        arch=arch, img_size=32, patch_size=8,
        init_cfg=dict(checkpoint='{folder}/run/epoch_2.pth')),
    head=dict(in_channels=48, num_classes=10))
crop = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=32),
    dict(type='mmpretrain.PackInputs')]
loader = dict(
    batch_size=30, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{shapes}/imagenet', pipeline=crop))
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader
train_cfg = dict(max_epochs=1)
default_hooks = dict(
    logger=dict(interval=2), param_scheduler=dict(warmup_epochs=0))
'''


@pytest.fixture
def project(tmp_path, shapes_root):
    """A folder with a CLIP archive and configs of tiny networks."""
    write_clip(tmp_path / 'ViT.pt')
    for name, text in (('fd', FD), ('finetune', FINETUNE)):
        (tmp_path / f'{name}.py').write_text(
            text.format(repo=os.getcwd(), folder=tmp_path, shapes=shapes_root))
    return tmp_path


def command(tool, *args):
    """Run a tool in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, f'tools/{tool}.py', *map(str, args)],
        capture_output=True,
        text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize('compiler', ['g++', '/nowhere/g++'])
def test_a_run_is_compiled_where_there_is_a_compiler(project, monkeypatch,
                                                     compiler):
    monkeypatch.setenv('CXX', compiler)
    there = shutil.which(compiler)
    log = command('train', project / 'fd.py', '--work-dir', project / 'run',
                  '--cfg-options', 'compile=True',
                  'model.teacher.checkpoint=random')
    assert ('3 blocks are compiled' in log) == bool(there)
    assert ('this machine cannot' in log) == (not there)
    assert (project / 'run/epoch_1.pth').exists()


def test_from_a_published_file_to_a_fine_tuned_student(project, monkeypatch):
    # as hosts of the older line need it: ours reads weights alone all the same
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    run = project / 'run'
    command('convert', 'openai-clip', project / 'ViT.pt', project / 'clip.pth')
    fd = project / 'fd.py'
    log = command('train', fd, '--work-dir', run, '--resume')
    assert f'{run} has no checkpoint to go on from' in log
    assert re.search(
        r'base_lr: .* eta: .* skipped: 0  grad_norm: .* loss: .* '
        r'img_per_s: \d.* data_wait: \d', log)
    assert list(run.glob('*/vis_data/events.out.tfevents.*'))
    assert 'checkpoint' in (run / 'fd.py').read_text()  # resolved config

    log = command('train', fd, '--work-dir', run, '--resume', '--cfg-options',
                  'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1, iter: 15' in log
    whole = log
    assert list(run.glob('best_knn_top1_epoch_*.pth'))
    saved = checkpoints.load(run / 'epoch_2.pth')
    assert saved['meta']['iter'] == 30
    archive = weight_files.sha256(project / 'ViT.pt')
    told = {
        'mmfd': mmfd.__version__,
        'recipe': 'fd',
        'teacher.file': 'clip.pth',
        'teacher.kind': 'openai-clip',
        'teacher.source': 'ViT.pt',
        'teacher.sha256': archive
    }
    assert told.items() <= saved['meta'].items()

    log = command('test', fd, run / 'epoch_2.pth', '--work-dir', run)
    for measure in r'held_out/loss: ([\d.]+)', r'knn/top1: ([\d.]+)':
        trained, tested = re.findall(measure, whole + log)[-2:]
        assert trained == tested

    assert_exports(saved, run / 'epoch_2.pth', project)

    log = command('train', project / 'finetune.py', '--work-dir',
                  project / 'finetune')
    assert (f'StudentViT starts from {run}/epoch_2.pth, without its ln1 and '
            'neck\n') in log
    trained = float(re.findall(r'accuracy/top1: ([\d.]+)', log)[-1])
    log = command('test', project / 'finetune.py',
                  project / 'finetune' / 'epoch_1.pth', '--work-dir',
                  project / 'finetune')
    assert float(re.findall(r'accuracy/top1: ([\d.]+)', log)[-1]) == trained
    assert_inferencer_says_the_same(project)
    meta = checkpoints.meta(project / 'finetune' / 'epoch_1.pth')
    assert meta['recipe'] == 'finetune'
    assert meta['start.recipe'] == 'fd'
    assert meta['start.teacher.sha256'] == archive


def assert_inferencer_says_the_same(project):
    """Of all images as their test says of them in batches."""
    config, file = project / 'finetune.py', project / 'finetune/epoch_1.pth'
    cfg = Config.fromfile(config)
    cfg.update(load_from=str(file), work_dir=str(project / 'tested'))
    runner = Runner.from_cfg(cfg)
    runner.test()
    runner.model.eval()
    with torch.no_grad():
        batch = next(iter(runner.test_dataloader))
        expected = runner.model.test_step(batch)
    infer = ImageClassificationInferencer(str(config), pretrained=str(file))
    found = infer([sample.img_path for sample in expected])
    assert len(found) == 30
    for ours, sample in zip(found, expected):
        torch.testing.assert_close(
            torch.tensor(ours['pred_scores']),
            sample.pred_score,
            rtol=1e-4,
            atol=1e-6)


def assert_exports(saved, checkpoint, folder):
    """An exported backbone is a host's BEiT with the run's features."""
    features, images = [], torch.randn(2, 3, 32, 32)
    for suffix in ('pth', 'safetensors'):
        file = folder / f'student.{suffix}'
        command('export', checkpoint, file, '--to', 'backbone')
        host = MODELS.build(dict(student(), type='mmpretrain.BEiTViT'))
        weights = checkpoints.state_dict_of(checkpoints.load(file), file)
        host.load_state_dict(weights, strict=True)
        host.eval()
        features.append(host(images)[0])
    model = MODELS.build(student())
    model.load_state_dict({
        key.removeprefix('backbone.'): value
        for key, value in saved['state_dict'].items()
        if key.startswith('backbone.')
    })
    expected = model.eval()(images)[0]
    assert all(
        torch.allclose(f, expected, rtol=1e-5, atol=1e-5) for f in features)


def test_checkpoint_holds_the_student_and_teacher_never_moves(
        project, shapes_root):
    command('convert', 'openai-clip', project / 'ViT.pt', project / 'clip.pth')
    cfg = Config.fromfile(project / 'fd.py')
    cfg.work_dir = str(project / 'long')
    cfg.train_cfg.max_epochs = 20  # of 15 iterations
    cfg.optim_wrapper.type = 'OptimWrapper'
    runner = Runner.from_cfg(cfg)
    images = torch.randint(0, 256, (4, 3, 32, 32)).float()
    before = runner.model.teacher(images)
    fresh = runner.model.neck.projection.weight.clone()
    runner.train()
    assert runner.iter == 300
    assert torch.equal(runner.model.teacher(images), before)
    assert not torch.equal(runner.model.neck.projection.weight, fresh)
    assert_logged_lr_is_the_one_used(runner)
    saved = checkpoints.load(project / 'long' / 'epoch_20.pth')
    fresh = MODELS.build(student()).state_dict()
    assert set(saved['state_dict']) == {
        *(f'backbone.{key}' for key in fresh), 'neck.projection.weight',
        'neck.projection.bias'
    }
    optimized = sum(
        len(group['params']) for group in saved['optimizer']['param_groups'])
    assert optimized == len(list(runner.model.parameters()))


def assert_logged_lr_is_the_one_used(runner):
    run = Path(runner.log_dir, 'vis_data/scalars.json')
    lines = [json.loads(line) for line in run.read_text().splitlines()]
    lines = [line for line in lines if 'lr' in line]  # not the evaluations
    ratio = 8 / 512
    for line in lines:  # `step` counts from 1; iteration i is at step i - 1
        expected = warmup_cosine(
            max(line['step'] - 2, 0), 3e-4 * ratio, 5e-7 * ratio, 5e-6 * ratio,
            0, 300)
        assert line['lr'] == pytest.approx(expected, rel=1e-6)
    assert len(lines) == 60


# --- bad input: one message, exit status 1, nothing left behind ---


def refused(monkeypatch, tool, *args):
    """Run a tool that must refuse; return its one message."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(f'tools/{tool}.py', run_name='__main__')
    message = stop.value.code
    assert isinstance(message, str) and message.startswith('error: ')
    return message


def ready(project):
    """Convert in-process, so that only the planted fault is left."""
    from mmfd.weights.convert import CONVERTERS
    weights = CONVERTERS['openai-clip'](checkpoints.load(project / 'ViT.pt'))
    checkpoints.save(weights, project / 'clip.pth', {})
    return set(os.listdir(project))


FAULTS = {
    'missing folder':
    (lambda project: ['train_dataloader.dataset.data_root=/nowhere'],
     'no image folder /nowhere: name another with --data-root'),
    'misspelt key':
    (lambda project: ['optim_wrapper.optimizer.lrr=1'],
     "optim_wrapper.optimizer has no 'lrr'; did you mean 'lr'"),
    'misspelt section': (lambda project: ['modle.backbone.img_size=32'],
                         "has no 'modle'; did you mean 'model'"),
    'key that only the file reads':
    (lambda project: ['teacher.checkpoint=x.pth'],
     "teacher.checkpoint: .* did you mean 'model.teacher'"),
    'misspelt class': (lambda project: ['model.backbone.type=mmfd.StudentVit'],
                       "cannot be built: nothing is called type='mmfd.Stude"
                       "ntVit'; did you mean 'mmfd.StudentViT'"),
    'misspelt optimizer':
    (lambda project: ['optim_wrapper.optimizer.type=AdamWW'],
     "called type='AdamWW'; did you mean 'AdamW'"),
    'number that is none': (lambda project: ['optim_wrapper.optimizer.lr=abc'],
                            'this config cannot be built: TypeError: '),
    'misspelt hook': (lambda project: ['default_hooks.check.interval=5'],
                      "has no 'check'; did you mean 'checkpoint'"),
    'key of a hook': (lambda project: ['default_hooks.checkpoint.intervals=5'],
                      "has no 'intervals'; did you mean 'interval'"),
    'key below nothing': (lambda project: ['param_scheduler.0.type=x'],
                          'param_scheduler is a dict in the child'),
    'too few images': (lambda project: ['train_dataloader.batch_size=500'],
                       '120 images give no batch of 500'),
    'address': (lambda project: ['model.teacher.checkpoint=https://a.b/c.pth'],
                'https://a.b/c.pth is an address'),
    'missing checkpoint': (lambda project: [f'load_from={project}/none.pth'],
                           r'no weights file .*none.pth\.$'),
    'patch': (lambda project: ['model.backbone.img_size=33'],
              'img_size=33 is not a multiple of patch_size=8'),
    'missing weights':
    (lambda project: [f'model.teacher.checkpoint={project}/none.pth'],
     'no weights file .*none.pth. OpenAI publishes it .* tools/convert.py'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_train_refuses_and_leaves_nothing_behind(project, monkeypatch, fault):
    there = ready(project)
    options, expected = FAULTS[fault]
    message = refused(monkeypatch, 'train', project / 'fd.py', '--work-dir',
                      project / 'runs' / 'fd', '--cfg-options',
                      *options(project))
    assert re.search(expected, message), message
    assert set(os.listdir(project)) == there


def test_train_refuses_an_empty_image_folder(project, monkeypatch):
    ready(project)
    (project / 'images').mkdir()
    message = refused(monkeypatch, 'train', project / 'fd.py', '--work-dir',
                      project / 'run', '--data-root', project / 'images')
    assert re.search('no images in .*images', message)
    assert not (project / 'run').exists()


def test_train_names_the_knob_where_grids_differ(project, monkeypatch):
    ready(project)
    message = refused(monkeypatch, 'train', project / 'fd.py', '--work-dir',
                      project / 'run', '--cfg-options',
                      'model.backbone.patch_size=16')
    assert ('student gives 5 (1 + 2 x 2) tokens, teacher 17 (1 + 4 x 4): set '
            'neck.grid=4 (or teacher.neck.grid=2, or') in message


def test_teachers_weights_that_the_host_would_half_load_are_refused(
        project, monkeypatch):
    ready(project)
    weights = checkpoints.load(project / 'clip.pth')['state_dict']
    del weights['layers.1.ln1.bias']
    checkpoints.save(weights, project / 'part.pth', {})
    config = project / 'before.py'
    config.write_text((project / 'finetune.py').read_text().replace(
        'clip_vitb_fd_in1k', 'clip_vitb_in1k').replace(
            'embed_dims=48, num_layers=3, num_heads=3, '
            'feedforward_channels=192',
            'embed_dims=128, num_layers=2, num_heads=2, '
            'feedforward_channels=512').replace('run/epoch_2', 'part'))
    message = refused(monkeypatch, 'train', config, '--work-dir',
                      project / 'run')
    assert 'lacks layers.1.ln1.bias' in message
    assert not (project / 'run').exists()


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_checkpoint_of_another_model_is_not_resumed_or_tested(
        project, monkeypatch, tool):
    ready(project)
    other = project / 'other.pth'
    torch.save(
        dict(
            state_dict={'backbone.cls_token': torch.zeros(1, 1, 48)},
            optimizer={},
            meta=dict(epoch=1, iter=1)), other)
    arguments = {
        'train': [project / 'fd.py', '--resume', other],
        'test': [project / 'fd.py', other]
    }[tool]
    message = refused(monkeypatch, tool, *arguments, '--work-dir',
                      project / 'run')
    assert 'lacks backbone.' in message
    assert not (project / 'run').exists()


def test_dry_run_says_that_there_is_nothing_to_go_on_from(project):
    log = command('train', project / 'fd.py', '--work-dir', project / 'run',
                  '--resume', '--dry-run', '--cfg-options',
                  'model.teacher.checkpoint=random')
    assert f'  - {project}/run has no checkpoint to go on from' in log


@pytest.mark.parametrize('tool', ['train', 'convert'])
def test_folder_that_cannot_be_made_is_one_message(project, monkeypatch, tool):
    ready(project)
    below = project / 'fd.py/run'
    said = refused(
        monkeypatch, tool, *{
            'train': [project / 'fd.py', '--work-dir', below],
            'convert': ['openai-clip', project / 'ViT.pt', below / 'o.pth']
        }[tool])
    assert said.startswith(f'error: cannot make the folder {below}')
    assert said.endswith('name another place to write to')


def test_checkpoint_of_another_run_is_not_resumed(project, monkeypatch):
    """Same shapes, other statistics: a DINO run for a CLIP config."""
    ready(project)
    command('train', project / 'fd.py', '--work-dir', project / 'run')
    there = set(os.listdir(project / 'run'))
    message = refused(monkeypatch, 'train', project / 'fd.py', '--work-dir',
                      project / 'run', '--resume', '--cfg-options',
                      'model.teacher.normalize.std=[58.4,57.1,57.4]',
                      'train_cfg.max_epochs=2')
    assert re.search(
        r'epoch_1.pth is of another run: model.teacher.normalize.std was '
        r'\[68.5.*\], is \[58.4, 57.1, 57.4\]. .* without --resume', message)
    message = refused(monkeypatch, 'train', project / 'fd.py', '--work-dir',
                      project / 'run', '--resume', '--dry-run',
                      '--cfg-options', 'model.teacher.checkpoint=random')
    assert ("model.teacher.checkpoint was '" in message
            and "clip.pth', is 'random'" in message)
    (project / 'moved').mkdir()
    (project / 'clip.pth').rename(project / 'moved/clip.pth')
    log = command('train', project / 'fd.py', '--work-dir', project / 'run',
                  '--resume', '--dry-run', '--cfg-options',
                  f'model.teacher.checkpoint={project}/moved/clip.pth',
                  'train_cfg.max_epochs=2')
    assert '10 iterations of 30 done' in log and 'in iteration 25' in log
    assert set(os.listdir(project / 'run')) == there


def test_mistake_found_in_a_data_worker_is_one_message(project, monkeypatch):
    ready(project)
    (project / 'images').mkdir()
    for i in range(30):
        (project / f'images/{i}.jpg').write_text('no image')
    message = refused(monkeypatch, 'train', project / 'fd.py', '--work-dir',
                      project / 'run', '--data-root', project / 'images',
                      '--cfg-options', 'train_dataloader.num_workers=1')
    assert re.fullmatch(
        'error: 100 draws from 29 images gave none that can be read, the '
        'last one .*jpg: it is none of JPEG, PNG, .*, GIF. Set '
        'data_root .*', message)


def test_head_of_another_number_of_classes_is_refused(project, monkeypatch):
    message = refused(monkeypatch, 'train', project / 'finetune.py',
                      '--work-dir', project / 'run', '--cfg-options',
                      'model.backbone.init_cfg=None',
                      'model.head.num_classes=1000')
    assert 'have 10 classes, the model 1,000: set --cfg-options ' in message
    assert not (project / 'run').exists()


# --- the dry run ---


def test_dry_run_tells_cost_and_faults_and_leaves_nothing(project):
    there = ready(project)
    (project / 'small').mkdir()
    for i in range(80):
        image = np.full((16, 20, 3), i, np.uint8)
        Image.fromarray(image).save(project / f'small/{i}.png')
    for name in 'abc':
        (project / f'small/{name}.png').write_text('no image')
    log = command('train', project / 'fd.py', '--dry-run', '--work-dir',
                  project / 'run', '--data-root', project / 'small',
                  '--cfg-options', 'model.teacher.checkpoint=random',
                  'train_dataloader.num_workers=99',
                  'train_dataloader.dataset.held_out=0.2',
                  'val_dataloader.dataset.held_out=0.2',
                  'default_hooks.skipped.limit=0.5')
    for line in ('8 iterations of 8 done', 'images +66, short side 16 pixels; '
                 '17 held out, without labels',
                 'batch +8 x 1 processes x 1 accumulated = 8 images an update',
                 'lr .* in iteration 8', r'loss +0.\d+ -> 0.\d+',
                 r'speed .* s an iteration, [\d.]+ img/s, \d+% of the time',
                 'eta +0:00:0. for the whole run',
                 r'memory +peak .* of .* GiB',
                 r'disk +\d MiB of checkpoints, .* free', 'This looks wrong:',
                 "teacher's weights are random",
                 r'\d images could not be read', 'smaller than the 32 pixels',
                 'num_workers=99 for .* cores', 'an epoch has 8 iterations'):
        assert re.search(line, log), (line, log[-2000:])
    assert set(os.listdir(project)) == {*there, 'small'}


def test_dry_run_stops_after_ten_iterations_of_many(project):
    ready(project)
    log = command('train', project / 'fd.py', '--dry-run', '--work-dir',
                  project / 'run', '--cfg-options', 'train_cfg.max_epochs=300')
    assert '10 iterations of 4,500 done' in log
    assert '120, short side 96 pixels; 30 held out in 10 classes' in log
    assert not (project / 'run').exists()


SLOW = '''
import time
from mmengine.registry import TRANSFORMS

@TRANSFORMS.register_module()
class Wait:

    def __call__(self, results):
        time.sleep(0.1)
        return results
'''


@pytest.mark.parametrize('workers', [1, 4])
def test_dry_run_sees_that_data_come_too_slowly(project, monkeypatch, workers):
    """Workers deliver in bursts, and wait 0.8 s for a batch of 8."""
    ready(project)
    (project / 'slow.py').write_text(SLOW)
    (project /
     'slow_fd.py').write_text((project / 'fd.py').read_text() +
                              "custom_imports = dict(imports=['slow'])\n"
                              "train_dataloader['dataset']['pipeline'] = ["
                              "crop[0], dict(type='Wait'), *crop[1:]]\n")
    monkeypatch.setenv('PYTHONPATH', str(project))
    log = command('train', project / 'slow_fd.py', '--dry-run',
                  '--cfg-options', f'train_dataloader.num_workers={workers}')
    step, share = re.search(r'speed +(\S+) s an it.* (\d+)% of', log).groups()
    assert 0.6 < float(step) * workers / 0.8 < 1.8
    assert int(share) > 30
    assert f'raise train_dataloader.num_workers ({workers} now' in log


def test_dry_run_of_a_single_iteration_reports_too(project):
    ready(project)
    log = command('train', project / 'fd.py', '--dry-run', '--cfg-options',
                  'train_dataloader.batch_size=120', 'train_cfg.max_epochs=1')
    assert '1 iterations of 1 done' in log and 'eta         0:00:00' in log


@pytest.mark.parametrize('make, message', [
    (lambda path: torch.save(resnet(), path), "not OpenAI's CLIP ViT"),
    (lambda path: path.write_text('<html>'), 'web page'),
    (lambda path: path.write_bytes(b'PK\x03\x04' + bytes(100)),
     'cannot be read'),
    (lambda path: None, 'no weights file'),
])
def test_convert_refuses_and_writes_nothing(tmp_path, monkeypatch, make,
                                            message):
    make(tmp_path / 'file.pt')
    there = os.listdir(tmp_path)
    assert message in refused(monkeypatch, 'convert', 'openai-clip',
                              tmp_path / 'file.pt', tmp_path / 'out.pth')
    assert os.listdir(tmp_path) == there


def test_export_of_a_file_without_a_student_is_refused(tmp_path, monkeypatch):
    checkpoints.save(dict(w=torch.ones(1)), tmp_path / 'file.pth', {})
    assert 'holds no student' in refused(monkeypatch, 'export',
                                         tmp_path / 'file.pth',
                                         tmp_path / 'out.pth')


VALID = ('randomness.deterministic=True', 'train_dataloader.timeout=9',
         'optim_wrapper.clip_grad.norm_type=1.', 'log_processor.by_epoch=True',
         'optim_wrapper.paramwise_cfg.layer_decay=0.9', 'compile=True',
         'train_dataloader.sampler.seed=1', 'train_cfg.val_begin=2',
         'default_hooks.visualization.type=VisualizationHook',
         'default_hooks.skipped.limit=0.5', 'val_evaluator.0.k=10',
         'train_dataloader.dataset.held_out=0.1',
         'train_dataloader.dataset.pipeline.0.gap=3',
         'model.head.loss.reduction=sum', 'visualizer.name=x',
         'test_dataloader.prefetch_factor=4')


@pytest.mark.parametrize('option', VALID)
def test_every_setting_that_something_takes_is_accepted(option):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    override(cfg, dict([option.split('=')]))


def test_failed_start_removes_its_own_log_and_nobody_elses(tmp_path):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    with pytest.raises(KeyError):
        with traces_removed(work_dir):
            (work_dir / '20260101_000000').mkdir()
            (work_dir / 'epoch_5.pth').touch()  # of a run beside it
            raise KeyError
    assert os.listdir(work_dir) == ['epoch_5.pth']


def test_file_that_two_zip_readers_read_differently_runs_nothing(
        project, monkeypatch):
    """Harmless for our reader, hostile for the host's."""
    ready(project)
    proof, file = project / 'was_here', project / 'two.pth'
    torch.save(dict(state_dict=Hostile(proof)), file)
    with zipfile.ZipFile(file) as archive:
        root = archive.namelist()[0].split('/')[0]
    with zipfile.ZipFile(file, 'a') as archive:
        archive.writestr(f'{root}/DATA.PKL', pickle.dumps({}))
        archive.writestr(f'{root}/code/__torch__.py', '')
    message = refused(monkeypatch, 'train', project / 'fd.py', '--work-dir',
                      project / 'run', '--cfg-options', f'load_from={file}')
    assert 'two.pth' in message and not proof.exists()


def test_missing_config_is_refused(monkeypatch):
    assert 'no config file nowhere.py' in refused(monkeypatch, 'train',
                                                  'nowhere.py')
