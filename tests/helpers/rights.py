"""Root may read every file; here it gives that up."""
import ctypes
import os
from contextlib import contextmanager

VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, of two words
READ_ALL = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = [('version', ctypes.c_uint32), ('pid', ctypes.c_int)]


class _Rights(ctypes.Structure):
    _fields_ = [('effective', ctypes.c_uint32), ('permitted', ctypes.c_uint32),
                ('inheritable', ctypes.c_uint32)]


def _call(function, rights):
    libc = ctypes.CDLL(None, use_errno=True)
    header = _Header(VERSION, 0)  # of this thread
    if getattr(libc, function)(ctypes.byref(header), rights):
        raise OSError(ctypes.get_errno(), function)


def drop_root_rights():
    """Let permissions of files hold for this thread and its children."""
    if os.getuid() == 0:
        rights = (_Rights * 2)()
        _call('capget', rights)
        rights[0].effective &= ~READ_ALL
        _call('capset', rights)


@contextmanager
def without_root_rights():
    """Within it, permissions of files hold for this thread."""
    rights = (_Rights * 2)()
    _call('capget', rights)
    drop_root_rights()
    try:
        yield
    finally:
        _call('capset', rights)
