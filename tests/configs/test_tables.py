"""The tables of results name what is there, with the configs' own numbers."""
import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from test_configs import LEAVES, weightless

FOLDERS = ('fd', 'classification', 'ade20k', 'coco')
TABLES = [x for x in LEAVES if x.split('/')[1] in FOLDERS]


def models(folder):
    path = Path('configs', folder, 'metafile.yml')
    return yaml.safe_load(path.read_text())['Models']


@pytest.mark.parametrize('folder', FOLDERS)
def test_readme_and_metafile_have_a_row_for_every_config(folder):
    names = {Path(x).stem for x in TABLES if x.split('/')[1] == folder}
    text = Path('configs', folder, 'README.md').read_text()
    rows = re.findall(r'\[(\w+)\.py\]\(\1\.py\)', text)
    assert names <= set(rows) and len(rows) == len(set(rows))
    assert names <= {model['Name'] for model in models(folder)}


# Images an update (the official yaml files; BEiT's stage at 336 pixels).
BATCHES = {
    r'.*_(ade20k|ade20k_linear|1x|3x|htc)': 16,
    r'.*_linear': 16384,
    r'(esvit_swinb|swinv2g)\w*_in1k': 1024,
    r'clip_vitl336_fd_in22k_in1k': 512,
    r'.*': 2048,
}


def batch(leaf):
    return next(n for pattern, n in BATCHES.items()
                if re.fullmatch(pattern,
                                Path(leaf).stem))


@pytest.mark.parametrize('leaf', TABLES)
def test_metafile_has_the_numbers_of_the_config(leaf):
    _, folder, file = leaf.split('/')
    [row] = [x for x in models(folder) if x['Config'] == leaf]
    assert file == row['Name'] + '.py'
    cfg, said = Config.fromfile(leaf), row['Metadata']
    if folder == 'ade20k':
        assert said['Iterations'] == cfg.train_cfg.max_iters
    else:
        assert said['Epochs'] == cfg.train_cfg.max_epochs
    assert said['Batch Size'] == batch(leaf)
    each = cfg.train_dataloader.batch_size
    assert batch(leaf) // each in (8, 16, 32) and batch(leaf) % each == 0
    stated = re.search(r'(\d+) GPUs x (\d+) images', Path(leaf).read_text())
    if stated:
        gpus, images = map(int, stated.groups())
        assert (gpus * images, images) == (batch(leaf), each)
    model = weightless(leaf)
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


@pytest.mark.parametrize('folder, places', [('ade20k', [2]), ('coco', [3, 4])])
def test_figures_of_dense_tasks_are_those_of_the_readme(folder, places):
    text = Path('configs', folder, 'README.md').read_text()
    for model in models(folder):
        found = []
        if model['Results']:
            found = [*map(str, model['Results'][0]['Metrics'].values())]
        [line] = [x for x in text.splitlines() if f'[{model["Name"]}.py]' in x]
        cells = line.partition(f'({model["Name"]}.py)')[2].split(' | ')
        said = [cells[place] for place in places]
        assert said == found + ['-'] * (len(places) - len(found))


@pytest.mark.parametrize('folder', ['fd', 'classification'])
def test_official_weights_are_the_same_in_readme_and_metafile(folder):
    text = Path('configs', folder, 'README.md').read_text()
    links = re.findall(r'https://drive\.google\.com/file/d/[\w-]+/view', text)
    said = [x['Metadata'].get('Official Weights') for x in models(folder)]
    assert len(links) == 5 and set(links) == {*said} - {None}


def test_downstream_of_a_student_is_all_that_starts_from_it():
    starts = {}
    for leaf in TABLES:
        init = Config.fromfile(leaf).model.backbone.get('init_cfg')
        run = init and re.match(r'work_dirs/(\w+)/', init.checkpoint)
        if run:
            starts.setdefault(run[1], set()).add(Path(leaf).stem)
    for model in models('fd'):
        said = model.get('Downstream', [])
        assert len(said) == len({*said})
        assert {*said} == starts.get(model['Name'], set())


def test_first_table_has_what_the_folders_have():
    """Figures, and a config before and after FD, or the two stages of 89.0."""
    text = Path('README.md').read_text()
    results = {
        model['Name']: model['Results'][0]['Metrics']['Top 1 Accuracy']
        for model in models('classification') if model['Results']
    }
    rows = re.findall(
        r'^\| .+ \| ([\d.-]+) \| \*\*([\d.]+)\*\* \| \[config\]\(configs/fd/'
        r'(\w+)\.py\) \| (.+) \|$', text, re.M)
    assert len(rows) == 8
    for before, after, student, links in rows:
        names = dict(
            re.findall(r'\[([\w -]+)\]\(configs/classification/(\w+)\.py\)',
                       links))
        assert len(names) == 2
        assert results[names['student']] == float(after)
        if before == '-':
            assert names['ImageNet-22K'] == f'{student}_in22k'
        else:
            assert names['student'] == f'{student}_in1k'
            assert names['before'] == names['student'].replace('_fd_', '_')
            assert results[names['before']] == float(before)


def test_second_table_has_what_the_folders_have():
    text = Path('README.md').read_text()
    results = {
        f'{folder}/{model["Name"]}':
        [*model['Results'][0]['Metrics'].values()]
        for folder in ('ade20k', 'coco')
        for model in models(folder) if model['Results']
    }
    rows = re.findall(
        r'^\| .+ \| ([\d.-]+) \| \*\*([\d.]+)\*\* \| '
        r'\[student\]\(configs/(\w+/\w+)\.py\), '
        r'\[before\]\(configs/(\w+/\w+)\.py\) \|$', text, re.M)
    assert len(rows) == 7
    assert {name for row in rows for name in row[2:]} == {*results}
    for before, after, student, teacher in rows:
        assert teacher == student.replace('_fd_', '_')
        assert results[student][0] == float(after)
        assert results[teacher][0] == float(before)
