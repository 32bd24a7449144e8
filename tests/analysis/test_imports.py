"""Measures are pure functions of tensors; few files draw."""
from pathlib import Path

from helpers.imports import imported


def test_measures_import_torch_alone_and_only_plots_import_matplotlib():
    files = {path.stem: path for path in Path('mmfd/analysis').glob('*.py')}
    drawing = {
        name
        for name, path in files.items()
        if any('matplotlib' in n for n in imported(path))
    }
    assert drawing == {'plots', 'plot_parts'}
    for name in ('attention', 'tokens', 'measures', 'landscape', 'whitening'):
        roots = {n.split('.')[0] for n in imported(files[name])}
        assert roots <= {'torch', 'math', 'typing', 'mmfd'}, name
