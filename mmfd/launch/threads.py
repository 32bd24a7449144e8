"""How CPU threads wait for work. This file imports nothing heavy."""
import os


def wait_briefly():
    """Let OpenMP's threads look for work for some microseconds, then sleep.

    By default they look for ever and take the cores from another run on the
    same machine; threads that sleep at once wake up late. Call it before
    PyTorch is imported. `OMP_WAIT_POLICY` and `GOMP_SPINCOUNT` stay as they
    are, if they are set.
    """
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', '1000')
