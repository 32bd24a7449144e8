"""The tables of results name what is there, with the configs' own numbers."""
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS
from test_configs import LEAVES, SCOPE, neutral

from mmfd.meta import RealSchedules

TABLES = [x for x in LEAVES if x.split('/')[1] in ('fd', 'classification')]


def models(folder):
    path = Path('configs', folder, 'metafile.yml')
    return yaml.safe_load(path.read_text())['Models']


@pytest.mark.parametrize('folder', ['fd', 'classification'])
def test_readme_and_metafile_have_a_row_for_every_config(folder):
    names = {Path(x).stem for x in TABLES if x.split('/')[1] == folder}
    text = Path('configs', folder, 'README.md').read_text()
    rows = re.findall(r'\[(\w+)\.py\]\(\1\.py\)', text)
    assert names <= set(rows) and len(rows) == len(set(rows))
    assert names <= {model['Name'] for model in models(folder)}


@pytest.mark.parametrize('leaf', TABLES)
def test_metafile_has_the_numbers_of_the_config(leaf):
    _, folder, file = leaf.split('/')
    [row] = [x for x in models(folder) if x['Config'] == leaf]
    assert file == row['Name'] + '.py'
    cfg, said = Config.fromfile(leaf), row['Metadata']
    assert said['Epochs'] == cfg.train_cfg.max_epochs
    assert said['Batch Size'] % (16 * cfg.train_dataloader.batch_size) == 0
    with torch.device('meta'), RealSchedules(), SCOPE('mmpretrain'):
        model = MODELS.build(neutral(cfg))
    part = model.backbone if folder == 'fd' else model  # no projection
    count = sum(p.numel() for p in part.parameters())
    assert said['Parameters'] == count


def test_results_are_those_of_the_readme():
    """One accuracy a row, the same in both places, and none in neither."""
    text = Path('configs/classification/README.md').read_text()
    for model in models('classification'):
        results = model['Results'] or [dict(Metrics={})]
        [accuracy] = results[0]['Metrics'].values() or ['-']
        [line] = [x for x in text.splitlines() if f'[{model["Name"]}.py]' in x]
        cells = line.partition(f'({model["Name"]}.py)')[2].split(' | ')
        place = 1 if 'linear' in model['Name'] else 3
        assert cells[place] == str(accuracy)


@pytest.mark.parametrize('folder', ['fd', 'classification'])
def test_official_weights_are_the_same_in_readme_and_metafile(folder):
    text = Path('configs', folder, 'README.md').read_text()
    links = re.findall(r'https://drive\.google\.com/file/d/[\w-]+/view', text)
    said = [x['Metadata'].get('Official Weights') for x in models(folder)]
    assert len(links) == 5 and set(links) == {*said} - {None}
