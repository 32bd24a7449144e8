"""Wait for images whose file system is away, as a mount that drops."""
import errno
import os
import time
from itertools import count

from mmfd.data import stores
from mmfd.errors import Refused
from mmfd.hosts import log

# Errors of a file system, not of one of its files
OF_FILE_SYSTEM = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN,
                  errno.EHOSTDOWN, errno.EHOSTUNREACH)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.  # seconds between two looks


def why_away(roots, image=None):
    """Why the folders of images cannot be used now; None if they can.

    Args:
        roots (list[str]): folders, and objects of stores. An empty folder is
            where a file system was mounted.
        image (str): one of the images. It is read where a file system may
            answer for folders, which it remembers, and not for files.

    Returns:
        str | None: with the name of the folder or the image.
    """
    for root in roots:
        if stores.is_address(root):
            if reason := stores.why_away(root):
                return reason
            continue
        try:
            with os.scandir(root) as entries:
                if not any(entries):
                    return f'{root} is empty'
        except OSError as error:
            return f'{root}: {error.strerror}'
    if image is not None and not stores.is_address(image):
        try:
            with open(image, 'rb') as file:
                file.read(1)
        except OSError as error:
            if error.errno in OF_FILE_SYSTEM:
                return f'{image}: {error.strerror}'


def wait_until_back(roots, image, seconds):
    """Wait as long as images are away, and say so in the log.

    Args:
        roots, image: of `why_away`.
        seconds (float): to wait at most.

    Returns:
        bool: whether they were away.

    Raises:
        Refused: if they still are after so many seconds.
    """
    begun = time.monotonic()
    for tries in count():
        reason = why_away(roots, image)
        waited = time.monotonic() - begun
        if reason is None:
            if tries:
                log.info(f'the images are back after {waited:.1f} s')
            return tries > 0
        if waited >= seconds:
            raise Refused(
                f'the images have been away for {seconds:g} s ({reason}): '
                'mount their file system again, or reach their store, and '
                'continue with --resume, or set dataset.max_wait to more '
                'seconds')
        if not tries:
            log.info(f'the images are away ({reason}): waiting up to '
                     f'{seconds:g} s for them')
        pause = min(FIRST_PAUSE * 2**tries, LONGEST_PAUSE)
        time.sleep(min(pause, seconds - waited))
