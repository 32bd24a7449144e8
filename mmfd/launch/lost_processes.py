"""Which processes a run has lost, and what they have said at their end.

Each process writes where it runs, and later why it ends, into the store by
which all have found each other. It is kept by the first machine: by the
launcher there, or else by the first process.
"""
import os
import socket
import time
from contextlib import suppress
from datetime import timedelta

from torch import distributed

PATIENCE = 3.  # seconds in which all processes notice that one is lost
LOST_OTHERS = 'lost others'  # in the place of a cause


def introduce():
    """Say where this process runs, once it has joined the others."""
    _write('host', socket.gethostname())
    _write('cause', '')


def leave_cause(error):
    """Tell the others, if this process has joined any, why it ends.

    Args:
        error (Exception): that ends it.
    """
    _write('cause', str(error) or type(error).__name__)


def lost(seconds=None):
    """Which processes do not answer or have ended, and why: a text.

    Args:
        seconds (float): that were waited for an answer; None if a connection
            was closed.
    """
    where, causes = {}, {}
    if _is_joined():
        _write('cause', LOST_OTHERS)
        time.sleep(PATIENCE)
        where, causes = _read('host'), _read('cause')
    for rank, cause in causes.items():
        if cause not in ('', LOST_OTHERS):
            return f'process {rank} on {where[rank]} has ended: {cause}'
    silent = [rank for rank, cause in causes.items() if not cause]
    if silent:
        whom = _named(silent, where)
    elif causes or not _is_joined():
        whom = 'another process'
    else:
        whom = f'the first process, at {os.environ["MASTER_ADDR"]},'
    if seconds is None:
        return (f'the connection to {whom} was closed, as where memory runs '
                'out or a machine is switched off: see what is printed there')
    return (f'no answer from {whom} for {seconds:g} s, which is '
            'env_cfg.dist_cfg.timeout; it hangs, or its machine or network '
            'is gone')


def _named(ranks, where):
    """Such as `processes 2, 3 on node-b`; of several machines the first."""
    host = where[ranks[0]]
    there = [str(rank) for rank in ranks if where[rank] == host]
    more = len(ranks) - len(there)
    return (f'process{"es" * (len(there) > 1)} {", ".join(there)} on {host}' +
            f' and {more} on other machines' * (more > 0))


def _is_joined():
    return distributed.is_available() and distributed.is_initialized()


def _write(what, text):
    if _is_joined():
        # the store may be lost, too
        with suppress(distributed.DistError, OSError):
            _store().set(_key(what), text[:2000])


def _read(what):
    """Rank -> what each process has written; nothing without an answer."""
    ranks = range(distributed.get_world_size())
    try:
        found = _store().multi_get([_key(what, rank) for rank in ranks])
    except (distributed.DistError, OSError):
        return {}
    return {rank: text.decode() for rank, text in zip(ranks, found)}


def _store():
    """A connection of its own, since that of a process may be in use."""
    host, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
    # PyTorch would print where in its code nobody answered
    socket.create_connection((host, port), PATIENCE).close()
    return distributed.TCPStore(
        host,
        port,
        wait_for_workers=False,
        timeout=timedelta(seconds=PATIENCE))


def _key(what, rank=None):
    rank = distributed.get_rank() if rank is None else rank
    return f'mmfd/{rank}/{what}'
