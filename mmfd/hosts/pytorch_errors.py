"""What PyTorch's errors are of, which it says in texts alone."""
import re
import signal
import sys
import threading


def timeout_of(error):
    """Seconds until the wait for a process timed out; None for other errors.

    Args:
        error (RuntimeError): of torch.distributed, which has no class or
            number for it, but a text.
    """
    waited = re.search(r'Timed out waiting (\d+)ms', str(error))
    return int(waited[1]) / 1000 if waited else None


def is_of_another_process(error):
    """Whether one of the run's processes was not reached, or left.

    Args:
        error (RuntimeError): of torch.distributed or of gloo.
    """
    if 'gloo/transport' in str(error) or timeout_of(error) is not None:
        return True
    # not at the top: a command that fails before it needs PyTorch imports none
    distributed = sys.modules.get('torch.distributed')
    return distributed is not None and isinstance(
        error, (distributed.DistNetworkError, distributed.DistStoreError))


def dead_worker(error):
    """Which worker of a DataLoader ended by itself, as PyTorch says it: text.

    Args:
        error (RuntimeError): None is returned for other ones.
    """
    found = re.search(r'DataLoader worker \(pid.*', str(error))
    return found and found[0].strip(' .')


def forget_workers():
    """Let PyTorch raise no more errors for workers of a DataLoader that end.

    Its handler of SIGCHLD raises them wherever the process is just then, so
    also amid the report of an error that the same worker's end has caused.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(
            signal, 'SIGCHLD'):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def port_in_use(error):
    """Whether a network error of torch.distributed is of a port in use."""
    return 'EADDRINUSE' in str(error)


def message_of(error):
    """What an exception says, wherever it was raised.

    A DataLoader raises one of its workers again with the traceback from there
    as the beginning of its message.
    """
    cls = type(error)
    return str(error).strip().rpartition(
        f'{cls.__module__}.{cls.__qualname__}: ')[2]


def is_of_one_value(error):
    """Whether batch normalisation was to learn from one value per channel.

    Args:
        error (ValueError): of a module in training.
    """
    return 'more than 1 value per channel' in str(error)


def shape_mismatches(error):
    """What a state dict and a module disagree on.

    Args:
        error (RuntimeError): of `load_state_dict`.

    Returns:
        list: (name, shape in the state dict, shape in the module), as text;
        empty if the error does not tell.
    """
    return re.findall(
        r'size mismatch for (\S+): copying a param with shape '
        r'torch\.Size\((.*?)\) from checkpoint, the shape in current model '
        r'is torch\.Size\((.*?)\)', str(error))
