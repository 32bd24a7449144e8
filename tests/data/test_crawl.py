"""A crawl is trained on unattended: its good images are used."""
import os
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import command, finish, start, wait_for
from helpers.images import BROKEN, GOOD, noise
from PIL import Image

TESTS = Path(__file__).parents[1]
WITHOUT_ROOT_RIGHTS = (
    f'import sys; sys.path.append({str(TESTS)!r}); '
    'from helpers.rights import drop_root_rights; drop_root_rights()')
LATER = 'vanishing.jpg'  # is there when the run starts
KINDS = {
    **GOOD,
    **BROKEN, LATER: GOOD['plain.jpg'],
    'locked.jpg': lambda p: (noise().save(p), p.chmod(0))
}


def crawl(root, plain, each):
    """A folder with plain images, and `each` of each kind.

    Returns:
        set[str]: paths of what cannot be read in the end.
    """
    root.mkdir()
    for i in range(plain):
        noise(seed=i).save(root / f'{i}.png')
    (root / 'up').symlink_to(root)
    os.mkfifo(root / 'pipe.jpg')  # is left out
    for i in range(each):
        folder = root / f'kind_{i}'
        folder.mkdir()
        for name, make in KINDS.items():
            make(folder / name)
    return {
        str(root / f'kind_{i}' / name)
        for i in range(each)
        for name in (*BROKEN, LATER, 'locked.jpg')
    }


def train(root, run, *options, status=0, meanwhile=lambda: None):
    """Train on a folder; the log."""
    log = run.with_suffix('.txt')
    process = start(
        'train',
        'configs/demo/simclr_fd.py',
        '--verbose',
        '--data-root',
        root,
        '--work-dir',
        run,
        '--cfg-options',
        'train_dataloader.batch_size=10',
        'train_dataloader.num_workers=1',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'default_hooks.logger.interval=1',
        *options,
        log=log,
        before=WITHOUT_ROOT_RIGHTS)
    wait_for(lambda: re.search(r'Epoch\(train\) +\[1\]', read(log)), process)
    meanwhile()
    return finish(process, log, status, seconds=600)


def read(log):
    return log.read_text() if log.exists() else ''


@pytest.mark.parametrize('plain, each', [
    (30, 1),
    pytest.param(300, 30, marks=pytest.mark.full),
])
def test_run_over_a_crawl_uses_what_is_good_and_reports_the_rest(
        tmp_path, plain, each):
    """In its long form a tenth of the plain images of each kind."""
    root, run = tmp_path / 'images', tmp_path / 'run'
    broken = crawl(root, plain, each)

    def vanish():
        for path in root.glob(f'*/{LATER}'):
            path.unlink()

    log = train(
        root,
        run,
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=2',
        'default_hooks.skipped.limit=0.9',
        meanwhile=vanish)
    report = (run / 'skipped_images.txt').read_text().splitlines()
    assert {line.split('\t')[0] for line in report} == broken
    *_, last = re.findall(r'(\d+) images could not be read.*: (.*); all', log)
    assert int(last[0]) == len(broken)
    assert ' x No such file' in last[1] and ' x Permission' in last[1]
    assert (run / 'epoch_2.pth').exists()


def test_folder_that_is_mostly_broken_ends_the_run(tmp_path):
    crawl(tmp_path / 'images', plain=30, each=1)
    log = train(tmp_path / 'images', tmp_path / 'run', status=1)
    assert re.search(
        r'error: \d+ of \d+ images could not be read, more than the share of '
        r'0.1 that mmfd.SkippedImagesHook\(limit=...\) allows',
        log), log[-3000:]


@pytest.mark.full
def test_ten_thousand_files_with_two_per_cent_broken_train_to_the_end(
        tmp_path):
    """One broken file of each kind in ten folders."""
    root, suffixes = tmp_path / 'images', ('jpg', 'png', 'webp')
    rng, broken = np.random.default_rng(0), set()
    for i in range(10_000 - 10 * len(BROKEN)):
        path = root / f'{i % 10}/{i % 7}/{i}.{suffixes[i % 3]}'
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = ('RGB', 'L', 'RGBA')[i % 5 % 3] if i % 3 else 'RGB'
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
    for i in range(10):
        for name, make in BROKEN.items():
            path = root / f'{i}/{name}'
            make(path)
            broken.add(str(path))
    log = command('train', 'configs/demo/simclr_fd.py', '--data-root', root,
                  '--work-dir', tmp_path / 'run', '--cfg-options',
                  'train_cfg.max_epochs=1', 'train_dataloader.batch_size=40')
    report = (tmp_path / 'run' / 'skipped_images.txt').read_text()
    assert {line.split('\t')[0] for line in report.splitlines()} == broken
    assert f'{len(broken)} images could not be read and were skipped' in log
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()
