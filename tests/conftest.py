import gc
import logging

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mmfd.hosts import mmcv_ops

mmcv_ops.install()  # mmcv-lite settles what it has when it is first imported


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope='session')
def layout():
    """Seconds for each Runner, to lay out a config that no test reads."""
    from yapf.yapflib import yapf_api
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', lambda text, **_: (text, True))
        yield


@pytest.fixture(autouse=True)
def instances():
    """A Runner of a test has its own library, logs, curves and pictures.

    mmengine names them by the second in which it is built.
    """
    yield
    for kind in (DefaultScope, MMLogger, MessageHub, Visualizer,
                 *Visualizer.__subclasses__()):
        kind._instance_dict.clear()


@pytest.fixture
def warned():
    """The texts of what a test has logged as warnings."""
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def room(request):
    """Modules hold each other; large ones are not left to the collector."""
    yield
    if request.node.get_closest_marker('full'):
        gc.collect()


@pytest.fixture(scope='session')
def shapes_root(tmp_path_factory):
    """A small copy of the embedded shapes, in its three layouts."""
    from mmfd.data import toy_images
    root = tmp_path_factory.mktemp('data') / 'shapes'
    toy_images.write(root, dict(train=120, val=30))
    return root


def pytest_addoption(parser):
    parser.addoption(
        '--full', action='store_true', help='full widths and long forms too')
    parser.addoption(
        '--images', help='folder with train/: images for the full-size runs')


def pytest_collection_modifyitems(config, items):
    if not config.getoption('--full'):
        full = [item for item in items if item.get_closest_marker('full')]
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]
