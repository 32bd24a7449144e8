"""How CPU threads wait for work. Imports nothing that starts any."""
import os


def wait_briefly():
    """Look for work for some microseconds, then sleep.

    Threads that look for ever, as OpenMP has them, starve those of a run
    beside this one; those that sleep at once wake up late. To be called before
    PyTorch is imported. Who sets `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` is not
    overruled.
    """
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', '1000')
