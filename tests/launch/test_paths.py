"""A path that is not there is one message, before large imports."""
import subprocess
import sys

import pytest
from helpers.commands import ROOT

CONFIG = 'configs/demo/simclr_fd.py'
# runs a command and prints which of the large libraries it has imported
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
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
])
def test_wrong_path_is_refused_before_large_imports(command, message):
    tool, *arguments = command
    done = subprocess.run(
        [sys.executable, '-c', RUN, f'tools/{tool}.py', *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True)
    assert (done.returncode, done.stderr) == (1, message + '\n')
    assert done.stdout == '[]\n'
