"""`mmfd.shapes` of version 0.1, which is `mmfd.data.toy_images` now."""
import sys

from mmfd.data.toy_images import *  # noqa: F401, F403
from mmfd.data.toy_images import write

if __name__ == '__main__':
    write(sys.argv[1])
