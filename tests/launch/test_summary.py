"""What is said when a run has ended."""
import shlex

from helpers import tiny_runs

from mmfd.launch import summary


def test_commands_that_are_offered_can_be_pasted(tmp_path):
    folder = tmp_path / 'of two words'
    runner = tiny_runs.run(
        tiny_runs.config(folder, train_cfg=dict(max_epochs=1)))
    runner.cfg.test_dataloader = dict(batch_size=1)
    _, said = summary.ending(runner, 0.).split('next\n')
    test, draw, *_ = map(shlex.split, said.splitlines())
    assert test == ['mmfd', 'test', 'CONFIG', f'{folder}/epoch_1.pth']
    assert draw[:4] == ['mmfd', 'draw', 'CONFIG', f'{folder}/epoch_1.pth']
