"""What mmengine's Runner costs over a bare loop on the same batches.

    python benchmarks/runner_overhead.py [--rounds 5]

Distils on the embedded shapes, one epoch with the Runner and its hooks and
one epoch of plain PyTorch in turn (A-B-A-B), and prints medians and the ratio
round by round. The demo's small network makes the overhead look its largest.
"""
import argparse
import statistics
import tempfile
import time

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmfd.data import toy_images


def build(data_root, work_dir):
    cfg = Config.fromfile('configs/demo/simclr_fd.py')
    cfg.work_dir = work_dir
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.update(
        data_root=f'{data_root}/imagenet', indices=1280)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint = None  # writing a file is not the loop
    return Runner.from_cfg(cfg)


def with_runner(runner):
    start = time.perf_counter()
    runner.train_loop.run()
    runner.train_loop._epoch = runner.train_loop._iter = 0
    return time.perf_counter() - start


def bare(runner):
    model, wrapper = runner.model.train(), runner.optim_wrapper
    start = time.perf_counter()
    for batch in runner.train_dataloader:
        data = model.data_preprocessor(batch, True)
        loss = model.loss(data['inputs'])['loss']
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        wrapper.optimizer.step()
        wrapper.optimizer.zero_grad()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    toy_images.write('data/shapes')
    with tempfile.TemporaryDirectory() as folder:
        runner = build('data/shapes', folder)
        runner.train()  # builds everything, and warms up
        runner.train_loop._epoch = runner.train_loop._iter = 0
        times = [(with_runner(runner), bare(runner))
                 for _ in range(args.rounds)]
    ratios = [a / b for a, b in times]
    for name, column in zip(('Runner', 'bare loop'), zip(*times)):
        print(f'{name:10} {statistics.median(column):7.2f} s an epoch')
    print(f'ratio      {statistics.median(ratios):7.3f} (median of '
          f'{", ".join(f"{r:.3f}" for r in ratios)})')


if __name__ == '__main__':
    main()
