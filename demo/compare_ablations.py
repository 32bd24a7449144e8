"""Run small copies of the paper's ablations on the demo's images.

    make demo-ablations
"""
import re
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from runs import CHANCE, ROOT, draw_images, scalars, train

from mmfd.analysis.probes import ridge
from mmfd.launch.rebased_config import rebased
from mmfd.weights import checkpoints

FD = ROOT / 'configs/demo/simclr_fd_short.py'
FINETUNE = ROOT / 'configs/demo/simclr_fd_shapes.py'
FOLDER, PICTURE = Path('work_dirs/ablations'), 'work_dirs/ablations.png'
ABLATIONS = dict(  # first word of a config's name -> its colour
    simclr='#0072B2',
    target='#E69F00',
    norm='#009E73',
    position='#CC79A7',
    drop='#56B4E9')


def leaves():
    """The configs of the ablations, in the order of the paper."""
    folder = ROOT / 'configs/fd/ablations'
    return [
        leaf for word in ABLATIONS
        for leaf in sorted(folder.glob(f'{word}_*.py'))
    ]


def label(config):
    """(ablation, value), from the first line of a config."""
    return re.match('"""(.*?): (.*)', config.read_text()).groups()


def fit_classifier(path):
    """Fit a classifier on the cls token of the demo's teacher; write it."""
    cfg = Config.fromfile(FD)
    cls_token = dict(type='mmfd.PlainNeck', tokens='cls')
    teacher = MODELS.build(dict(cfg.model.teacher, neck=cls_token))
    preprocess = MODELS.build(cfg.model.data_preprocessor)

    def features_and_labels(split):
        images = dict(cfg.val_dataloader.dataset, split=split)
        loader = Runner.build_dataloader(
            dict(cfg.val_dataloader, dataset=images, persistent_workers=False))
        pairs = [(teacher(batch['inputs'])[:, 0],
                  torch.cat([s.gt_label for s in batch['data_samples']]))
                 for batch in map(preprocess, loader)]
        return map(torch.cat, zip(*pairs))

    weight, bias = ridge(*features_and_labels('train'))
    checkpoints.save({
        'head.weight': weight,
        'head.bias': bias
    }, path, dict(kind='ridge regression', source=str(FD)))
    features, labels = features_and_labels('val')
    hits = F.linear(features, weight, bias).argmax(1) == labels
    print(f"target=logits: the demo's teacher has no classifier; one on its "
          'cls token was fitted to the labels of the training images (ridge '
          f'regression), {100 * hits.float().mean():.1f} % held out')


def run(config):
    """Distil and fine-tune.

    Returns:
        kNN and top-1 accuracy of the student in per cent, and seconds.
    """
    name = f'ablations/{config.stem}'
    seconds = train(config, '--work-dir', f'work_dirs/{name}')
    backbone = Config.fromfile(config).model.backbone
    absolute = backbone.get('use_abs_pos_emb', False)
    seconds += train(
        FINETUNE, '--work-dir', f'work_dirs/{name}_shapes', '--cfg-options',
        f'model.backbone.init_cfg.checkpoint=work_dirs/{name}/epoch_2.pth',
        f'model.backbone.use_abs_pos_emb={absolute}',
        f'model.backbone.use_rel_pos_bias={not absolute}',
        'train_cfg.max_epochs=1',
        'default_hooks.param_scheduler.warmup_epochs=0.3')
    return (scalars(name, 'knn/top1')[-1][1],
            scalars(f'{name}_shapes', 'accuracy/top1')[-1][1], seconds)


def draw(rows, path):
    """One picture: every ablation beside FD as published."""
    figure = Figure(figsize=(9, 0.28 * len(rows) + 1.2))
    axes = figure.subplots(1, 2, sharey=True)
    names = [': '.join(label(config)) for config in rows]
    colours = [ABLATIONS[config.stem.split('_')[0]] for config in rows]
    titles = 'kNN after distillation (%)', 'top-1 after fine-tuning (%)'
    for axis, title, values in zip(axes, titles, zip(*rows.values())):
        axis.scatter(values, range(len(rows)), color=colours)
        axis.axvline(values[0], color=colours[0], lw=0.8)
        axis.axvline(CHANCE, color='#777777', ls=':')
        axis.set(xlabel=title, yticks=range(len(rows)), yticklabels=names)
        axis.spines[['top', 'right']].set_visible(False)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    start = time.perf_counter()
    draw_images()
    fit_classifier(FOLDER / 'classifier.pth')
    configs = [FD, *(rebased(leaf, FD, FOLDER) for leaf in leaves())]
    rows = {}
    for config in configs:
        rows[config] = run(config)
        spent = time.perf_counter() - start
        left = spent / len(rows) * (len(configs) - len(rows))
        print(
            f'{len(rows)} of {len(configs)}: {": ".join(label(config))}; '
            f'{timedelta(seconds=round(left))} to go',
            flush=True)
    draw(rows, PICTURE)
    print(f'\n{"ablation":20}{"value":32}kNN (%)  top-1 (%)  seconds')
    for config, (knn, top1, seconds) in rows.items():
        ablation, value = label(config)
        print(f'{ablation:20}{value:32}{knn:7.1f}{top1:11.1f}{seconds:9.0f}')
    print(f'everything {spent:.0f} s; picture in {PICTURE}')


if __name__ == '__main__':
    main()
