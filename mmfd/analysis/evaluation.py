"""The loss of a network on fixed images, for its landscape."""
import torch
import torch.nn.functional as F

from mmfd.errors import Refused
from mmfd.registry import branches_of


def evaluation(network, batches):
    """A function that evaluates a network on images, again and again.

    It returns the loss of a distillation, whose targets are computed once, or
    cross-entropy and top-1 accuracy of a classifier.

    Args:
        network (Network): as `mmfd.analysis.load_networks` gives it.
        batches (Iterable[dict]): as its preprocessor takes them.

    Returns:
        Callable: () -> dict(loss, and top1 in per cent for a classifier).

    Raises:
        Refused: if it is neither, or the images have no labels.
    """
    model = network.model
    prepared = [model.data_preprocessor(batch) for batch in batches]
    if branches_of(network.cfg.model):
        targets = [(data['inputs'], [
            branch.teacher(data['inputs'])
            for branch in model.branches.values()
        ]) for data in prepared]
        return lambda: _distillation_loss(model, targets)
    head = network.cfg.model.get('head') or {}
    samples = [s for data in prepared for s in data['data_samples']]
    if 'num_classes' not in head or 'gt_label' not in samples[0]:
        raise Refused(
            'a landscape needs a distillation, or a classifier and labels: '
            'give --images a folder that has train/ or val/ with a folder '
            'for each class')
    labelled = [(data['inputs'],
                 torch.cat([s.gt_label for s in data['data_samples']]))
                for data in prepared]
    return lambda: _classification(model, labelled)


def _distillation_loss(model, targets):
    loss = images = 0
    for pixels, of_branches in targets:
        feats = model.extract_feat(pixels)
        for branch, target in zip(model.branches.values(), of_branches):
            part = branch.head.loss(branch.neck(feats), target)['loss'].item()
            loss += getattr(branch, 'weight', 1) * part * len(pixels)
        images += len(pixels)
    return dict(loss=loss / images)


def _classification(model, labelled):
    loss = hits = images = 0
    for inputs, labels in labelled:
        logits = model(inputs, mode='tensor')
        loss += F.cross_entropy(logits, labels, reduction='sum').item()
        hits += (logits.argmax(1) == labels).sum().item()
        images += len(labels)
    return dict(loss=loss / images, top1=100 * hits / images)
