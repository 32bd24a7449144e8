"""The same images as files, in tars and in Parquet: speed, time and memory.

    python benchmarks/shards.py DIR [--images 200000] [--rounds 3]
    python benchmarks/shards.py DIR --members 1000000
    python benchmarks/shards.py DIR --rows 100000000

The first makes small JPEGs in DIR, in the three forms, and prints images per
second of one core in each of them and each order, one after the other in each
round, and whether pixels and orders are equal. The second says how fast tars
are listed for the first time and for the second. The third writes a table of
so many images at once, and says how long a data set takes to begin and how
much memory it, and each of its workers, takes.
"""
import argparse
import io
import os
import resource
import statistics
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mmfd.data import shards, stores, tar_shards
from mmfd.data.image_folder import ImageFolder
from mmfd.data.sampler import ResumableSampler
from mmfd.data.table import write_table

PER_SHARD, PER_GROUP, PER_FOLDER = 5000, 100, 1000
READ = 10_000  # images of each pass
ORDERS = dict(all={}, by_shard=dict(shards_at_once=4))
PIPELINE = [dict(type='mmfd.LoadImage'), dict(type='mmpretrain.PackInputs')]


def make_images(folder, count):
    """The three forms of the same images, unless they are there."""
    if (folder / 'done').exists():
        return
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (96, 96, 3), np.uint8)
    for start in range(0, count, PER_SHARD):
        part = range(start, min(start + PER_SHARD, count))
        images = {}
        for i in part:
            file = io.BytesIO()
            pixels = np.roll(texture, i * 7, (0, 1))[:64, :64] // 2 + i % 128
            Image.fromarray(pixels.astype(np.uint8)).save(file, 'JPEG')
            images[f'{i:08}.jpg'] = file.getvalue()
        shard = f'{start // PER_SHARD:05}'
        write_files(folder / 'files', images)
        write_tar(folder / f'tars/{shard}.tar', images)
        (folder / 'parquets').mkdir(exist_ok=True)
        pyarrow.parquet.write_table(
            pyarrow.table(
                dict(image=[
                    dict(bytes=data, path=name)
                    for name, data in images.items()
                ])),
            folder / f'parquets/{shard}.parquet',
            row_group_size=PER_GROUP)
    (folder / 'done').touch()


def write_files(folder, images):
    for name, data in images.items():
        path = folder / f'{int(name[:8]) // PER_FOLDER:05}' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_tar(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'wb') as file:
        for name, data in images.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.write(member.tobuf() + data + bytes(-len(data) % 512))
        file.write(bytes(tarfile.RECORDSIZE))


def dataset(root, pipeline=()):
    return ImageFolder(str(root), 'train', [*pipeline], held_out=0.)


def measure(folder, rounds):
    sets = {
        form: dataset(folder / form, PIPELINE)
        for form in ('files', 'tars', 'parquets')
    }
    whole = {form: [*ResumableSampler(data)] for form, data in sets.items()}
    equal = whole['files'] == whole['tars'] == whole['parquets']
    print(f'orders of {len(whole["files"]):,} images are equal: {equal}')
    some = whole['files'][:1000]
    equal = all(
        torch.equal(sets['files'][i]['inputs'], sets[form][i]['inputs'])
        for form in sets for i in some)
    print(f'pixels of {len(some):,} images are equal: {equal}')
    rows = [(form, order) for order in ORDERS for form in sets
            if (form, order) != ('files', 'by_shard')]
    speeds = {row: [] for row in rows}
    for _ in range(rounds):
        for form, order in rows:
            sampler = ResumableSampler(sets[form], **ORDERS[order])
            indices = [*zip(range(READ), sampler)]
            start = time.process_time()
            for _, index in indices:
                sets[form][index]
            used = time.process_time() - start
            speeds[form, order].append(len(indices) / used)
    for (form, order), values in speeds.items():
        print(f'{form:10}{order:10}{statistics.median(values):8,.0f} img/s of '
              f'a core ({min(values):,.0f} to {max(values):,.0f})')


def list_members(folder, count):
    folder = folder / f'members_{count}'
    for start in range(0, count, 50_000):
        path = folder / f'{start // 50_000:05}.tar'
        if not path.exists():
            write_tar(
                path, {
                    f'{i:09}.jpg': b'x' * 600
                    for i in range(start, min(start + 50_000, count))
                })
    for what in 'first', 'second':
        start, used = time.monotonic(), time.process_time()
        data = dataset(folder)
        print(f'{what} listing of {len(data):,} images in tars: '
              f'{time.monotonic() - start:.1f} s, '
              f'{time.process_time() - used:.1f} s of a core')


def one_table(folder, count):
    """A table as of 10,000 images a shard, whose shards are empty files."""
    root = folder / f'rows_{count}'
    root.mkdir(exist_ok=True)
    files = [f'{i:06}.tar' for i in range(-(-count // 10_000))]
    for file in files:
        (root / file).touch()
    row = tar_shards.ROW
    path = shards.table_file(tar_shards.KIND, str(root), files)
    listed = [
        shards.Shard(file, stamp, [min(10_000, count - 10_000 * i)], [])
        for i, (file,
                stamp) in enumerate(zip(files, stores.stamps(root, files)))
    ]
    blocks = (np.zeros(shard.counts[0], row) for shard in listed)
    start = time.monotonic()
    write_table(path, dict(rows=(row, blocks)),
                lambda: dict(shards=listed, labels=[]))
    print(f'table of {count:,} images: {path.stat().st_size / 2**30:.2f} GiB, '
          f'written in {time.monotonic() - start:.1f} s')
    before, start = own_memory(), time.monotonic()
    data = ImageFolder(str(root), 'train', PIPELINE, held_out=.01)
    sampler = ResumableSampler(data, shards_at_once=16)
    first = next(iter(sampler))
    print(f'begins in {time.monotonic() - start:.1f} s with image {first}, '
          f'{own_memory() - before:,.0f} MiB more; at most '
          f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}')
    for workers in 1, 4:
        loader = DataLoader(
            Memories(data), 64, num_workers=workers, collate_fn=list)
        sizes = [size for batch, _ in zip(loader, range(40)) for size in batch]
        print(f'{workers} workers: {max(sizes):,.0f} MiB of its own each')


class Memories:
    """Looks up images at random places, and gives this process's memory."""

    def __init__(self, data):
        self.data, self.order = data, ResumableSampler(data)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        index = int(np.random.default_rng(index).integers(len(self.data)))
        self.data.get_data_info(index)
        return own_memory()


def own_memory():
    """MiB of this process that it shares with no other and no file."""
    with open('/proc/self/smaps_rollup') as file:
        sizes = dict(line.split(':') for line in [*file][1:])
    return int(sizes['Private_Dirty'].split()[0]) / 1024


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--images', type=int, default=200_000)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--members', type=int)
    parser.add_argument('--rows', type=int)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault('XDG_CACHE_HOME', str(args.folder / 'cache'))
    torch.set_num_threads(1)
    if args.rows:
        one_table(args.folder, args.rows)
    elif args.members:
        list_members(args.folder, args.members)
    else:
        make_images(args.folder, args.images)
        measure(args.folder, args.rounds)


if __name__ == '__main__':
    main()
