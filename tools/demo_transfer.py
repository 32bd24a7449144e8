"""Take the demo's FD student into a small segmentor and a small detector.

    make demo-transfer
"""
import time
from pathlib import Path

import numpy as np
import torch
from demo import DATA, DISTILLATION, ROOT, plt, scalars, train

from mmfd.data import toy_images
from mmfd.launch.config_options import read_config
from mmfd.launch.runner import prepare

PICTURE = 'work_dirs/demo_transfer.png'
STARTS = {  # config -> name
    'simclr': 'teacher (SimCLR)',
    'simclr_fd': 'FD student',
    'scratch': 'same student from scratch',
}
MEASURES = {  # second part of a config -> {measure: per cent of its number}
    'upernet': {'mIoU': 1},
    'mask_rcnn': {'coco/bbox_mAP': 100, 'coco/segm_mAP': 100},
}
SHOWN = 6  # images in the picture
COLOURS = plt.get_cmap('tab10').colors


def measure(start):
    """mIoU, box AP and mask AP of what began with `start`, in per cent."""
    return [
        factor * scalars(f'{start}_{host}', key)[-1][1]
        for host, keys in MEASURES.items() for key, factor in keys.items()
    ]


def predict(name):
    """What a trained config finds in the first images held out."""
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
    image[mask] = 0.35 * image[mask] + 0.65 * 255 * np.array(colour)


def show_map(axis, image, labels):
    """An image under the classes of its pixels."""
    for kind in range(len(toy_images.CLASSES)):
        paint(image, labels == kind, COLOURS[kind])
    axis.imshow(image.astype(np.uint8))


def show_objects(axis, image, found):
    """An image under mask and box of the object that is the surest."""
    found = found[found.scores.argsort(descending=True)[:1]].cpu().numpy()
    for mask, kind in zip(found.masks, found.labels):
        paint(image, mask, COLOURS[kind])
    axis.imshow(image.astype(np.uint8))
    for (left, top, right, bottom), kind in zip(found.bboxes, found.labels):
        axis.add_patch(
            plt.Rectangle((left, top),
                          right - left,
                          bottom - top,
                          fill=False,
                          color=COLOURS[kind]))


def draw(path):
    """Images, their shapes, and what the FD student's networks find."""
    maps, objects = (predict(f'simclr_fd_{host}') for host in MEASURES)
    figure, axes = plt.subplots(4, SHOWN, figsize=(1.5 * SHOWN, 6.4))
    for i, column in enumerate(axes.T):
        image = toy_images.draw('val', i)[0][..., ::-1].astype(np.float32)
        column[0].imshow(image.astype(np.uint8))
        truth = maps[i].gt_sem_seg.data[0].cpu().numpy()
        labels = maps[i].pred_sem_seg.data[0].cpu().numpy()
        labels[truth == 255] = 255  # it is not asked about the ground
        show_map(column[1], image.copy(), truth)
        show_map(column[2], image.copy(), labels)
        show_objects(column[3], image.copy(), objects[i].pred_instances)
    for row, name in zip(axes, ('image', 'truth', 'UperNet', 'Mask R-CNN')):
        row[0].set_ylabel(name)
        for axis in row:
            axis.set(xticks=[], yticks=[])
    figure.legend(
        handles=[plt.Rectangle((0, 0), 1, 1, color=c) for c in COLOURS],
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
    for host in MEASURES:
        for name in STARTS:
            train(ROOT / f'configs/demo/{name}_{host}.py')
    draw(PICTURE)
    print(f'\n{"":28}mIoU (%)  box AP (%)  mask AP (%)')
    for name, title in STARTS.items():
        iou, box, mask = measure(name)
        print(f'{title:28}{iou:8.1f}{box:12.1f}{mask:13.1f}')
    print(f'everything {time.perf_counter() - start:.0f} s; what the FD '
          f"student's networks find is in {PICTURE}")


if __name__ == '__main__':
    main()
