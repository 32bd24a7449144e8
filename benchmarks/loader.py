"""Images per second and core: files to batches, ours and others'.

    python benchmarks/loader.py FOLDER [--rounds 5] [--json F]

Reads the JPEGs of an ImageNet tree, FOLDER/train/CLASS/*.jpg, in this process
and on one thread, in batches of 32: the pipeline of configs/fd/, FD's official
recipe in torchvision and Pillow, and two pipelines of mmpretrain as their
configs have them, but for crops of (0.08, 1) as the others'. One after the
other in each round, and then again; prints medians and quartiles.

Not equal: torchvision's rows normalise here, those of mmfd and mmpretrain on
the device, and cv2 of `imagenet_bs32` does not antialias.
"""
import argparse
import json
import statistics
import time
from pathlib import Path

import cv2
import mmpretrain
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision import transforms as T

IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
CONFIGS = Path(mmpretrain.__file__).parent / '.mim/configs/_base_/datasets'
STOCK = {
    'imagenet_bs512_mae': 'of MILAN, EVA and MAE: Pillow, bicubic',
    'imagenet_bs32': 'cv2, bilinear, not antialiased',
}


def ours(folder):
    cfg = Config.fromfile('configs/fd/clip_vitb_fd.py').train_dataloader
    return DATASETS.build(dict(cfg.dataset, data_root=folder))


def official(folder):
    return datasets.ImageFolder(
        f'{folder}/train',
        T.Compose([
            T.RandomResizedCrop(224, scale=(0.08, 1)),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(**IMAGENET)
        ]))


def stock(folder, name):
    cfg = Config.fromfile(f'{CONFIGS}/{name}.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[1].crop_ratio_range = (0.08, 1.0)
    return DATASETS.build(  # ImageNet in less than 1000 classes
        dict(
            type='CustomDataset',
            data_root=folder,
            data_prefix='train',
            pipeline=pipeline))


def seconds(dataset, collate):
    """Of a core, per image, in one pass."""
    loader = DataLoader(
        dataset, batch_size=32, shuffle=True, collate_fn=collate)
    start = time.process_time()
    for _ in loader:
        pass
    return (time.process_time() - start) / len(dataset)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('folder', help='an ImageNet tree of JPEGs')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--json', metavar='F', help='the figures')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        rows = {
            'mmfd': (ours(args.folder), default_collate),
            'torchvision, official recipe': (official(args.folder), None),
        }
        for name in STOCK:
            rows[f'mmpretrain {name}'] = (stock(args.folder,
                                                name), default_collate)
        times = {name: [] for name in rows}
        for _ in range(args.rounds + 1):
            for name, row in rows.items():
                times[name].append(seconds(*row))
    speeds = {
        name: statistics.quantiles([1 / s for s in found[1:]])
        for name, found in times.items()  # the first round warms up
    }
    ours_, *_ = times.values()
    ratios = {
        name: statistics.median(b / a for a, b in zip(ours_[1:], found[1:]))
        for name, found in times.items()
    }
    for name, (low, middle, high) in speeds.items():
        print(f'{name:32} {middle:6.0f} img/s ({low:.0f} to {high:.0f}), '
              f'mmfd is {ratios[name]:.2f}x')
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(
                {
                    name: dict(
                        img_per_s=speeds[name], mmfd_faster=ratios[name])
                    for name in rows
                },
                file,
                indent=1)


if __name__ == '__main__':
    main()
