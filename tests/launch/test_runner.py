"""From a config to a Runner: what is built, loaded, checked and refused."""
import json
import pickle
import re
import resource
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import fault_hooks, tiny_runs  # noqa: F401: registers hooks
from helpers.commands import command, refused
from helpers.corpus import runs_command
from helpers.models import student
from helpers.openai_clip import write_clip
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain import ImageClassificationInferencer

import mmfd
from mmfd.errors import Refused
from mmfd.launch.runner import train
from mmfd.training.lr_schedule import warmup_cosine
from mmfd.weights import checkpoints, weight_files


def test_from_a_published_file_to_a_fine_tuned_student(project, monkeypatch):
    # as the original OpenMMLab packages need it; only tensors are read here
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    run, fd = project / 'run', project / 'fd.py'
    write_clip(project / 'ViT.pt')
    command('convert', 'openai-clip', project / 'ViT.pt', project / 'clip.pth')
    log = command('train', fd, '--work-dir', run, '--resume')
    assert f'{run} has no checkpoint to go on from' in log
    [file] = run.glob('*/*.log')
    assert re.search(
        r'base_lr: .* eta: .* img_per_s: \d.* data_wait: \d.* skipped: 0  '
        'grad_norm: .* loss: ', file.read_text())
    assert list(run.glob('*/vis_data/events.out.tfevents.*'))
    assert 'checkpoint' in (run / 'fd.py').read_text()  # resolved config

    log = command('train', fd, '--work-dir', run, '--resume', '--cfg-options',
                  'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1, iter: 15' in log
    trained = log
    assert list(run.glob('best_knn_top1_epoch_*.pth'))
    saved = checkpoints.load(run / 'epoch_2.pth')
    assert saved['meta']['iter'] == 30
    archive = weight_files.sha256(project / 'ViT.pt')
    provenance = {
        'mmfd': mmfd.__version__,
        'recipe': 'fd',
        'teacher.file': 'clip.pth',
        'teacher.kind': 'openai-clip',
        'teacher.source': 'ViT.pt',
        'teacher.sha256': archive
    }
    assert provenance.items() <= saved['meta'].items()

    log = command('test', fd, run / 'epoch_2.pth', '--work-dir', run)
    for measure in r'held_out/loss ([\d.]+)', r'knn/top1 ([\d.]+)':
        before, after = re.findall(measure, trained + log)[-2:]
        assert before == after

    assert_exports(saved, run / 'epoch_2.pth', project)

    log = command('train', project / 'finetune.py', '--work-dir',
                  project / 'finetune')
    assert (f'StudentViT starts from {run}/epoch_2.pth, without its ln1 and '
            'neck\n') in log
    top1 = float(re.findall(r'accuracy/top1 ([\d.]+)', log)[-1])
    log = command('test', project / 'finetune.py',
                  project / 'finetune' / 'epoch_1.pth', '--work-dir',
                  project / 'finetune')
    assert float(re.findall(r'accuracy/top1 ([\d.]+)', log)[-1]) == top1
    assert_inferencer_predicts_the_same(project)
    meta = checkpoints.meta(project / 'finetune' / 'epoch_1.pth')
    assert meta['recipe'] == 'finetune'
    assert meta['start.recipe'] == 'fd'
    assert meta['start.teacher.sha256'] == archive


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


def assert_inferencer_predicts_the_same(project):
    """For single images what the test predicts for them in batches."""
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
    results = infer([sample.img_path for sample in expected])
    assert len(results) == 30
    for ours, sample in zip(results, expected):
        torch.testing.assert_close(
            torch.tensor(ours['pred_scores']),
            sample.pred_score,
            rtol=1e-4,
            atol=1e-6)


def test_checkpoint_holds_the_student_and_teacher_never_moves(project):
    cfg = Config.fromfile(project / 'fd.py')
    cfg.work_dir = str(project / 'run')
    cfg.train_cfg = dict(cfg.train_cfg, max_epochs=4, val_interval=9)
    cfg.optim_wrapper.type = 'OptimWrapper'
    runner = Runner.from_cfg(cfg)
    images = torch.randint(0, 256, (4, 3, 32, 32)).float()
    before = runner.model.teacher(images)
    fresh = runner.model.neck.projection.weight.clone()
    runner.train()
    assert runner.iter == 60
    assert torch.equal(runner.model.teacher(images), before)
    assert not torch.equal(runner.model.neck.projection.weight, fresh)
    assert_logged_lr_is_the_one_used(runner)
    saved = checkpoints.load(project / 'run' / 'epoch_4.pth')
    fresh = MODELS.build(student()).state_dict()
    assert set(saved['state_dict']) == {
        *(f'backbone.{key}' for key in fresh), 'neck.projection.weight',
        'neck.projection.bias'
    }
    optimized = sum(
        len(group['params']) for group in saved['optimizer']['param_groups'])
    assert optimized == len(list(runner.model.parameters()))


def assert_logged_lr_is_the_one_used(runner):
    scalars = Path(runner.log_dir, 'vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    lines = [line for line in lines if 'lr' in line]  # not the evaluations
    ratio = 8 / 512
    for line in lines:  # `step` counts from 1; iteration i is at step i - 1
        expected = warmup_cosine(
            max(line['step'] - 2, 0), 3e-4 * ratio, 5e-7 * ratio, 5e-6 * ratio,
            0, 60)
        assert line['lr'] == pytest.approx(expected, rel=1e-6)
    assert len(lines) == 12


@pytest.mark.parametrize(
    'compiler', ['/nowhere/g++',
                 pytest.param('g++', marks=pytest.mark.full)])
def test_run_is_compiled_where_there_is_a_compiler(project, compiler):
    log = command(
        'train',
        project / 'fd.py',
        '--work-dir',
        project / 'run',
        '--cfg-options',
        'compile=True',
        'model.teacher.checkpoint=random',
        before='from torch._inductor import config\n'
        f'config.cpp.cxx = (None, {compiler!r})')
    there = bool(shutil.which(compiler))
    assert ('3 blocks are compiled' in log) == there
    assert ('this machine cannot' in log) == (not there)
    assert (project / 'run/epoch_1.pth').exists()


# --- bad input: one message, exit status 1, nothing left behind ---

FAULTS = {  # options, where {} is the folder of the config -> the message
    'missing folder':
    ('train_dataloader.dataset.data_root=/nowhere',
     'no image folder /nowhere: name another with --data-root'),
    'misspelt key': ('optim_wrapper.optimizer.lrr=1',
                     "optim_wrapper.optimizer has no 'lrr'; did you mean"),
    'misspelt class': ('model.backbone.type=mmfd.StudentVit',
                       "cannot be built: nothing is called type='mmfd.Stude"
                       "ntVit'; did you mean 'mmfd.StudentViT'"),
    'misspelt optimizer': ('optim_wrapper.optimizer.type=AdamWW',
                           "called type='AdamWW'; did you mean 'AdamW'"),
    'number that is none': ('optim_wrapper.optimizer.lr=abc',
                            "optimizer.lr='abc': a number of 0 or more"),
    'too few images': ('train_dataloader.batch_size=500',
                       '120 images give no batch of 500'),
    'address': ('model.teacher.checkpoint=https://a.b/c.pth',
                'https://a.b/c.pth is an address'),
    'missing checkpoint': ('load_from={}/none.pth',
                           r'no weights file .*none.pth\.$'),
    'patch': ('model.backbone.img_size=33',
              'img_size=33 is not a multiple of patch_size=8'),
    'missing weights':
    ('model.teacher.checkpoint={}/none.pth',
     'no weights file .*none.pth. OpenAI publishes it .* tools/convert.py'),
    'no model': ('model=None', 'the config has no model, so there is nothing '
                 'to train'),
    'text for a section': ('env_cfg=x', "env_cfg is 'x': a dict is expected"),
    'list for a section': ('train_dataloader=[]',
                           r'train_dataloader is \[\]: a dict is expected'),
    'number for a path': ('load_from=5', 'load_from is 5: a path is expected'),
    'no path': ('model.teacher.checkpoint=None',
                "model.teacher.checkpoint is '': a path is expected"),
    'half a validation': ('val_dataloader=None',
                          'the config has no val_dataloader: set all of val_'
                          'dataloader, val_cfg, val_evaluator, or set all to'),
    'another runner': ('runner_type=x', "the config has no 'runner_type'"),
    'text for the teacher': ('model.teacher=x',
                             "model.teacher is 'x': a dict is expected"),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_train_refuses_and_leaves_nothing_behind(project, unchanged, fault):
    options, message = FAULTS[fault]
    assert re.search(
        message,
        refused('train', project / 'fd.py', '--work-dir',
                project / 'runs' / 'fd', '--cfg-options',
                options.format(project)))
    assert unchanged()


def test_setting_is_named_where_grids_differ(project):
    message = refused('train', project / 'fd.py', '--work-dir',
                      project / 'run', '--cfg-options',
                      'model.backbone.patch_size=16')
    assert ('student gives 5 (1 + 2 x 2) tokens, teacher 17 (1 + 4 x 4): set '
            'neck.grid=4 (or teacher.neck.grid=2, or') in message


def test_train_refuses_an_empty_image_folder(project, unchanged):
    (project / 'images').mkdir()
    message = refused('train', project / 'fd.py', '--work-dir',
                      project / 'run', '--data-root', project / 'images')
    assert re.search('no images in .*images', message)
    assert unchanged('images')


def test_mistake_found_in_a_data_worker_is_one_message(project):
    (project / 'images').mkdir()
    for i in range(30):
        (project / f'images/{i}.jpg').write_text('no image')
    message = refused('train', project / 'fd.py', '--work-dir',
                      project / 'run', '--data-root', project / 'images',
                      '--cfg-options', 'train_dataloader.num_workers=1')
    assert re.fullmatch(
        'error: 100 draws from 29 images gave none that can be read, the '
        'last one .*jpg: it is none of JPEG, PNG, .*, GIF, or a rare kind of '
        'one. Set data_root .*', message)


ACCIDENTS = {  # what happens during a run -> the message
    'work_dir_removed': r'\.json cannot be written: No such file or dir'
    'ectory. The work dir was removed or made read-only during the run',
    'work_dir_locked': r'\.json cannot be written: Permission denied. '
    'The work dir was removed or made read-only during the run',
    'worker_killed': r'a process that reads images has ended \((DataLoader w'
    r'orker \(pid|Connection|EOF).*lower num_workers .*--resume goes on',
}


@pytest.mark.parametrize(
    'what',
    [
        # which error PyTorch raises for it depends on the moment
        pytest.param(what, marks=pytest.mark.full)
        if what == 'worker_killed' else what for what in ACCIDENTS
    ])
def test_accident_during_a_run_is_one_message(project, what):
    config = project / 'accident.py'
    config.write_text(
        "_base_ = 'fd.py'\n"
        "custom_imports = dict(imports=['helpers.fault_hooks'])\n"
        f"custom_hooks = [dict(type='Accident', what='{what}')]\n"
        'default_hooks = dict(logger=dict(interval=1))\n')
    workers = int(what == 'worker_killed')
    assert re.search(
        ACCIDENTS[what],
        refused('train', config, '--work-dir', project / 'run',
                '--cfg-options', f'train_dataloader.num_workers={workers}'))


def test_full_disk_is_one_message_though_the_log_is_on_it(tmp_path, capfd):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    cfg = tiny_runs.config(
        tmp_path / 'run',
        log_level='INFO',
        custom_hooks=[dict(type='FullDiskForLogs', iteration=6)])
    try:
        with pytest.raises(
                Refused,
                match=r'nothing more can be written .*File'
                ' too large.*make room there.*--resume goes on'):
            train(cfg)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    output = ''.join(capfd.readouterr())
    assert 'Epoch(train) [2][1/4]' in output and 'Logging error' not in output
    assert [f.name
            for f in (tmp_path / 'run').glob('*.p*th*')] == ['epoch_1.pth']
    assert checkpoints.load(tmp_path / 'run/epoch_1.pth')['meta']['iter'] == 4


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_config_of_little_is_refused(project, tool):
    config = project / 'little.py'
    config.write_text("model = dict(type='mmfd.StudentViT')")
    checkpoint = [project / 'clip.pth'] if tool == 'test' else []
    assert refused(tool, config, *checkpoint) == (
        f'error: the config has no {tool}_dataloader, {tool}_cfg, '
        f'{dict(train="optim_wrapper", test="test_evaluator")[tool]}, so '
        f'there is nothing to {tool}')


def test_file_that_two_zip_readers_read_differently_runs_nothing(project):
    """Harmless for our reader, hostile for the host's."""
    proof, file = project / 'was_here', project / 'two.pth'
    torch.save(dict(state_dict=runs_command(proof)), file)
    with zipfile.ZipFile(file) as archive:
        root = archive.namelist()[0].split('/')[0]
    with zipfile.ZipFile(file, 'a') as archive:
        archive.writestr(f'{root}/DATA.PKL', pickle.dumps({}))
        archive.writestr(f'{root}/code/__torch__.py', '')
    message = refused('train', project / 'fd.py', '--work-dir',
                      project / 'run', '--cfg-options', f'load_from={file}')
    assert 'two.pth' in message and not proof.exists()
