"""What a run says where it waits for images."""
import re
from itertools import product

from helpers.commands import command

from mmfd.hosts import system
from mmfd.training.throughput import workers_lacking

SLOW = '''
import time
from mmengine.registry import TRANSFORMS

@TRANSFORMS.register_module()
class Wait:
    def __call__(self, results):
        time.sleep(0.02)
        return results
'''


def test_workers_that_would_keep_up_follow_from_the_share_of_waiting():
    """Each takes `load` for a batch, which is used up in `step`."""
    for workers, load, step in product((1, 2, 8), (1., 3.3, 20.), (.1, .7)):
        period = max(load / workers, step)
        line = workers_lacking(workers, 1 - step / period)
        if period <= step / .8:
            assert line is None
            continue
        needed = int(re.search(r'about (\d+) workers would', line)[1])
        assert load / step <= needed + 1e-9 and needed - 1 < load / step + 1e-9


def test_a_process_that_loads_its_images_itself_lacks_workers(monkeypatch):
    monkeypatch.setattr(system, 'available_cores', lambda: 8)
    line = workers_lacking(0, .75)  # three times as long as a step
    assert 'about 3 workers would keep up, and train_dataloader.num_workers ' \
        'is 0. Raise it: there are 8 cores' in line
    assert workers_lacking(0, .2) is None


def test_cores_that_are_lacking_are_counted_over_the_processes(monkeypatch):
    monkeypatch.setattr(system, 'available_cores', lambda: 64)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '8')
    assert 'Raise it' in workers_lacking(4, .5)
    line = workers_lacking(8, .5)
    assert 'about 16 workers in each of 8 processes would keep up' in line
    assert 'There are 64 cores, 64 too few' in line


def test_a_run_says_once_that_it_waits_for_images(config, tmp_path):
    (tmp_path / 'slow.py').write_text(SLOW)
    file = tmp_path / 'fd.py'
    file.write_text(config.read_text() + """
custom_imports = dict(imports=['slow'])
default_hooks['throughput'] = dict(type='mmfd.ThroughputHook', interval=3)
train_dataloader['dataset']['pipeline'] = [
    crop[0], dict(type='Wait'), *crop[1:]]
""")
    printed = command(
        'train',
        file,
        '--work-dir',
        tmp_path / 'run',
        env=dict(PYTHONPATH=tmp_path))
    assert printed.count('of the time goes into waiting for images') == 1
