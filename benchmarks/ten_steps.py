"""Compare ten training steps of two commits: equal to the last bit, or not?

    python benchmarks/ten_steps.py c6027fe         # with this working tree
    python benchmarks/ten_steps.py c6027fe main    # with another commit

Run it before and after a change that should change no number, such as moving
or renaming code. Each commit is checked out into a temporary folder and trains
the same small networks with random weights on the same few images, through
`tools/train.py` and that commit's own configs, on one CPU thread. All that is
logged at each step (loss, learning rate, gradient norm) and at the evaluation
after the last is compared, and so are the weights in the last checkpoint. The
exit status is 1 if anything differs.

The changes below name no class of mmfd and only keys that all commits know, so
classes and files may have other names in the two commits. It takes about three
minutes. `--keep DIR` keeps the configs, logs and checkpoints.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from mmfd.data import toy_images
from mmfd.weights import checkpoints

ROOT = Path(__file__).resolve().parents[1]
STEPS, BATCH = 10, 8
CLOCK = {'time', 'data_time', 'img_per_s', 'data_wait', 'memory'}  # left out


def runs(images):
    """The training runs: name -> (config to build on, what is changed).

    Args:
        images (str): folder that `toy_images.write` made.
    """
    loader = dict(num_workers=0, persistent_workers=False, batch_size=BATCH)
    common = dict(
        train_cfg=dict(max_epochs=1, val_interval=1),
        default_hooks=dict(
            logger=dict(interval=1), param_scheduler=dict(warmup_epochs=0.3)),
        log_processor=dict(window_size=1),
        **{
            f'{split}_dataloader':
            dict(loader, dataset=dict(data_root=f'{images}/imagenet'))
            for split in ('train', 'val', 'test')
        })
    recipe = dict(optimizer=dict(lr=0.1))  # per 512 images; enough to learn
    fp32 = dict(recipe, type='OptimWrapper')
    vit = dict(
        patch_size=32,
        arch=dict(
            _delete_=True,
            embed_dims=64,
            num_layers=3,
            num_heads=2,
            feedforward_channels=256))
    swin = dict(
        _delete_=True,
        embed_dims=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8])
    swin_v2 = dict(swin, extra_norm_every_n_blocks=0)

    def distillation(teacher, student, width):
        return dict(
            teacher=dict(checkpoint='random', backbone=teacher),
            backbone=student,
            neck=dict(in_channels=width, out_channels=width))

    clip = distillation(vit, vit, width=64)
    esvit = distillation(dict(arch=swin), dict(arch=swin_v2), width=128)
    classifier = dict(
        data_preprocessor=dict(num_classes=10),
        backbone=dict(vit, init_cfg=None),
        head=dict(num_classes=10, in_channels=64))
    segmentation = dict(
        train_cfg=dict(max_iters=STEPS, val_interval=STEPS),
        default_hooks=dict(logger=dict(interval=1)),
        log_processor=dict(window_size=1),
        randomness=dict(seed=0),
        **{
            f'{split}_dataloader':
            dict(loader, dataset=dict(data_root=f'{images}/ade'))
            for split in ('train', 'val', 'test')
        })
    return {
        'demo FD': ('demo/simclr_fd.py', common),
        'CLIP ViT FD':
        ('fd/clip_vitb_fd.py', dict(common, model=clip, optim_wrapper=fp32)),
        'CLIP ViT FD, mixed precision':
        ('fd/clip_vitb_fd.py', dict(common, model=clip, optim_wrapper=recipe)),
        'EsViT to Swin V2 FD': ('fd/esvit_swinb_fd.py',
                                dict(common, model=esvit, optim_wrapper=fp32)),
        'ViT fine-tuning': ('classification/clip_vitb_fd_in1k.py',
                            dict(common, model=classifier,
                                 optim_wrapper=fp32)),
        'UperNet':
        ('demo/simclr_fd_upernet.py',
         dict(segmentation, model=dict(backbone=dict(init_cfg=None)))),
    }


def check_out(commit, folder):
    """Write the files of a commit into a new folder, which is returned."""
    folder.mkdir()
    archive = subprocess.run(['git', 'archive', commit],
                             check=True,
                             cwd=ROOT,
                             stdout=subprocess.PIPE).stdout
    subprocess.run(['tar', '-x', '-C', folder], input=archive, check=True)
    return folder


def environ(tree):
    """The environment in which Python imports the mmfd of a tree."""
    return dict(os.environ, PYTHONPATH=str(tree), OMP_NUM_THREADS='1')


def run(tree, *command):
    """Run Python in the tree of a commit; what it printed."""
    done = subprocess.run([sys.executable, *command],
                          cwd=tree,
                          env=environ(tree),
                          text=True,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f'{tree}: {command} failed:\n{done.stdout[-3000:]}')
    return done.stdout


def train(tree, base, changes, work_dir):
    """Train in the tree of a commit.

    Returns:
        list: a dict of what was logged at each step and evaluation.
        dict: the weights at the end.
    """
    config = f'{work_dir}.py'
    with open(config, 'w') as file:
        file.write(f'_base_ = {str(tree / "configs" / base)!r}\n')
        for key, value in changes.items():
            file.write(f'{key} = {value!r}\n')
    run(tree, 'tools/train.py', config, '--work-dir', work_dir)
    last = Path(work_dir, 'last_checkpoint').read_text().strip()
    return logged(work_dir), checkpoints.load(last)['state_dict']


def logged(work_dir):
    """What the runs in a work dir logged at each step and evaluation."""
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [{
        key: value
        for key, value in json.loads(line).items() if key not in CLOCK
    } for file in files for line in file.read_text().splitlines()]


def equal_tensors(ours, theirs):
    """Whether two dicts of tensors have the same names and numbers."""
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in ours.items())


def compare(ours, theirs):
    """Two results of `train`: largest difference of a loss; what is equal."""
    (log, weights), (their_log, their_weights) = ours, theirs
    losses, their_losses = ([line['loss'] for line in lines if 'loss' in line]
                            for lines in (log, their_log))
    assert len(losses) == len(their_losses) == STEPS, (losses, their_losses)
    off = max(abs(a - b) for a, b in zip(losses, their_losses))
    equal = equal_tensors(weights, their_weights)
    return losses, off, log == their_log, equal


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('before', metavar='COMMIT')
    parser.add_argument('after', metavar='COMMIT', nargs='?')
    parser.add_argument('--keep', metavar='DIR', help='a new folder')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(args.keep or folder).resolve()
        folder.mkdir(exist_ok=True)
        toy_images.write(folder / 'images', dict(train=STEPS * BATCH, val=30))
        trees = [
            check_out(args.before, folder / 'before'),
            check_out(args.after, folder / 'after') if args.after else ROOT
        ]
        for tree in trees:
            path = run(tree, '-c', 'import mmfd; print(mmfd.__file__)').strip()
            assert Path(path).is_relative_to(tree), f'{tree} imports {path}'
        print(f'{"run":30}{"first loss":>12}{"last loss":>12}'
              f'{"difference":>12}  logged     weights')
        same = True
        for name, (base, changes) in runs(folder / 'images').items():
            stem = name.replace(' ', '_').replace(',', '')
            losses, off, *equal = compare(
                *(train(tree, base, changes, folder / f'{stem}_{when}')
                  for tree, when in zip(trees, ('before', 'after'))))
            words = ['equal' if x else 'DIFFERENT' for x in equal]
            print(
                f'{name:30}{losses[0]:12.7f}{losses[-1]:12.7f}{off:12.3g}  '
                f'{words[0]:11}{words[1]}',
                flush=True)
            same &= all(equal)
    sys.exit(not same)


if __name__ == '__main__':
    main()
