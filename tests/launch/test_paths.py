"""A path that is not there is one message, before large imports."""
import subprocess
import sys

import pytest
from helpers.commands import ROOT

CONFIG = 'configs/demo/simclr_fd.py'
NETWORKS = '--teacher', 'timm:resnet18=no.pth', '--student', 'timm:resnet18'
# runs a command and prints which of the large libraries it has imported
RUN = """
import runpy, sys
try:
    runpy.run_module('mmfd', run_name='__main__')
finally:
    print(sorted({'mmpretrain', 'mmcv', 'timm'} & sys.modules.keys()))
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
    (['benchmark', 'no.py'], 'error: no config file no.py'),
    *(pytest.param(*others, marks=pytest.mark.full) for others in [
        (['distill', *NETWORKS, '--data', 'docs/images'],
         'error: no weights file no.pth.'),
        (['finetune', '--student', 'no', '--data', 'docs/images'],
         'error: there is no file and no folder no'),
        (['predict', '--model', 'no', 'docs/images'],
         'error: there is no file and no folder no'),
        (['predict', '--model', CONFIG, 'no.jpg'],
         'error: there is no file and no folder no.jpg'),
        (['draw', CONFIG, CONFIG, 'no.jpg', '--out', 'x'],
         'error: there is no file and no folder no.jpg'),
        (['convert', 'mae', 'no.pth', 'x.pth'],
         'error: no weights file no.pth.'),
        (['export', 'no.pth', 'x.pth'], 'error: no weights file no.pth.'),
        ([
            'analyze', CONFIG, 'no.pth', '--images', 'docs/images', '--out',
            'x'
        ], 'error: no weights file no.pth.'),
    ]),
])
def test_wrong_path_is_refused_before_large_imports(command, message):
    done = subprocess.run([sys.executable, '-c', RUN, *command],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert (done.returncode, done.stderr) == (1, message + '\n')
    assert done.stdout == '[]\n'
