"""The null device: a CUDA build of PyTorch that sees a GPU without kernels.

`null_device.c` says what it is. It stands in for CUDA 13 on Linux alone, and
its process is one of its own.
"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
CUDA = '13'  # whose types the C file writes out


def missing():
    """Why there is no null device here; empty if there is."""
    if not sys.platform.startswith('linux') or not shutil.which('gcc'):
        return 'the null device needs gcc, on Linux'
    if not torch.version.cuda:
        return 'the null device needs a CUDA build of PyTorch'
    if torch.version.cuda.partition('.')[0] != CUDA:
        return (f'the null device is written for CUDA {CUDA}, and this '
                f'PyTorch for {torch.version.cuda}')
    return ''


@pytest.fixture(scope='session')
def null_device(tmp_path_factory):
    """Run a Python program there: its arguments to what it printed."""
    if why := missing():
        pytest.skip(why)
    library = tmp_path_factory.mktemp('null') / 'libcuda.so.1'
    subprocess.run([
        'gcc', '-O1', '-shared', '-fPIC', '-w', '-Wl,-soname,libcuda.so.1',
        HERE / 'null_device.c', '-o', library
    ], check=True)  # yapf: disable

    library.with_suffix('').symlink_to(library)  # as Triton's linker has it

    def run(*arguments):
        done = subprocess.run([sys.executable, *map(str, arguments)],
                              capture_output=True,
                              text=True,
                              env=dict(
                                  os.environ,
                                  LD_PRELOAD=str(library),
                                  PYTORCH_NVML_BASED_CUDA_CHECK='0',
                                  TRITON_LIBCUDA_PATH=str(library.parent),
                                  OMP_NUM_THREADS='1',
                                  PYTHONPATH=os.pathsep.join(
                                      [os.getcwd(), 'tests'])))
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope='session')
def on_null_device(null_device):
    """Run `helpers/gpu_steps.py` there: cases to their facts."""

    def run(*cases):
        out = null_device('-m', 'helpers.gpu_steps', json.dumps(cases))
        *_, line = out.splitlines()
        return json.loads(line)

    return run
