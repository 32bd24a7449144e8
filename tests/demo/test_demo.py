"""The scripts of demo/ without their training runs, which `make demo` does."""
import json
import re
from pathlib import Path

import pytest

ROOT = Path.cwd()


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """The first script, in a folder with logs of runs that are made up."""
    monkeypatch.syspath_prepend(ROOT / 'demo')
    import distil_and_compare
    monkeypatch.chdir(tmp_path)
    log('simclr_fd', [dict(step=50, loss=0.3), dict(step=100, loss=0.2)])
    for i, config in enumerate(distil_and_compare.FINE_TUNED):
        top1 = [{'step': 1, 'accuracy/top1': i}]
        log(config, [{'step': 50, 'loss': 2.3}, *top1])
    return distil_and_compare


def log(name, lines):
    folder = Path('work_dirs', name, '20260101_000000/vis_data')
    folder.mkdir(parents=True)
    text = '\n'.join(map(json.dumps, lines))
    (folder / 'scalars.json').write_text(text)


def test_make_runs_only_scripts_that_exist():
    scripts = re.findall(r'python (\S+\.py)', (ROOT / 'Makefile').read_text())
    assert {Path(script).parts[0] for script in scripts} >= {'demo', 'tools'}
    assert all((ROOT / script).is_file() for script in scripts)


def test_picture_shows_loss_accuracies_and_chance(demo, monkeypatch):
    figures = []

    class Figure(demo.Figure):

        def savefig(self, *args, **kwargs):
            figures.append(self)
            return super().savefig(*args, **kwargs)

    monkeypatch.setattr(demo, 'Figure', Figure)
    demo.draw('demo.png')
    left, right = figures[0].axes
    assert left.lines[0].get_xydata().tolist() == [[50, 0.3], [100, 0.2]]
    curves = [line.get_xydata().tolist() for line in right.lines]
    assert curves[:3] == [[[1, 0]], [[1, 1]], [[1, 2]]]
    assert {y for _, y in curves[3]} == {10}  # per cent, of ten classes
    assert Path('demo.png').stat().st_size > 10_000
