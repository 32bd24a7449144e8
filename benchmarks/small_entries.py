"""Time to read a file of many small entries, ours over PyTorch's.

    python benchmarks/small_entries.py [--entries N] [--rounds N]

CPU seconds of one process, in turn; the median of the ratios.
"""
import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from mmfd.weights import checkpoints

FORMS = dict(archive=True, older=False)  # PyTorch's two formats


def contents(count):
    """Name -> what is saved."""
    one = torch.arange(100.)
    yield 'tensors', {f'layers.{i}.weight': one.clone() for i in range(count)}
    yield 'numbers', dict(w=one, facts={f'n {i}': i / 7 for i in range(count)})


def seconds(read):
    start = time.process_time()
    read()
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--entries', type=int, default=100_000)
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'weights.pth')
        for name, content in contents(args.entries):
            for form, zipped in FORMS.items():
                torch.save(
                    content, path, _use_new_zipfile_serialization=zipped)
                times = [(seconds(lambda: checkpoints.load(path)),
                          seconds(lambda: torch.load(path, weights_only=True)))
                         for _ in range(args.rounds)]
                ours, theirs = (median(column) for column in zip(*times))
                ratio = median(a / b for a, b in times)
                print(
                    f'{args.entries:,} {name}, {form}: {ours:.2f} s, PyTorch '
                    f'{theirs:.2f} s, ratio {ratio:.2f}',
                    flush=True)


if __name__ == '__main__':
    main()
