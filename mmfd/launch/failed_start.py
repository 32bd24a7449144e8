"""What a start that fails says, and what it leaves behind: nothing."""
import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.dist import barrier, get_rank
from mmengine.visualization import Visualizer

from mmfd import files
from mmfd.errors import Refused
from mmfd.hosts import openmmlab
from mmfd.launch.checks.type_names import no_such_type

OF_NUMBERS = ValueError, ArithmeticError  # one that is out of its range


@contextmanager
def build_errors_refused(*more):
    """Raise Refused for the errors with which the host answers a config.

    It has no exception of its own for them: a misspelt class, an argument that
    is missing, a package that is missing and a number that is text come as six
    builtin exceptions.

    Args:
        more (type): other exceptions, such as `OF_NUMBERS`.

    Raises:
        Refused: in the place of all of these.
    """
    try:
        yield
    except Refused:
        raise
    except (KeyError, TypeError, AssertionError, AttributeError, RuntimeError,
            ImportError, *more) as error:
        unknown = openmmlab.unknown_type(error)
        what = no_such_type(
            *unknown) if unknown else f'{type(error).__name__}: {error}'
        raise Refused(f'this config cannot be built: {what}') from error


@contextmanager
def data_errors_refused(loop, dataset):
    """Raise Refused where a host's dataset finds no images or annotations.

    One of mmfd raises it by itself; what else comes from there is a bug.

    Args:
        loop (str): `train`, `val` or `test`.
        dataset (dict): its config.

    Raises:
        Refused: in place of a host's ValueError or OSError, and of mmdet's
            AssertionError for ids that are there twice.
    """
    try:
        yield
    except AssertionError as error:
        if 'are not unique' not in str(error):
            raise
        raise Refused(
            f'{error} Number them anew in the ann_file of {loop}_dataloader, '
            'each with an id of its own') from error
    except (ValueError, OSError) as error:
        ours = str(dataset.get('type')).startswith('mmfd.')
        if ours or isinstance(error, Refused):
            raise
        raise Refused(
            f'the images of {loop}_dataloader cannot be listed '
            f'({type(error).__name__}: {error}): check --data-root, and '
            'data_prefix, ann_file and metainfo of its dataset') from error


@contextmanager
def traces_removed(work_dir):
    """If the start fails, remove the files and folders that it began.

    What others have written to `work_dir` meanwhile stays.

    Raises:
        Refused: if the folder cannot be listed.
    """
    with files.os_errors_refused(f'{work_dir} cannot be listed',
                                 'name another --work-dir'):
        before = os.listdir(work_dir) if os.path.isdir(work_dir) else ()
    new = files.missing_folders(work_dir)
    openmmlab.give_back_locks()
    barrier()  # a faster process must not make it before this one looks
    try:
        yield
    except BaseException:
        if get_rank() == 0 and os.path.isdir(work_dir):
            with suppress(RuntimeError):  # there may be none yet
                # or its thread would write to a file that is removed
                Visualizer.get_current_instance().close()
            for name in set(os.listdir(work_dir)) - set(before):
                if re.fullmatch(r'\d{8}_\d{6}', name):  # logs of this start
                    shutil.rmtree(Path(work_dir, name), ignore_errors=True)
                elif name.endswith('.py'):  # the resolved config
                    Path(work_dir, name).unlink()
            files.remove_empty(new)
        raise
