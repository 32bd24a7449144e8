"""What is run, what is not run again, and what is refused."""
import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.images import class_tree

from mmfd.errors import Refused


@pytest.fixture
def harness(monkeypatch, tmp_path):
    """`run.py` in a folder of its own, which has images and no log."""
    monkeypatch.syspath_prepend('evidence')
    import images
    import run
    for name, count in dict(TRAINED=4, HELD_OUT=2, TESTED=3).items():
        monkeypatch.setattr(images, name, count)
    monkeypatch.chdir(tmp_path)
    class_tree(Path('data'), images.CLASSES, train=6, test=3)
    run.LOGS.mkdir(parents=True)
    return run


def log(harness, name, **facts):
    (harness.LOGS / f'{name}.json').write_text(json.dumps(facts))


DATA = dict(DATA='data', CAMVID=None)


def names(harness, only='', data=DATA):
    return [run.name for run in harness.runs_without_log(data, only)]


def test_nothing_but_teachers_and_scratch_runs_without_a_teacher(harness):
    assert {name.split('_lr')[0]
            for name in names(harness)} == {
                'simclr_teacher', 'labels_teacher', 'captions_teacher',
                'masked_teacher', 'selection_scratch',
                'selection_shapes_scratch'
            }


def test_what_has_a_log_is_not_run_again_and_its_followers_are(harness):
    log(harness, 'masked_teacher')
    assert names(harness, 'masked') == [
        f'selection_masked_{arm}_epochs_lr{rate}e-3_seed100'
        for rate in (4, 8, 16) for arm in ('before_12', 'fd_30')
    ]


def test_segmentation_is_run_where_its_images_are_named(harness):
    for teacher in harness.design.teachers():
        log(harness, teacher)
    assert not names(harness, 'segment')
    found = names(harness, 'segment', dict(DATA, CAMVID='scenes'))
    assert len(found) == 3 * (4 * 2 + 1)  # rates; before, after; scratch


def test_logs_of_other_images_are_refused(harness):
    folder = harness.images_for('selection', DATA)
    log(harness, 'simclr_teacher', images='selection', sum=folder.name)
    assert harness.images_for('selection', DATA) == folder
    Path('data/train/cat/0.jpg').write_text('another cat')
    Path('data/train/cat/1.jpg').write_text('another cat')
    with pytest.raises(
            Refused,
            match='simclr_teacher.json is of the images '
            f'{folder.name}, those of DATA=data are selection_'):
        harness.images_for('selection', DATA)


def test_run_whose_first_step_another_process_takes_is_left_to_it(harness):
    log(harness, 'masked_teacher')
    students = harness.runs_without_log(DATA, 'masked_fd')
    with ExitStack() as mine, ExitStack() as others:
        assert harness.claim(students[0], mine)
        assert not harness.claim(students[1], others)  # the same student
    with ExitStack() as others:
        assert harness.claim(students[1], others)


def test_what_is_trained_stays_locked_if_its_starter_is_killed(harness):
    log(harness, 'masked_teacher')
    [run, *_] = harness.runs_without_log(DATA, 'masked_fd')
    with ExitStack() as mine:
        held = harness.claim(run, mine)
        child = subprocess.Popen(['sleep', '60'], pass_fds=held)
    with ExitStack() as others:
        assert harness.claim(run, others) is None
    child.kill()
    child.wait()
    with ExitStack() as others:
        assert harness.claim(run, others)


def test_only_a_run_with_a_result_can_be_run_again(harness):
    with pytest.raises(Refused, match='expected is the name of a log'):
        harness.again('simclr_teacher', DATA)
