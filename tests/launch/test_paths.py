"""A path that is not there is one message, before large imports."""
import subprocess
import sys

import pytest
from helpers.commands import ROOT

from mmfd.errors import Refused
from mmfd.launch import config_paths

CONFIG = 'configs/demo/simclr_fd.py'
STUDENT = 'configs/demo/student.pth'
SEGMENTOR = 'configs/ade20k/clip_vitb_fd_ade20k.py'
TEACHER, BACKBONE = 'model.teacher.checkpoint', 'model.backbone.init_cfg'
NETWORKS = '--teacher', 'timm:resnet18=no.pth', '--student', 'timm:resnet18'
# runs a command and prints which of the large libraries it has imported
RUN = """
import runpy, sys
try:
    runpy.run_module('mmfd', run_name='__main__')
finally:
    print(sorted({'torch', 'torchvision', 'mmpretrain', 'mmcv', 'timm',
                  'transformers', 'pyarrow', 'fsspec'} & sys.modules.keys()))
"""


@pytest.mark.parametrize('command, message', [
    (['train', 'configs/demo/simclr_df.py'
      ], 'error: no config file configs/demo/simclr_df.py; did you mean '
     'configs/demo/simclr_fd.py?'),
    (['train', CONFIG, '--data-root', '/nowhere'
      ], 'error: no image folder /nowhere: name another with --data-root '
     '(--images of mmfd analyze, --data of mmfd distill)'),
    (['train', CONFIG, '--resume', 'no.pth'
      ], 'error: no weights file no.pth.'),
    (['test', CONFIG, 'no.pth'], 'error: no weights file no.pth.'),
    (['train', CONFIG, '--cfg-options', f'{TEACHER}=no.pth'
      ], 'error: no weights file no.pth. It comes with the project; make '
     'demo-teacher trains it again'),
    ([
        'train', CONFIG, '--cfg-options', f'{BACKBONE}.type=Pretrained',
        f'{BACKBONE}.checkpoint=no.pth'
    ], 'error: no weights file no.pth.'),
    ([
        'train', CONFIG, '--cfg-options',
        'train_dataloader.dataset.data_root=/nowhere'
    ], 'error: no image folder /nowhere: name another with --data-root '
     '(--images of mmfd analyze, --data of mmfd distill)'),
    (['train', SEGMENTOR, '--cfg-options', f'{BACKBONE}.checkpoint={STUDENT}'
      ], 'error: no folder data/ade/ADEChallengeData2016, which is the '
     'data_root of train_dataloader: name another with --data-root'),
    ([
        'test', CONFIG, STUDENT, '--cfg-options',
        'test_dataloader.dataset.data_root=/nowhere'
    ], 'error: no image folder /nowhere: name another with --data-root '
     '(--images of mmfd analyze, --data of mmfd distill)'),
    (['benchmark', 'no.py'], 'error: no config file no.py'),
    (['distill', *NETWORKS, '--data', 'docs/images'
      ], 'error: no weights file no.pth.'),
    ([
        'distill', '--teacher', 'resnet18', *NETWORKS[2:], '--data',
        'docs/images'
    ], "error: 'resnet18' names no network: write LIBRARY:NAME, and =FILE "
     'after it for its weights, where LIBRARY is timm, hf, torchvision, mm, '
     'mmfd'),
    (['finetune', '--student', 'no', '--data', 'docs/images'
      ], 'error: there is no file and no folder no'),
    (['predict', '--model', 'no', 'docs/images'
      ], 'error: there is no file and no folder no'),
    (['predict', '--model', CONFIG, 'no.jpg'
      ], 'error: there is no file and no folder no.jpg'),
    (['draw', CONFIG, CONFIG, 'no.jpg', '--out', 'x'
      ], 'error: there is no file and no folder no.jpg'),
    (['analyze', CONFIG, 'no.pth', '--images', 'docs/images', '--out', 'x'
      ], 'error: no weights file no.pth.'),
    (['statistics', CONFIG, '--images', '/nowhere', '--out', 'x'
      ], 'error: no image folder /nowhere: name another with --data-root '
     '(--images of mmfd analyze, --data of mmfd distill)'),
])
def test_wrong_path_is_refused_before_large_imports(command, message):
    assert refused(command) == (message, '[]')


@pytest.mark.parametrize('name, message, imported', [
    ('mmfd:vitb17', "mmfd has no student 'vitb17', but ", []),
    ('timm:resnet19', "has no network 'resnet19'; the nearest names are ",
     ['timm', 'torch', 'torchvision']),
])
def test_wrong_name_is_refused_before_other_libraries_are_imported(
        name, message, imported):
    error, seen = refused([
        'distill', '--teacher', name, '--student', 'timm:resnet18', '--data',
        'docs/images'
    ])
    assert message in error and seen == str(imported)


@pytest.mark.parametrize(
    'command',
    [['convert', 'mae', 'no.pth', 'x.pth'], ['export', 'no.pth', 'x.pth']])
def test_commands_on_weights_import_pytorch_alone_before(command):
    assert refused(command) == ('error: no weights file no.pth.', "['torch']")


def refused(command):
    """The message of a command, and the large libraries it has imported."""
    done = subprocess.run([sys.executable, '-c', RUN, *command],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert done.returncode == 1
    return done.stderr.rstrip('\n'), done.stdout.rstrip('\n')


def test_paths_that_a_run_does_not_need_may_be_missing(tmp_path):
    """What a run that goes on began from, and images that it does not read."""
    config = tmp_path / 'config.py'
    config.write_text("""
model = dict(backbone=dict(
    init_cfg=dict(type='Pretrained', checkpoint='no.pth')))
load_from = 'no.pth'
test_dataloader = dict(dataset=dict(type='mmfd.ImageFolder', data_root='no'))
train_dataloader = dict(dataset=dict(
    type='CocoDataset', data_root='no', ann_file='/lists/train.json',
    data_prefix=dict(img='/images')))
val_dataloader = dict(dataset=dict(
    type='CocoDataset', data_root='no', ann_file='val.json',
    backend_args=dict(backend='petrel', path_mapping={'no': 's3://no'})))
""")
    config_paths.check(str(config), {}, ('train', 'val'))
    with pytest.raises(Refused, match='no image folder no'):
        config_paths.check(str(config), {}, ('test', ))
    with pytest.raises(Refused, match='no weights file no.pth'):
        config_paths.check(str(config), {}, ('train', 'val'), begins=True)


def test_config_that_cannot_be_read_is_left_to_who_says_why(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text('1 / 0')
    config_paths.check(str(config), {}, begins=True)
    config.write_text('model = dict(backbone=1, teacher=dict(checkpoint=2))')
    config_paths.check(str(config), {'model.backbone.depth': 3})
    config.write_text('model = dict(teacher="a", backbone=1)\n'
                      'train_dataloader, load_from, source = 1, 2, 3')
    config_paths.check(str(config), {}, ('train', 'val'), begins=True)
