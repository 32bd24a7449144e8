"""`mmfd.shapes` of version 0.1, which is `mmfd.data.toy_images` now."""
from mmfd.data.toy_images import *  # noqa: F401, F403
from mmfd.data.toy_images import main

if __name__ == '__main__':
    main()
