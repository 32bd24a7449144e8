"""Moved: `mmfd.ops` is `mmfd.hosts.mmcv_ops` now."""
import runpy

from mmfd.hosts.mmcv_ops import *  # noqa: F401, F403

if __name__ == '__main__':
    runpy.run_module('mmfd.hosts.mmcv_ops', run_name='__main__')
