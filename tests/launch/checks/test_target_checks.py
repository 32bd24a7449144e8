"""Statistics of targets: of which teacher, saved, resumed, not replaced."""
import pytest
import torch
from helpers import tiny_runs
from helpers.models import branch, clip_teacher, distillation, several
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import Dataset

from mmfd.errors import Refused
from mmfd.launch.checks import target_checks
from mmfd.launch.runner import prepare
from mmfd.targets.token_statistics import TokenStatistics, selection
from mmfd.weights import checkpoints

KEYS = [f'teacher.neck.normalize.{name}' for name in ('mean', 'std', 'count')]


@DATASETS.register_module(force=True)
class TinyPixels(Dataset):

    def __len__(self):
        return 12

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(int(index))
        return dict(
            inputs=torch.randint(0, 256, (3, 32, 32), generator=generator))


@pytest.fixture(scope='module')
def teacher_file(tmp_path_factory):
    """A teacher, whose random weights would be others in each run."""
    file = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    teacher = MODELS.build(clip_teacher(layers=1))
    checkpoints.save(teacher.backbone.state_dict(), file, {})
    return str(file)


def config(teacher_file, work_dir, normalize, **changes):
    cfg = tiny_runs.config(work_dir, **changes)
    cfg.model = ConfigDict(
        distillation(
            clip_teacher(
                checkpoint=teacher_file,
                layers=1,
                neck=dict(type='mmfd.TargetNeck', **normalize))))
    cfg.train_dataloader.dataset.type = 'TinyPixels'
    return cfg


def run(*arguments, **changes):
    runner = prepare(config(*arguments, **changes), train=True)
    runner.train()
    return runner.model.state_dict()


def statistics(folder, teacher, mean=1.):
    """Path of statistics of 128 channels."""
    path = folder / f'{teacher}_{mean}.safetensors'
    TokenStatistics(
        torch.full((128, ), mean),
        torch.eye(128).double(), 1000, 10, teacher, selection('all', None),
        '[32, 32]').save(path)
    return str(path)


def test_statistics_of_another_teacher_are_said_with_the_branch(
        teacher_file, tmp_path):

    def of(teacher):
        neck = dict(
            type='mmfd.TargetNeck',
            normalize='standardize',
            statistics=statistics(tmp_path, teacher))
        return branch(clip_teacher(teacher_file, layers=1, neck=neck))

    own = MODELS.build(clip_teacher(teacher_file, layers=1)).fingerprint
    target_checks.check(MODELS.build(several(clip=of(own))))
    with pytest.raises(
            Refused,
            match='^model.branches.dino: teacher.neck.statistics are'):
        target_checks.check(
            MODELS.build(several(clip=of(own), dino=of('another'))))


def test_running_statistics_are_saved_and_resumed(teacher_file, tmp_path):
    running = dict(normalize=dict(type='running', channels=128))
    whole = run(teacher_file, tmp_path / 'whole', running)
    assert whole[KEYS[2]] == 2 * 12 * 17
    middle = str(tmp_path / 'whole/epoch_1.pth')
    saved = checkpoints.load(middle)
    assert {*KEYS} <= saved['state_dict'].keys()
    assert {f'module.{key}' for key in KEYS} <= saved['ema_state_dict'].keys()
    resumed = run(
        teacher_file,
        tmp_path / 'resumed',
        running,
        resume=True,
        load_from=middle)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_statistics_of_another_teacher_are_refused(teacher_file, tmp_path):

    def model(of):
        neck = dict(normalize='phi_s', statistics=statistics(tmp_path, of))
        cfg = config(teacher_file, tmp_path / 'run', neck)
        return MODELS.build(cfg.model)

    own = model('another').teacher.fingerprint
    with pytest.raises(Refused, match=f'fingerprint another, and .*{own}'):
        target_checks.check(model('another'))
    target_checks.check(model(own))


def test_a_start_does_not_replace_the_statistics_of_a_run(
        teacher_file, tmp_path):
    running = dict(normalize=dict(type='running', channels=128))
    teacher = MODELS.build(config(teacher_file, tmp_path,
                                  running).model).teacher.fingerprint

    def begin(mean, **changes):
        neck = dict(
            normalize='standardize',
            statistics=statistics(tmp_path, teacher, mean))
        return prepare(
            config(teacher_file, tmp_path / f'{mean}', neck, **changes), True)

    begin(1.).train()
    start = str(tmp_path / '1.0/epoch_2.pth')
    with pytest.raises(Refused, match='replace teacher.neck.normalize.mean'):
        begin(2., load_from=start)
    begin(1., load_from=start)
