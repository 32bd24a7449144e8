"""The ablations on the demo's images, run and compared by one command."""
from pathlib import Path

import pytest
from helpers.commands import command


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend('demo')
    import compare_ablations
    return compare_ablations


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
