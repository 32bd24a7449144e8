"""A dry run reports what a run will need, and leaves nothing behind."""
import os
import re

import numpy as np
import pytest
from helpers.commands import command
from PIL import Image


def test_dry_run_says_that_there_is_nothing_to_go_on_from(project):
    log = command('train', project / 'fd.py', '--work-dir', project / 'run',
                  '--resume', '--dry-run', '--cfg-options',
                  'model.teacher.checkpoint=random')
    assert f'  - {project}/run has no checkpoint to go on from' in log


def test_dry_run_reports_needs_and_faults_and_leaves_nothing(
        project, unchanged):
    workers = max(9, os.cpu_count() + 1)
    (project / 'small').mkdir()
    for i in range(80):
        image = np.full((16, 20, 3), i, np.uint8)
        Image.fromarray(image).save(project / f'small/{i}.png')
    for name in 'abc':
        (project / f'small/{name}.png').write_text('no image')
    log = command('train', project / 'fd.py', '--dry-run', '--work-dir',
                  project / 'run', '--data-root', project / 'small',
                  '--cfg-options', 'model.teacher.checkpoint=random',
                  f'train_dataloader.num_workers={workers}',
                  'train_dataloader.dataset.held_out=0.2',
                  'val_dataloader.dataset.held_out=0.2',
                  'default_hooks.skipped.limit=0.5')
    for line in ('8 iterations of 8 done', 'images +66, short side 16 pixels; '
                 '17 held out, without labels',
                 'train: 66 images of .*/small, without those held out, '
                 'without labels', 'val: 17 images held out of .*/small, ',
                 'batch +8 x 1 processes x 1 accumulated = 8 images an update',
                 'lr .* in iteration 8', r'loss +0.\d+ -> 0.\d+',
                 r'speed .* s an iteration, [\d.]+ img/s, \d+% of the time',
                 'eta +0:00:0. for the whole run',
                 r'memory +peak .* of .* GiB',
                 r'disk +\d MiB of checkpoints, .* free', 'This looks wrong:',
                 "teacher's weights are random",
                 r'\d images could not be read',
                 r'of 64 images are nearly black, e.g. .*small/\d+.png: if '
                 r'16-bit files hold 12 bits, set value_range=\[0, 4095\]',
                 'smaller than the 32 pixels',
                 f'num_workers={workers} for .* cores',
                 'an epoch has 8 iterations'):
        assert re.search(line, log), (line, log[-2000:])
    assert unchanged('small')


def test_dry_run_stops_after_ten_iterations_of_many(project, unchanged):
    log = command('train', project / 'fd.py', '--dry-run', '--work-dir',
                  project / 'run', '--cfg-options', 'train_cfg.max_epochs=300')
    assert '10 iterations of 4,500 done' in log
    assert '120, short side 96 pixels; 30 held out in 10 classes' in log
    assert unchanged()


SLOW = '''
import time
from mmengine.registry import TRANSFORMS

@TRANSFORMS.register_module()
class Wait:

    def __call__(self, results):
        time.sleep(0.6)
        return results
'''


@pytest.mark.parametrize('workers',
                         [pytest.param(1, marks=pytest.mark.full), 4])
def test_dry_run_sees_that_data_come_too_slowly(project, workers):
    """Workers deliver in bursts, and wait 4.8 s for a batch of 8."""
    (project / 'slow.py').write_text(SLOW)
    (project /
     'slow_fd.py').write_text((project / 'fd.py').read_text() +
                              "custom_imports = dict(imports=['slow'])\n"
                              "train_dataloader['dataset']['pipeline'] = ["
                              "crop[0], dict(type='Wait'), *crop[1:]]\n")
    log = command(
        'train',
        project / 'slow_fd.py',
        '--dry-run',
        '--cfg-options',
        f'train_dataloader.num_workers={workers}',
        env=dict(PYTHONPATH=project))
    step, share = re.search(r'speed +(\S+) s an it.* (\d+)% of', log).groups()
    # not less, though the first batches come at once
    assert float(step) * workers / 4.8 > 0.6
    assert int(share) > 20  # on a busy core a step takes half a second
    assert f'train_dataloader.num_workers is {workers}. ' in log


def test_dry_run_of_a_single_iteration_reports_too(project):
    config = project / 'bare.py'  # of a config without hooks, too
    config.write_text((project / 'fd.py').read_text() +
                      "\ntrain_dataloader['batch_size'] = 120\n")
    log = command('train', config, '--dry-run', '--cfg-options',
                  'train_cfg.max_epochs=1', 'default_hooks=None')
    assert '1 iterations of 1 done' in log and 'eta         0:00:00' in log
