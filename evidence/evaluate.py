"""What a trained network does with test images, image by image."""
import base64
import io
import zlib
from pathlib import Path

import captions
import numpy as np
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric

from mmfd import load_student
from mmfd.analysis import target_statistics
from mmfd.analysis.images import ImageSample
from mmfd.analysis.load_networks import load_pair
from mmfd.analysis.probes import ridge
from mmfd.launch.config_options import override, read_config
from mmfd.training.metrics import knn
from mmfd.weights import strict_loading

MEASURED = 2000  # images that statistics of tokens are of


def read(config, options, images):
    """A config as a step trained it."""
    cfg = read_config(config)
    override(cfg, {
        key: str(v) if isinstance(v, Path) else v
        for key, v in options.items()
    })
    for loader in cfg.train_dataloader, cfg.val_dataloader:
        loader.dataset.data_root = str(images)
        loader.persistent_workers = False
    return cfg


def batches(cfg, split):
    """(batch, labels) of all images of a split, as they are tested."""
    loader = dict(
        cfg.val_dataloader,
        dataset=dict(cfg.val_dataloader.dataset, split=split))
    for batch in Runner.build_dataloader(loader):
        yield batch, torch.cat([s.gt_label for s in batch['data_samples']])


@torch.no_grad()
def hits(cfg, checkpoint):
    """Whether a classifier is right about each image: (N, ) bool."""
    [network] = load_pair(cfg, checkpoint)
    found = []
    for batch, labels in batches(cfg, 'val'):
        data = network.model.data_preprocessor(batch)
        found.append(network.model(data['inputs']).argmax(1) == labels)
    return torch.cat(found).numpy()


@torch.no_grad()
def areas(cfg, checkpoint):
    """Pixels of each class in each image that a segmentor is tested on.

    Returns:
        array: of intersection and union, (N, 2, classes) uint32.
    """
    [network] = load_pair(cfg, checkpoint)
    head, found = network.model.decode_head, []
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(cfg.val_dataloader)
    for batch in loader:
        for sample in network.model.test_step(batch):
            intersection, union, *_ = IoUMetric.intersect_and_union(
                sample.pred_sem_seg.data.squeeze(0),
                sample.gt_sem_seg.data.squeeze(0), head.num_classes,
                head.ignore_index)
            found.append(torch.stack([intersection, union]))
    return torch.stack(found).numpy().astype(np.uint32)


@torch.no_grad()
def probe(cfg, checkpoint):
    """kNN and linear accuracy (%) of frozen teacher and student.

    Features are the mean of the patch tokens; classifiers see the images that
    are trained on, and are tested on the others.
    """
    found = {}
    for network in load_pair(cfg, checkpoint):
        (x, y), (queries, truth) = (
            _features(network, cfg, split) for split in ('train', 'val'))
        weight, bias = ridge(x, y)
        predicted = dict(
            knn=knn(queries, x, y, k=20, temperature=0.07),
            linear=(queries @ weight.T + bias).argmax(1))
        found[network.name] = {
            name: _percent(classes == truth)
            for name, classes in predicted.items()
        }
    return found


@torch.no_grad()
def in_words(cfg, checkpoint):
    """What the words of a teacher say of images by its student's features.

    The student predicts the teacher's cls token, and the inverse of the
    normaliser goes before the teacher's projection into the space of texts.

    Returns:
        dict: `score` and `values` of the student, `teacher_score`, for how
        many images both say the `same` (%), and how far their `cosines` are
        from each other (RMS).
    """
    towers = captions.Towers(cfg.model.neck.out_channels)
    path = Path(cfg.model.teacher.checkpoint)
    strict_loading.load_into(towers, path.with_stem(f'{path.stem}_towers'))
    classes = towers.classes()
    student = load_student(checkpoint)
    neck = dict(type='mmfd.PlainNeck')
    teacher = MODELS.build(dict(cfg.model.teacher, neck=neck)).eval()
    prepare = MODELS.build(cfg.model.data_preprocessor)
    rows = []
    for batch, labels in batches(cfg, 'val'):
        pixels = prepare(batch)['inputs']
        rows.append(
            (labels, *(towers.images(features[:, 0]) @ classes.T
                       for features in (teacher(pixels),
                                        student.target_features(pixels)))))
    labels, theirs, ours = map(torch.cat, zip(*rows))
    hits = ours.argmax(1) == labels
    return dict(
        score=_percent(hits),
        values=pack(hits.numpy()),
        teacher_score=_percent(theirs.argmax(1) == labels),
        same=_percent(theirs.argmax(1) == ours.argmax(1)),
        cosines=round((theirs - ours).square().mean().sqrt().item(), 4))


def _percent(right):
    return round(100 * right.float().mean().item(), 2)


def save_statistics(teacher, images):
    """Write those of a teacher's tokens beside its file."""
    cfg = read('configs/small/fd_small.py',
               {'model.teacher.checkpoint': teacher}, images)
    sample = ImageSample(str(images / 'train'), MEASURED)
    measured = target_statistics.measure(cfg, sample, batch_size=50)
    measured.save(teacher.with_name(f'{teacher.stem}_tokens.safetensors'))


def _features(network, cfg, split):
    pairs = [(_tokens(network(batch))[:, 1:].mean(1), labels)
             for batch, labels in batches(cfg, split)]
    return map(torch.cat, zip(*pairs))


def _tokens(output):
    return output[-1] if isinstance(output, (tuple, list)) else output


def pack(values):
    """An array as text."""
    file = io.BytesIO()
    np.save(file, values)
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def unpack(text):
    """The inverse of `pack`."""
    file = io.BytesIO(zlib.decompress(base64.b64decode(text)))
    return np.load(file, allow_pickle=False)
