"""Tables are what the logs say, and no more."""
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend('evidence')
    import tables
    return tables


def log(tables, hits):
    step = dict(command='python tools/train.py', cpu_seconds=1800)
    return dict(
        images='final',
        steps=[step],
        score=100 * hits.mean(),
        values=tables.evaluate.pack(hits))


def logs_of(tables, seeds, gain):
    """Logs of trials, and of final runs of the SimCLR teacher."""
    trials = tables.design.of_teacher('simclr', {}).trials()
    logs = {run.name: dict(score=50) for run in trials}
    logs[trials[2].name] = logs[trials[3].name] = dict(score=60)  # 8e-3
    arms = tables.design.of_teacher('simclr', logs)
    for seed in range(seeds):
        before = np.arange(4001) % 1000 < 500 + seed
        after = np.arange(4001) % 1000 < 500 + seed + gain
        for arm, hits in dict(before=before, after=after).items():
            run = arms.final(arm, seeds)[seed]
            logs[run.name] = log(tables, hits)
    return logs


def row(tables, logs):
    _, rows = tables.main_table(logs)
    return rows[0]


def test_row_without_logs_is_not_run(tables):
    assert set(row(tables, {})[1:]) == {'not run'}


def test_row_without_all_seeds_has_no_verdict(tables):
    cells = row(tables, logs_of(tables, 4, gain=30))
    assert cells[1] == '50.2 ± 0.1 (4 of 5 seeds)'
    assert set(cells[3:]) == {'not run'}


@pytest.mark.parametrize('gain, verdict', [(30, 'seen'), (0, 'not seen'),
                                           (-30, 'not seen')])
def test_complete_row_has_its_difference_and_verdict(tables, gain, verdict):
    cells = row(tables, logs_of(tables, 5, gain))
    assert cells[3] == f'{gain / 10:+.1f}'
    assert cells[-1] == verdict


def test_values_of_images_come_back_from_a_log(tables):
    rng = np.random.default_rng(0)
    hits = rng.random(10_000) < 0.5
    areas = rng.integers(2**18, size=(233, 2, 11)).astype(np.uint32)
    for values in hits, areas:
        found = tables.evaluate.unpack(tables.evaluate.pack(values))
        assert found.dtype == values.dtype and (found == values).all()
    assert len(tables.evaluate.pack(hits)) < 3000


def test_page_has_every_table_and_is_that_of_the_logs(tables):
    """If not: python evidence/tables.py"""
    from run import read_logs
    page = Path('docs/evidence.md').read_text()
    assert {name
            for _, name, _ in tables.PLACE.findall(page)
            } == tables.TABLES.keys()
    assert tables.written(page, read_logs()) == page
