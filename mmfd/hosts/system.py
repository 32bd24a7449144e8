"""What only some operating systems have; elsewhere a plain answer or None."""
import errno
import os
import select
import signal
import socket
import stat
import struct
import sys
import threading
from contextlib import contextmanager, suppress

SIOCGIFADDR = 0x8915  # Linux: the address of an interface


def available_cores():
    """How many cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def address_towards(host):
    """The address by which other machines reach this one: text.

    Args:
        host (str): another machine, or the address by which it knows this one.

    Returns:
        str: None if `host` is not known, or is this machine for itself alone.
    """
    with suppress(OSError), socket.socket(socket.AF_INET,
                                          socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        address = probe.getsockname()[0]
        return None if address.startswith('127.') else address


def interface_of(address):
    """The name of the network interface with an address, None if not known."""
    try:
        import fcntl
    except ImportError:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                request = struct.pack('256s', os.fsencode(name))
                answer = fcntl.ioctl(probe, SIOCGIFADDR, request)
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name


def peak_memory(children=False):
    """The most bytes that this process has held so far, None if not known.

    Args:
        children (bool): add those of the largest ended child.
    """
    try:
        import resource
    except ImportError:
        return None
    who = [resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN][:1 + children]
    unit = 1 if sys.platform == 'darwin' else 1024  # bytes
    return unit * sum(resource.getrusage(each).ru_maxrss for each in who)


def total_memory():
    """Bytes of this machine's memory, None if not known."""
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, ValueError, OSError):
        return None


def stop_signals():
    """The signals that end a run: of Ctrl-C, schedulers, a closed terminal."""
    return tuple(
        getattr(signal, name)
        for name in ('SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGHUP')
        if hasattr(signal, name))


def outlive_stop_signals():
    """Let only a SIGTERM of its parent end this process, and no Ctrl-C.

    Nor a SIGUSR1, or that its terminal is closed.

    Where nobody can tell who sent a signal, only the Ctrl-C is ignored. A
    SIGTERM of the parent that arrives before this process has taken that of
    somebody else is lost: to the system, two that wait are one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, 'sigwaitinfo'):
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent():
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def leave_closed_console(error):
    """Let what is printed go nowhere, if whoever read it has gone.

    As after `| head`, or where Ctrl-C has ended the `tee` behind a pipe.

    Args:
        error (Exception): that printing has ended in.

    Returns:
        bool: whether that was the reason.
    """
    if not isinstance(error, OSError):
        return False
    closed = [descriptor for descriptor in (1, 2) if _is_closed(descriptor)]
    if closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in closed:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return bool(closed)


@contextmanager
def console_may_close():
    """Let a run go on whose output nobody reads any more."""
    try:
        yield
    except OSError as error:
        if not leave_closed_console(error):
            raise


def _is_closed(descriptor):
    if not hasattr(select, 'poll'):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # it always says of errors
    return any(event & (select.POLLERR | select.POLLHUP)
               for _, event in poll.poll(0))


def open_plain(path, flags=os.O_RDONLY):
    """Open a file and follow no link; a pipe is not waited for.

    Args:
        path (str): of the file.
        flags (int): as of `os.open`, such as `os.O_RDWR | os.O_CREAT`.

    Returns:
        int: descriptor.

    Raises:
        OSError: if that cannot be done.
    """
    flags |= sum(
        getattr(os, name, 0)
        for name in ('O_NOFOLLOW', 'O_NONBLOCK', 'O_BINARY'))
    return os.open(path, flags, 0o666)


def other_writers(status):
    """Who may write to a file or folder beside this user and root: text.

    None if nobody may, or where files have no owners, as on Windows.

    Args:
        status (os.stat_result): of the file, folder or link.
    """
    if not hasattr(os, 'geteuid'):
        return None
    if status.st_uid not in (0, os.geteuid()):
        return f'it is of user {status.st_uid}, not {os.geteuid()}'
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if writable and not stat.S_ISLNK(status.st_mode):  # all links say so
        return f'others can write to it, {stat.filemode(status.st_mode)}'


def sync(path):
    """Wait until a file, or the names in a folder, are on the disk.

    Nothing is done for a folder where folders cannot be opened, as on Windows.
    """
    folder = os.path.isdir(path)
    if folder and not hasattr(os, 'O_DIRECTORY'):
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor):
    """Lock an open file against all other processes until this one ends.

    However it ends; its children do not have the lock.

    Returns:
        bool | None: whether this process has it; None where the system or its
        file system has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held = error.errno in (errno.EACCES, errno.EAGAIN)
        return False if held else None
    return True


def forget_cached(file):
    """Let a file be read from the disk, not from the memory of the system.

    Args:
        file: open and written to the disk.

    Returns:
        bool: whether the system can do that.
    """
    if not hasattr(os, 'posix_fadvise'):
        return False
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
