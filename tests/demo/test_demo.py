"""The scripts of demo/ without their training runs, which `make demo` does."""
import json
import re
from pathlib import Path

import pytest

from mmfd import files

ROOT = Path.cwd()


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """The first script, in a folder with logs of runs that are made up."""
    monkeypatch.syspath_prepend(ROOT / 'demo')
    import distil_and_compare
    monkeypatch.chdir(tmp_path)
    configs = 'simclr_shapes', *distil_and_compare.STUDENTS
    for i, config in enumerate(configs):
        top1 = [{'step': 3, 'accuracy/top1': 30 + i}]
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


def curve(monkeypatch, demo, teacher, finished):
    """Let the log of the curve have these top-1 accuracies, here and fresh."""
    rows = [(0, 11), (4, 30), (10, 33)]
    rows += [('teacher', x) for x in teacher] + [(40, x) for x in finished]
    lines = [
        dict(images=images, network=network, seed=0, top1=top1)
        for images in ('shapes', 'fresh') for network, top1 in rows
    ]
    Path('curve.json').write_text('\n'.join(map(json.dumps, lines)))
    monkeypatch.setattr(demo, 'CURVE', Path('curve.json'))


def figure_of(demo, monkeypatch):
    figures = []

    class Figure(demo.Figure):

        def savefig(self, *args, **kwargs):
            figures.append(self)
            return super().savefig(*args, **kwargs)

    monkeypatch.setattr(demo, 'Figure', Figure)
    demo.draw('demo.png')
    assert Path('demo.png').stat().st_size > 10_000
    return figures[0].axes[0]


def test_picture_is_top1_against_epochs_of_distillation(demo, monkeypatch):
    curve(monkeypatch, demo, teacher=[34, 35], finished=[37, 38])
    axis = figure_of(demo, monkeypatch)
    lines = {
        line.get_label(): line.get_xydata().tolist()
        for line in axis.lines
    }
    assert lines['FD student, in the log'] == [[0, 11], [4, 30], [10, 33],
                                               [40, 37.5]]
    assert lines['FD student, today'] == [[4, 31], [40, 32]]
    assert {y for _, y in lines['its teacher (SimCLR), today']} == {30}
    assert {y for _, y in lines['chance']} == {10}  # per cent, of ten classes


@pytest.mark.parametrize('finished, said', [
    ([37, 38], 'beats its teacher by 3.0 points'),
    ([34.5, 38], '1.8 points above its teacher, within the spread'),
    ([31, 32], '3.0 points below its teacher'),
])
def test_picture_says_whether_the_student_is_above_its_teacher(
        demo, monkeypatch, finished, said):
    curve(monkeypatch, demo, teacher=[34, 35], finished=finished)
    assert said in figure_of(demo, monkeypatch).get_title()


def test_student_and_curve_that_travel_are_those_of_the_page():
    page = (ROOT / 'configs/demo/README.md').read_text()
    for name in 'teacher', 'student':
        assert files.sha256(ROOT / f'configs/demo/{name}.pth') in page
    for line in (ROOT / 'configs/demo/curve.json').read_text().splitlines():
        assert f'{json.loads(line)["top1"]:.1f}' in page
