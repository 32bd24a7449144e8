"""Seconds per GFLOP over image sides, batches and network sizes.

    python benchmarks/growth.py [--rows S/224/8 B/224/32 ...] [--json F]

A row is a student's size, its image side and its batch; the teacher has the
same size and side. Whole optimisation steps of configs/fd/clip_vitb_fd.py on
random pixels that are there already, in bf16 where the device computes in it
(else the log says what is taken), row by row, each in a process of its own:
one step to warm up, then `--rounds`; medians, and their ratio to the best row.
"""
import argparse
import json
import multiprocessing
import statistics
import time

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mmfd.launch import threads
from mmfd.planning.count import count_step

SIZES = dict(S=(384, 12, 6), B=(768, 12, 12), L=(1024, 24, 16))
ROWS = ('S/224/8', 'S/224/64', 'B/224/8', 'B/224/32', 'B/336/8', 'B/448/4',
        'L/224/4')


def config(row):
    size, side, batch = row.split('/')
    width, layers, heads = SIZES[size]
    arch = dict(
        embed_dims=width,
        num_layers=layers,
        num_heads=heads,
        feedforward_channels=4 * width)
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
    teacher = cfg.model.teacher
    for network in cfg.model.backbone, teacher.backbone:
        network.update(arch=arch, img_size=int(side))
    cfg.model.neck.update(in_channels=width, out_channels=width)
    teacher.update(checkpoint='random', img_size=int(side))
    return cfg, int(side), int(batch)


def measure(row, rounds):
    """What the steps of a row take."""
    cfg, side, batch = config(row)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        count = count_step(cfg.model, 2, side, 'cpu')
        model = MODELS.build(cfg.model).to(device).train()
        optim = build_optim_wrapper(model, cfg.optim_wrapper)

    def step():
        start = time.perf_counter()
        losses = model.train_step(dict(inputs=images), optim)
        losses['loss'].item()  # waits for the device
        return time.perf_counter() - start

    step()
    seconds = statistics.median(step() for _ in range(rounds)) / batch
    gflop = count.flops / 2 / 1e9
    return dict(
        img_per_s=1 / seconds,
        gflop_per_image=gflop,
        s_per_gflop=seconds / gflop)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--rows', nargs='+', default=ROWS)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--json', metavar='F', help='the figures')
    args = parser.parse_args()
    threads.wait_briefly()  # as tools/train.py; those that are spawned
    spawn = multiprocessing.get_context('spawn')
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        found = {
            row: pool.apply(measure, (row, args.rounds))
            for row in args.rows
        }
    best = min(row['s_per_gflop'] for row in found.values())
    for name, row in found.items():
        row['to_best'] = row['s_per_gflop'] / best
        print(f'{name:10} {row["img_per_s"]:7.2f} img/s '
              f'{row["gflop_per_image"]:7.0f} GFLOP an image '
              f'{1000 * row["s_per_gflop"]:7.3f} ms per GFLOP '
              f'{row["to_best"]:5.2f} x the best')
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(found, file, indent=1)


if __name__ == '__main__':
    main()
