"""Train a small segmentor and a small detector on the demo's FD student.

    make demo-transfer
"""
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from runs import DATA, DISTILLATION, ROOT, scalars, train

from mmfd.data import toy_images
from mmfd.launch.config_options import read_config
from mmfd.launch.runner import prepare

PICTURE = 'work_dirs/demo_transfer.png'
STARTS = {  # first part of a config's name -> what the network starts from
    'simclr': 'teacher (SimCLR)',
    'simclr_fd': 'FD student',
    'scratch': 'same student from scratch',
}
MEASURES = {  # second part -> {measure: factor that makes it per cent}
    'upernet': {'mIoU': 1},
    'mask_rcnn': {'coco/bbox_mAP': 100, 'coco/segm_mAP': 100},
}
SHOWN = 6  # images in the picture
COLOURS = colormaps['tab10'].colors


def measure(start):
    """mIoU, box AP and mask AP in per cent, of the networks from a start."""
    return [
        factor * scalars(f'{start}_{task}', key)[-1][1]
        for task, keys in MEASURES.items() for key, factor in keys.items()
    ]


def predict(name):
    """The predictions of a trained network for the first test images."""
    cfg = read_config(ROOT / f'configs/demo/{name}.py')
    cfg.work_dir, cfg.launcher = f'work_dirs/{name}', 'none'
    cfg.load_from = Path(cfg.work_dir, 'last_checkpoint').read_text().strip()
    cfg.test_dataloader.dataset.indices = SHOWN
    runner = prepare(cfg, train=False)
    with torch.no_grad():
        return [
            sample for batch in runner.test_dataloader
            for sample in runner.model.eval().test_step(batch)
        ]


def paint(image, mask, colour):
    """Tint the pixels of a mask in an image (h, w, 3) of 0-255, in place."""
    image[mask] = 0.35 * image[mask] + 0.65 * 255 * np.array(colour)


def show_map(axis, image, labels):
    """Show an image, its pixels tinted by class."""
    for kind in range(len(toy_images.CLASSES)):
        paint(image, labels == kind, COLOURS[kind])
    axis.imshow(image.astype(np.uint8))


def show_objects(axis, image, objects):
    """Show an image with mask and box of the object of the highest score."""
    best = objects[objects.scores.argsort(descending=True)[:1]].cpu().numpy()
    for mask, kind in zip(best.masks, best.labels):
        paint(image, mask, COLOURS[kind])
    axis.imshow(image.astype(np.uint8))
    for (left, top, right, bottom), kind in zip(best.bboxes, best.labels):
        axis.add_patch(
            Rectangle((left, top),
                      right - left,
                      bottom - top,
                      fill=False,
                      color=COLOURS[kind]))


def draw(path):
    """One picture: images, truth, and what the FD student's networks say."""
    maps, objects = (predict(f'simclr_fd_{task}') for task in MEASURES)
    figure = Figure(figsize=(1.5 * SHOWN, 6.4))
    axes = figure.subplots(4, SHOWN)
    for i, column in enumerate(axes.T):
        image = toy_images.draw('val', i)[0][..., ::-1].astype(np.float32)
        column[0].imshow(image.astype(np.uint8))
        truth = maps[i].gt_sem_seg.data[0].cpu().numpy()
        labels = maps[i].pred_sem_seg.data[0].cpu().numpy()
        labels[truth == 255] = 255  # the background is not judged
        show_map(column[1], image.copy(), truth)
        show_map(column[2], image.copy(), labels)
        show_objects(column[3], image.copy(), objects[i].pred_instances)
    for row, name in zip(axes, ('image', 'truth', 'UperNet', 'Mask R-CNN')):
        row[0].set_ylabel(name)
        for axis in row:
            axis.set(xticks=[], yticks=[])
    figure.legend(
        handles=[Rectangle((0, 0), 1, 1, color=c) for c in COLOURS],
        labels=toy_images.CLASSES,
        ncols=5,
        frameon=False,
        loc='lower center')
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=100)


def main():
    start = time.perf_counter()
    toy_images.write(DATA)
    if not Path(f'work_dirs/{DISTILLATION}/epoch_4.pth').exists():
        print('no FD student of make demo is here: one is trained first')
        train(ROOT / f'configs/demo/{DISTILLATION}.py')
    for task in MEASURES:
        for name in STARTS:
            train(ROOT / f'configs/demo/{name}_{task}.py')
    draw(PICTURE)
    print(f'\n{"":28}mIoU (%)  box AP (%)  mask AP (%)')
    for name, title in STARTS.items():
        iou, box, mask = measure(name)
        print(f'{title:28}{iou:8.1f}{box:12.1f}{mask:13.1f}')
    print(f'everything {time.perf_counter() - start:.0f} s; what the FD '
          f"student's networks find is in {PICTURE}")


if __name__ == '__main__':
    main()
