"""A loss, gradient or weight that is not finite never reaches a checkpoint."""
import re
from types import SimpleNamespace

import pytest
import torch
from helpers.runs import final, run
from mmengine.config import Config

from mmfd.training.nan_guard import MAX_SCALES, NanGuardHook
from mmfd.training.optim import AmpOptimWrapper


def with_not_finite(config, tmp_path, what, iterations):
    """A config whose loss or gradient is not finite in some iterations."""
    file = tmp_path / 'not_finite.py'
    file.write_text(f"""
_base_ = '{config}'
custom_imports = dict(
    imports=['helpers.fault_hooks'], allow_failed_imports=False)
custom_hooks = [
    dict(type='NotFinite', what='{what}', iterations={iterations})]
""")
    return file


@pytest.mark.parametrize(
    'what',
    ['gradient', pytest.param('loss', marks=pytest.mark.full)])
def test_what_is_not_finite_stops_the_run_before_it_is_saved(
        config, tmp_path, what):
    work_dir = tmp_path / 'run'
    output = run(
        with_not_finite(config, tmp_path, what, [6]),
        work_dir,
        options=('default_hooks.checkpoint.minutes=None', ),
        code=1)
    value = 'nan' if what == 'loss' else '(nan|inf)'
    assert re.search(
        f'error: the {what} is {value} in iteration 6, epoch 2. The last '
        f'valid checkpoint is {work_dir}/epoch_1.pth', output)
    assert [file.name for file in work_dir.glob('*.pth*')] == ['epoch_1.pth']


def test_updates_without_finite_gradients_are_skipped(config, tmp_path):
    work_dir = tmp_path / 'run'
    output = run(
        with_not_finite(config, tmp_path, 'loss', [6, 7]),
        work_dir,
        options=('default_hooks.numbers.skip=2', 'train_cfg.val_interval=9'))
    assert re.search(
        r'iteration 7: the gradient is (nan|inf); its update is skipped, 2 of '
        'at most 2 in a row', output)
    state = final(work_dir)
    assert all(w.isfinite().all() for w in state['state_dict'].values())
    steps = {float(s['step']) for s in state['optimizer']['state'].values()}
    assert steps == {10}  # of 12


def test_more_updates_than_allowed_stop_the_run():
    model = torch.nn.Linear(2, 2)
    optim = AmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    warnings = []
    runner = SimpleNamespace(
        optim_wrapper=optim,
        iter=5,
        epoch=1,
        cfg=Config(dict(work_dir='nowhere')),
        logger=SimpleNamespace(warning=warnings.append))
    NanGuardHook(skip=1).before_train(runner)

    def update():
        optim.update_params(model(torch.full((1, 2), float('inf'))).sum())

    update()
    assert len(warnings) == 1
    runner.iter = 6
    with pytest.raises(
            ValueError,
            match='1 updates in a row were skipped before iter.* 7'):
        update()


def test_loss_scaler_tries_smaller_scales_until_none_will_do():
    """A scaler tells a fused optimizer within the step, after the hook."""
    model = torch.nn.Linear(2, 2)
    optim = AmpOptimWrapper(
        dtype='float16',
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.1, fused=True),
        clip_grad=dict(max_norm=1.))
    runner = SimpleNamespace(
        optim_wrapper=optim,
        iter=0,
        epoch=0,
        cfg=Config(dict(work_dir='nowhere')))
    hook = NanGuardHook(interval=1)
    hook.before_train(runner)
    before = model.weight.detach().clone()

    def update(value):
        loss = (model(torch.ones(1, 2)) * value).sum()
        optim.update_params(loss)
        hook.after_train_iter(runner, 0, None, dict(loss=torch.ones(())))

    for _ in range(MAX_SCALES):
        update(float('inf'))
    assert torch.equal(model.weight, before)
    update(1.)
    assert not torch.equal(model.weight, before)
    assert optim.scaler.get_scale() == 2.**(16 - MAX_SCALES)
    with pytest.raises(ValueError, match='no gradient was finite in 30'):
        for _ in range(MAX_SCALES + 1):
            update(float('inf'))


def test_weight_that_is_not_finite_is_not_saved():
    runner = SimpleNamespace(
        iter=3, epoch=1, cfg=Config(dict(work_dir='nowhere')))
    weights = dict(good=torch.ones(2), bad=torch.tensor([1., float('nan')]))
    with pytest.raises(ValueError, match='the weight bad is not finite'):
        NanGuardHook().before_save_checkpoint(runner, dict(state_dict=weights))


def test_spikes_of_the_loss_are_warnings():
    warnings = []
    hook = NanGuardHook(spike=3)
    runner = SimpleNamespace(
        logger=SimpleNamespace(warning=warnings.append), epoch=0)
    for runner.iter in range(30):
        loss = torch.tensor(7. if runner.iter == 24 else 2.)
        hook.after_train_iter(runner, runner.iter, None, dict(loss=loss))
    assert warnings == ['iteration 25: the loss of 7 is 3.5 times the usual 2']
