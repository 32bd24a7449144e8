"""A run of 20,000 iterations takes no more than one of a few."""
import json
import os

import numpy as np
import pytest
from helpers.runs import CONFIG, finish, start

LONG = '''
train_dataloader = dict(
    loader, batch_size=2, num_workers=1, persistent_workers=True,
    dataset=dict(loader['dataset'], pipeline=crop))
train_cfg = dict(max_epochs=334, val_interval=100)  # of 60 iterations
default_hooks = dict(
    logger=dict(interval=60),
    checkpoint=dict(minutes=0.5, max_keep_ckpts=2, interval=100))
custom_imports = dict(imports=['hurt'], allow_failed_imports=False)
custom_hooks = [dict(type='Measure')]
'''


@pytest.mark.full
def test_memory_files_and_logs_of_a_long_run_are_bounded(
        tmp_path, shapes_root, capsys):
    config, run = tmp_path / 'long.py', tmp_path / 'run'
    config.write_text(CONFIG.format(repo=os.getcwd(), root=shapes_root) + LONG)
    finish(start(config, run), run, seconds=1800)
    lines = [
        json.loads(line)
        for line in (run / 'measured.json').read_text().splitlines()
    ]
    assert lines[-1]['iteration'] == 20_000
    settled = [line for line in lines if line['iteration'] > 10_000]
    at = [line['iteration'] for line in settled]
    slope = {
        who: np.polyfit(at, [line[who]['memory'] for line in settled], 1)[0]
        for who in ('main', 'worker')
    }
    files = {
        who: {line[who]['files']
              for line in settled}
        for who in ('main', 'worker')
    }
    log = sum(f.stat().st_size for f in run.rglob('*')
              if f.is_file() and f.suffix != '.pth')
    with capsys.disabled():
        print(f'\nbytes an iteration: {slope}; open files: {files}; logs: '
              f'{log:,} bytes, {log / 334:.0f} a line')
    assert max(slope.values()) < 200  # 4 MB in all
    assert all(max(seen) - min(seen) < 4 for seen in files.values())
    assert log < 334 * 3000
