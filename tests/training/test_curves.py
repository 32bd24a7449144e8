"""The picture of a run's curves, from the lines that it logged."""
import json
from math import nan

import numpy as np
import pytest
from PIL import Image

from mmfd.training import curves


def log(work_dir, start, *lines):
    """Write the lines of one start of a run."""
    folder = work_dir / start / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text)


def trained(step, loss):
    return dict(lr=1e-3, loss=loss, iter=step, step=step)


@pytest.fixture
def resumed(tmp_path):
    """Stopped at 30, gone on from 15; evaluated after epochs 1 to 3 of 10."""
    log(tmp_path, '20260101_000000', trained(10, .9), {
        'held_out/explained': .1,
        'step': 1
    }, trained(20, .8), {
        'held_out/explained': .2,
        'step': 2
    }, dict(explained=.25, step=25), trained(30, .7))
    log(tmp_path, '20260101_000001', trained(20, .85), {
        'held_out/explained': .3,
        'step': 2
    }, trained(30, .75), {
        'held_out/explained': nan,
        'step': 3
    })
    return tmp_path


def test_what_was_done_again_counts_once(resumed):
    found = curves.read(resumed)
    assert found['loss'] == [(10, .9), (20, .85), (30, .75)]
    assert found['explained'] == []


def test_an_evaluation_stands_at_its_iteration_not_at_its_epoch(resumed):
    assert curves.read(resumed)['held_out/explained'] == [(10, .1), (20, .3)]


def test_a_line_that_a_kill_cut_short_is_left_out(resumed):
    [*_, file] = sorted(resumed.glob('*/vis_data/scalars.json'))
    file.write_text(file.read_text() + '{"lr": 0.001, "loss": 0.')
    assert curves.read(resumed)['loss'][-1] == (30, .75)


@pytest.mark.parametrize('metric, panels', [('accuracy/top1', 3), ('mIoU', 3),
                                            ('coco/bbox_mAP', 3), ('time', 2)])
def test_a_panel_for_each_kind_of_curve(tmp_path, metric, panels):
    log(tmp_path, 'start', trained(1, 2.), {metric: .5, 'step': 1})
    picture = Image.open(curves.draw(tmp_path)).convert('RGB')
    inches = curves.HEIGHT * panels + .5
    assert picture.size == (768, round(inches * curves.DPI))
    # the colour of the curve, in the row of each panel
    colour = tuple(bytes.fromhex(curves.COLOURS[0][1:]))
    height = picture.height * (inches - .5) / inches / panels
    for row in range(panels):
        part = np.asarray(picture)[round(row * height):round((row + 1) *
                                                             height)]
        assert (part == colour).all(-1).any()


@pytest.mark.parametrize('lr, curve_count', [(1e-3, 1), (1e-4, 2)])
def test_equal_curves_are_drawn_once(tmp_path, lr, curve_count):
    """Without layer decay, and with it."""
    log(tmp_path, 'start',
        *(dict(base_lr=1e-3, lr=lr, step=step) for step in (1, 2)))
    picture = np.asarray(Image.open(curves.draw(tmp_path)).convert('RGB'))
    drawn = [(picture == tuple(bytes.fromhex(colour[1:]))).all(-1).any()
             for colour in curves.COLOURS]
    assert sum(drawn) == curve_count


def test_nothing_is_drawn_of_a_run_without_a_log(tmp_path):
    assert curves.draw(tmp_path) is None
    assert not [*tmp_path.iterdir()]


def test_a_picture_that_cannot_be_drawn_is_a_warning(resumed, warned):
    (resumed / curves.PICTURE).mkdir()
    assert curves.draw(resumed) is None
    (resumed / curves.PICTURE).rmdir()
    log(resumed, '20260101_000002', ['no', 'dict', 'lr'])
    assert curves.draw(resumed) is None
    assert not (resumed / curves.PICTURE).exists()
    assert [text.split(' was ')[0].split('/')[-1]
            for text in warned] == ['curves.png', 'curves.png']
