"""Which of a run's processes this is. This file imports nothing heavy."""
import os


def rank():
    """Which of the run's processes this is, whether it has joined or not."""
    return _number('RANK', 'SLURM_PROCID')


def local_rank():
    """Which of the run's processes on its machine this is."""
    return _number('LOCAL_RANK', 'SLURM_LOCALID')


def _number(of_torchrun, of_slurm):
    text = os.environ.get(of_torchrun) or os.environ.get(of_slurm) or '0'
    return int(text) if text.isdecimal() else 0
