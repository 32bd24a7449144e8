"""The host's EarlyStoppingHook in runs that are stopped and resumed."""
import pytest
import torch
from helpers import tiny_runs
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from mmfd.errors import Refused
from mmfd.weights.mmengine_reader import load_for_mmengine


@METRICS.register_module(force=True)
class AlwaysOne(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results.append(1.)

    def compute_metrics(self, results):
        return dict(score=results[0])


def train(work_dir, epochs, monitor='score', **changes):
    """A run that has its best number at once, and then waits for three."""
    cfg = tiny_runs.config(
        work_dir,
        train_cfg=dict(max_epochs=epochs),
        val_dataloader=dict(
            tiny_runs.CONFIG['train_dataloader'],
            sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg={},
        val_evaluator=dict(type='AlwaysOne'),
        **changes)
    cfg.custom_hooks = [
        dict(
            type='EarlyStoppingHook',
            monitor=monitor,
            rule='greater',
            patience=3)
    ]
    return tiny_runs.run(cfg)


def test_resumed_run_stops_where_one_never_stopped_does(tmp_path):
    assert train(tmp_path / 'whole', 9).epoch == 4
    for epochs in 2, 3:
        assert train(
            tmp_path / 'run', epochs, resume=epochs > 2).epoch == epochs
    assert train(tmp_path / 'run', 9, resume=True).epoch == 4
    saved = load_for_mmengine(tmp_path / 'run/epoch_4.pth')
    # before the evaluation that ended the run
    assert saved['meta']['early_stopping'] == dict(
        score=dict(waited=2, best=1.))
    assert train(tmp_path / 'run', 9, resume=True).epoch == 4


def test_number_that_is_not_measured_is_refused_by_name(tmp_path):
    with pytest.raises(Refused, match="monitor='acc': .* measured score; na"):
        train(tmp_path / 'run', 2, monitor='acc')


def test_hook_that_a_run_did_not_have_says_that_it_counts_anew(
        tmp_path, capfd):
    train(tmp_path, 2)
    saved = tmp_path / 'epoch_2.pth'
    checkpoint = load_for_mmengine(saved)
    checkpoint['meta']['early_stopping'].clear()
    torch.save(checkpoint, saved)
    train(tmp_path, 3, resume=True, log_level='WARNING')
    assert 'EarlyStoppingHook of score counts from nothing' in ''.join(
        capfd.readouterr())
