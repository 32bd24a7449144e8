"""Moved: `mmfd.shapes` is `mmfd.data.toy_images` now."""
import runpy

from mmfd.data.toy_images import *  # noqa: F401, F403

if __name__ == '__main__':
    runpy.run_module('mmfd.data.toy_images', run_name='__main__')
