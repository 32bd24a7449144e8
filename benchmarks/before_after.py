"""Time two commits in turn: import, `tools/train.py --help`, a ViT-B step.

    python benchmarks/before_after.py c6027fe         # with this working tree
    python benchmarks/before_after.py c6027fe main    # with another commit

Every round times both commits, one after the other (A-B-A-B). A step is a full
optimisation step of configs/fd/clip_vitb_fd.py in fp32 on 4 images in memory;
each commit has a process that stays alive between its steps. Printed are
medians in seconds, and the median of the ratios of all rounds with quartiles.
Run it while nothing else runs.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ten_steps import ROOT, check_out

IMPORT = '''
import time
start = time.perf_counter()
import mmfd
print(time.perf_counter() - start)
'''
STEP = '''
import sys, time
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
torch.manual_seed(0)
cfg = Config.fromfile('configs/fd/clip_vitb_fd.py')
cfg.model.teacher.checkpoint = 'random'
cfg.optim_wrapper.type = 'OptimWrapper'
with DefaultScope.overwrite_default_scope('mmpretrain'):
    model = MODELS.build(cfg.model).train()
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
images = torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8)
for line in sys.stdin:
    start = time.perf_counter()
    model.train_step(dict(inputs=images), optim)
    print('seconds', time.perf_counter() - start, flush=True)
'''


def environ(tree):
    """Import the mmfd of a tree; threads that wait sleep, for the others."""
    return dict(os.environ, PYTHONPATH=str(tree), OMP_WAIT_POLICY='PASSIVE')


def time_import(tree):
    done = subprocess.run([sys.executable, '-c', IMPORT],
                          check=True,
                          cwd=tree,
                          env=environ(tree),
                          stdout=subprocess.PIPE)
    return float(done.stdout)


def time_help(tree):
    start = time.perf_counter()
    subprocess.run([sys.executable, 'tools/train.py', '--help'],
                   check=True,
                   cwd=tree,
                   env=environ(tree),
                   stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@contextmanager
def stepping(tree):
    """A process that has built the model; gives a function for one step."""
    with subprocess.Popen([sys.executable, '-c', STEP],
                          cwd=tree,
                          env=environ(tree),
                          text=True,
                          stdin=subprocess.PIPE,
                          stderr=subprocess.DEVNULL,
                          stdout=subprocess.PIPE) as process:

        def step():
            print(file=process.stdin, flush=True)
            for line in process.stdout:  # libraries print there, too
                if line.startswith('seconds'):
                    return float(line.split()[1])
            sys.exit(f'{tree}: no step')

        step()  # to warm up
        yield step


def compare(what, before, after, rounds):
    times = [(before(), after()) for _ in range(rounds)]
    a, b = map(statistics.median, zip(*times))
    low, ratio, high = statistics.quantiles([y / x for x, y in times])
    print(
        f'{what:26}{a:10.4f}{b:10.4f}{ratio:8.3f} '
        f'({low:.3f} to {high:.3f}, {rounds} rounds)',
        flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('before', metavar='COMMIT')
    parser.add_argument('after', metavar='COMMIT', nargs='?')
    parser.add_argument('--rounds', type=int, default=15, help='of steps')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = [
            check_out(args.before, Path(folder, 'before')),
            check_out(args.after, Path(folder, 'after'))
            if args.after else ROOT
        ]
        print(f'{"":26}{"before":>10}{"after":>10}{"ratio":>8}')
        for what, clock, rounds in (('import mmfd', time_import, 41),
                                    ('tools/train.py --help', time_help, 15)):
            compare(what, *(partial(clock, tree) for tree in trees), rounds)
        with stepping(trees[0]) as before, stepping(trees[1]) as after:
            compare('ViT-B step, 4 images', before, after, args.rounds)


if __name__ == '__main__':
    main()
