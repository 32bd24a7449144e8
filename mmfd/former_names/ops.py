"""`mmfd.ops` of version 0.1, which is `mmfd.hosts.mmcv_ops` now."""
import runpy

if __name__ == '__main__':
    runpy.run_module('mmfd.hosts.mmcv_ops', run_name='__main__')
else:
    from mmfd.hosts.mmcv_ops import *  # noqa: F401, F403
