"""The cells of the notebooks run, one after the other, and show something."""
import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers.pages import ROOT

NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))


def cells(path):
    """The code of each cell; none may have kept an output."""
    notebook = json.loads(path.read_text())
    code = [c for c in notebook['cells'] if c['cell_type'] == 'code']
    assert not any(cell['outputs'] for cell in code)
    return [''.join(cell['source']) for cell in code]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_stored_without_outputs_and_are_python(path):
    for cell in cells(path):
        compile(cell, str(path), 'exec')


@pytest.mark.full
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_in_an_empty_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use('Agg')
    names = {}
    for cell in cells(path):
        exec(cell, names)
    [figure] = map(plt.figure, plt.get_fignums()[-1:])
    figure.canvas.draw()
    shown = [
        image.get_array() for axis in figure.axes for image in axis.images
    ]
    assert shown and all(np.ptp(array) > 0 for array in shown)
    if path.stem == 'distil':
        assert names['shown'].keys() == {'teacher', 'student'}
        assert {rgb.shape for rgb in names['shown'].values()} == {(6, 6, 6, 3)}
    plt.close('all')
