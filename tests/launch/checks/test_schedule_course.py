"""What a schedule makes of the learning rate is known before the run."""
import re

import pytest
from helpers import tiny_runs

from mmfd.errors import Refused
from mmfd.launch.runner import prepare

HOST = dict(
    default_hooks=dict(
        param_scheduler=dict(_delete_=True, type='ParamSchedulerHook')),
    log_level='INFO')


def start(folder, *schedules, **changes):
    """Prepare a run of 2 epochs of 4 iterations with these schedules."""
    cfg = tiny_runs.config(
        folder, param_scheduler=[*schedules], **{
            **HOST,
            **changes
        })
    runner = prepare(cfg, train=True)
    assert isinstance(runner.param_schedulers[0], dict)  # not built yet
    assert runner.optim_wrapper.get_lr()['lr'][0] == 0.1
    return runner


CANNOT = {  # schedule -> the message
    'end before begin': (dict(
        type='CosineAnnealingLR', begin=1, end=1), 'end should be larger'),
    'iterations made of iterations': (dict(
        type='CosineAnnealingLR',
        T_max=2,
        by_epoch=False,
        convert_to_iter_based=True), 'Only epoch-based'),
    'fewer steps than the run': (dict(
        type='OneCycleLR', eta_max=.1, total_steps=5,
        by_epoch=False), 'Tried to step 7 times.* total steps is 5'),
}


@pytest.mark.parametrize('name', CANNOT)
def test_schedule_that_cannot_be_stepped_to_the_end_is_refused(tmp_path, name):
    schedule, message = CANNOT[name]
    with pytest.raises(Refused, match=f'cannot be built: .*{message}'):
        start(tmp_path / 'run', schedule)
    assert not (tmp_path / 'run').exists()


NO_USE = {  # schedule -> the warning
    'milestones beyond the run': (dict(type='MultiStepLR', milestones=[2, 9]),
                                  'lr: 0.1 at first, .*which never changes'),
    'steps beyond the run': (dict(type='StepLR', step_size=2),
                             'lr: .* which never changes'),
    'a cosine of a longer run': (dict(type='CosineAnnealingLR', T_max=20),
                                 'lr: 0.1 at first, .* it does not fall'),
    'epochs counted as iterations': (dict(
        type='CosineAnnealingLR', T_max=4,
        by_epoch=False), 'lr: .* at the end, .* it does not fall'),
}


@pytest.mark.parametrize('name', NO_USE)
def test_schedule_that_does_nothing_or_too_much_is_said(tmp_path, capfd, name):
    schedule, message = NO_USE[name]
    start(tmp_path, schedule)
    assert re.search(f'WARNING - {message}', capfd.readouterr().out)


def test_values_are_those_that_the_run_has(tmp_path, capfd):
    """Warm-up by iterations, then steps by epochs, of groups of two rates."""
    runner = start(
        tmp_path,
        dict(type='LinearLR', start_factor=.1, by_epoch=False, end=3),
        dict(type='MultiStepLR', milestones=[1]))
    assert ('INFO - lr: 0.01 at first, 0.1 at most, 0.01 at the end'
            in capfd.readouterr().out)
    runner.train()
    used = runner.message_hub.get_scalar('train/lr').data[0]
    assert used[0] == pytest.approx(0.01) and used[-1] == pytest.approx(0.01)
    assert max(used) == pytest.approx(0.1)


def test_schedule_that_waits_for_numbers_is_built_alone(tmp_path, capfd):
    start(tmp_path, dict(type='ReduceOnPlateauLR', monitor='held_out/loss'))
    assert 'by param_scheduler' not in capfd.readouterr().out
