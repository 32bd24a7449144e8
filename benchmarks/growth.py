"""Seconds per GFLOP over image sides, batches and network sizes.

    python benchmarks/growth.py [--rows S/224/8 B/224/32 ...] [--json F]

A row is a student's size, its image side and its batch; the teacher has the
same size and side. Whole optimisation steps of configs/fd/clip_vitb_fd.py on
random pixels that are there already, in bf16 where the device computes in it
(else the log says what is taken), row by row: one step to warm up, then
`--rounds`; medians, and their ratio to the best row.
"""
import argparse
import json
import statistics
import time

from mmfd import threads

threads.wait_briefly()  # as tools/train.py, before PyTorch is imported

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402

from mmfd import plan  # noqa: E402

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


class Row:
    """A model, its batch and the seconds that its steps have taken."""

    def __init__(self, row):
        cfg, side, self.batch = config(row)
        work = plan.follow(cfg.model, 2, side, 'cpu')
        self.flops = (work.teacher + work.forward + work.backward) / 2
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.model = MODELS.build(cfg.model).to(device).train()
        self.optim = build_optim_wrapper(self.model, cfg.optim_wrapper)
        images = torch.randint(0, 256, (self.batch, 3, side, side))
        self.data = dict(inputs=images.to(torch.uint8))
        self.step()  # warms up

    def step(self):
        start = time.perf_counter()
        losses = self.model.train_step(self.data, self.optim)
        losses['loss'].item()  # waits for the device
        return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--rows', nargs='+', default=ROWS)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--json', metavar='F', help='the figures')
    args = parser.parse_args()
    found = {}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for name in args.rows:  # one network at a time in memory
            row = Row(name)
            seconds = statistics.median(row.step() for _ in range(args.rounds))
            found[name] = dict(
                img_per_s=row.batch / seconds,
                gflop_per_image=row.flops / 1e9,
                s_per_gflop=seconds / row.batch / row.flops * 1e9)
            del row
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
