"""The curves of a run as one picture, from the numbers that it has logged."""
import json
from math import isfinite
from pathlib import Path

from mmfd.files import output_file
from mmfd.hosts import log

PICTURE = 'curves.png'  # in the work dir
PANELS = {  # title of a panel -> ends of the names of its curves
    'loss': ('loss', ),
    'share explained': ('explained', ),
    'accuracy (%)': ('top1', 'mIoU'),
    'average precision': ('mAP', ),
    'learning rate': ('lr', )
}
WIDTH, HEIGHT, DPI = 6.4, 1.5, 120  # inches of a panel, pixels of an inch
# After Okabe and Ito: those who do not see all colours can tell them apart
COLOURS = '#0072B2', '#D55E00', '#009E73', '#CC79A7'


def logged(work_dir):
    """What all starts of a run have logged, in order.

    Args:
        work_dir (str | Path): in which each start has a folder named by its
            time, with the `vis_data/scalars.json` of `LocalVisBackend`.

    Yields:
        list[dict]: of each start its lines, each with its `step`.
    """
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        lines = []
        for line in file.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # the run was killed while it wrote the line
                pass
        yield lines


def read(work_dir):
    """The curves of a run; what was done again after a stop counts once.

    Args:
        work_dir (str | Path): as of `logged`.

    Returns:
        dict[str, list[tuple[int, float]]]: of each name in the log its points,
        (iteration, value). An evaluation stands at the iteration before it.
    """
    curves, iteration = {}, 0
    for lines in logged(work_dir):
        begun = False
        for line in lines:
            if 'lr' in line or 'explained' in line:  # others may count epochs
                iteration = line['step']
                if not begun:
                    _cut(curves, iteration)
                    begun = True
            for name, value in line.items():
                if isinstance(value, (int, float)) and isfinite(value):
                    curves.setdefault(name, []).append((iteration, value))
    return curves


def _cut(curves, iteration):
    """Remove what was measured at an iteration or later."""
    for points in curves.values():
        points[:] = [point for point in points if point[0] < iteration]


def draw(work_dir):
    """Draw what a run has logged into `curves.png` in its work dir.

    A run does not fail because of its picture: the log says what went wrong.

    Args:
        work_dir (str | Path): as of `logged`.

    Returns:
        Path: of the picture. None: if there was nothing to draw, or it could
        not be drawn.
    """
    path = Path(work_dir, PICTURE)
    try:
        panels = _panels(read(work_dir))
        if not panels:
            return None
        with output_file(path) as file:
            _figure(panels).savefig(file, format='png', dpi=DPI)
    except Exception as error:
        log.warn(f'{path} was not drawn: {type(error).__name__}: {error}')
        return None
    return path


def _panels(curves):
    """{title: {name: points}} of the panels that have a curve.

    Of equal curves the first is taken: `base_lr` is `lr` without layer decay.
    """
    panels = {}
    for title, ends in PANELS.items():
        found = panels[title] = {}
        for name, points in curves.items():
            is_of_panel = name.split('/')[-1].split('_')[-1] in ends
            if is_of_panel and points and points not in found.values():
                found[name] = points
    return {title: found for title, found in panels.items() if found}


def _figure(panels):
    from matplotlib.figure import Figure  # a third of a second, at the end
    height = HEIGHT * len(panels) + 0.5
    figure = Figure(figsize=(WIDTH, height), facecolor='white')
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=0.13, right=0.98, top=1 - 0.1 / height, bottom=0.5 / height)
    for axis, (title, found) in zip(axes, panels.items()):
        for colour, (name, points) in zip(COLOURS, found.items()):
            few = len(points) <= 20
            axis.plot(
                *zip(*points),
                '.-' if few else '-',
                color=colour,
                lw=1.3,
                label=name)
        axis.set_ylabel(title)
        axis.spines[['top', 'right']].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.align_ylabels(axes)
    axes[-1].set_xlabel('iteration')
    return figure
