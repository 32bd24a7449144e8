"""The ablations on the demo's images, run and compared by one command."""
from pathlib import Path

import pytest
import torch
from helpers.commands import command


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend('demo')
    import compare_ablations
    return compare_ablations


def test_ridge_regression_is_least_squares_with_as_many_zeros(demo):
    """As if C rows more asked each weight, but not the bias, to be 0."""
    x, labels = torch.randn(40, 6).double() + 1, torch.arange(40) % 3
    weight, bias = demo.ridge(x, labels, strength=2.)
    rows = torch.cat((x, torch.ones(40, 1)), 1)
    zeros = torch.cat((2**0.5 * torch.eye(6), torch.zeros(6, 1)), 1)
    targets = torch.cat((torch.eye(3)[labels], torch.zeros(6, 3)))
    solved = torch.linalg.lstsq(torch.cat((rows, zeros)),
                                targets.double()).solution
    torch.testing.assert_close(weight.double(), solved[:6].T)
    torch.testing.assert_close(bias.double(), solved[6])


@pytest.mark.full
def test_one_command_prints_the_table(demo, tmp_path, shapes_root):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/shapes').symlink_to(shapes_root)
    output = command('demo/compare_ablations.py', cwd=tmp_path, seconds=3600)
    rows = len(demo.leaves()) + 1
    table = output.split('\nablation ')[1].splitlines()
    assert len(table) == 1 + rows + 1
    assert f'{rows} of {rows}' in output
    picture = Path(tmp_path, 'work_dirs/ablations.png')
    assert picture.stat().st_size > 10_000
