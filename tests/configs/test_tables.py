"""The tables of the README files are those of the metafiles and configs."""
import re
import runpy
from pathlib import Path

import pytest
import yaml
from helpers.configs import TABLES, leaves


@pytest.fixture(scope='module')
def tool():
    return runpy.run_path('docs/write_tables.py')


def test_tables_are_current(tool):
    """If not: python docs/write_tables.py"""
    assert not [*map(str, tool['outdated']())]


def test_every_table_has_one_place(tool):
    names = [
        name for readme in tool['READMES']
        for _, name, _ in tool['PLACE'].findall(readme.read_text())
    ]
    assert sorted(names) == sorted(tool['TABLES'])


def test_every_config_stands_in_a_table_of_its_folder():
    for folder in (*TABLES, 'fd/ablations'):
        text = Path('configs', folder, 'README.md').read_text()
        rows = re.findall(r'\| \[(\w+)\.py\]\(\1\.py\)', text)
        assert sorted(rows) == sorted(Path(x).stem for x in leaves(folder))


def test_first_page_has_the_papers_figures_before_and_after(tool):
    models = tool['read_metafiles']()
    _, rows = tool['imagenet'](models)
    assert [row[1:3] for row in rows] == [['82.8', '**83.8**'],
                                          ['83.9', '**85.1**'],
                                          ['81.8', '**83.0**'],
                                          ['83.6', '**83.8**'],
                                          ['82.9', '**84.9**'],
                                          ['86.1', '**87.7**'],
                                          ['-', '**89.0**'],
                                          ['89.2', '**89.4**']]
    stages = re.findall(r'configs/\w+/(\w+)\.py', ' '.join(rows[6]))
    assert stages == [
        'clip_vitl_fd', 'clip_vitl336_fd_in22k_in1k', 'clip_vitl_fd_in22k'
    ]
    _, rows = tool['dense_tasks'](models)
    assert [row[1:3] for row in rows] == [['46.2', '**47.7**'],
                                          ['47.3', '**48.9**'],
                                          ['47.0', '**48.0**'],
                                          ['49.5', '**52.8**'],
                                          ['53.5', '**55.7**'],
                                          ['59.9', '**61.4**'],
                                          ['63.1', '**64.2**']]
    assert rows[-1][0] == 'COCO box AP, Swin V2-G'


def test_hours_are_operations_at_a_third_of_the_rate(tool):
    models = tool['read_metafiles']()
    # 300 epochs of 1.28 M images, 1.316e11 operations each, on 8 x 330 TFLOP/s
    assert tool['operations'](models['clip_vitb_fd']) == pytest.approx(
        5.058e19, rel=1e-3)
    assert tool['hours'](models['clip_vitb_fd']) == '5.3'
    assert tool['hours'](models['clip_vitb_fd'], 'A100') == '17'
    # of an epoch of ImageNet-22K, 14.2 M
    assert tool['hours'](models['clip_vitl_fd_in22k']) == '59'


@pytest.mark.full
@pytest.mark.parametrize('name', ['clip_vitb_fd', 'esvit_swinb_fd_in1k'])
def test_operations_of_the_metafiles_are_those_counted(tool, name):
    """If not: python docs/count_operations.py"""
    count = runpy.run_path('docs/count_operations.py')['operations']
    model = tool['read_metafiles']()[name]
    assert count(model['Config']) == pytest.approx(
        model['Metadata']['Operations of an Image'], rel=1e-3)


def test_hours_of_stages_are_their_operations_on_all_gpus(tool):
    _, rows = tool['stages']({})
    # 1.730e21 operations on 8, 64 and 256 x 329.7 TFLOP/s
    assert [row[4:7] for row in rows][0] == ['182', '23', '5.7']
    _, rows = tool['stages_of_others']({})
    assert len(rows) == 2 * 4


@pytest.mark.full
@pytest.mark.parametrize('name, gpus', [
    ('ade20k/swinv2g_fd_ade20k', (8, 64, 256)),
    ('fd/swinv2b_fd', (8, )),
    ('coco/swinv2l_fd_htc', (8, )),
])
def test_stages_need_what_the_planner_says(name, gpus):
    """If not: python docs/count_stages.py"""
    tool = runpy.run_path('docs/count_stages.py')
    known = yaml.safe_load(Path('docs/swinv2.yml').read_text())
    assert tool['count'](name, gpus) == known[name]


def test_links_of_the_tables_lead_somewhere(tool):
    for readme in tool['READMES']:
        for path in re.findall(r'\]\(([^):#]+)\)', readme.read_text()):
            assert (readme.parent / path).exists(), (readme, path)
