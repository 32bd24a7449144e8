"""How a distillation is judged on images that it does not train on."""
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric

from mmfd.registry import METRICS


@METRICS.register_module()
class HeldOutLoss(BaseMetric):
    """`held_out/loss`: the mean distillation loss of images held out."""
    default_prefix = 'held_out'

    def process(self, data_batch, data_samples):
        self.results += [
            None if sample.get('skipped') else float(sample['loss'])
            for sample in data_samples
        ]

    def compute_metrics(self, results):
        losses = [loss for loss in results if loss is not None]
        return dict(loss=sum(losses) / len(losses)) if losses else {}


@METRICS.register_module()
class NearestNeighbours(BaseMetric):
    """`knn/top1`: per cent of images whose neighbours vote for their class.

    Leave-one-out: the neighbours of a held-out image are all others, so one
    pass over them is enough. Votes are weighted by exp(cosine /
    temperature), as in Wu et al., arXiv 1805.01978, and DINO; theirs, with
    the whole training set for neighbours, are higher. Nothing is reported
    where images have no labels.
    """
    default_prefix = 'knn'

    def __init__(self, k=20, temperature=0.07, **kwargs):
        super().__init__(**kwargs)
        self.k = k
        self.temperature = temperature

    def process(self, data_batch, data_samples):
        self.results += [
            None if sample.get('skipped') or 'gt_label' not in sample else
            # a copy: a view would carry its whole batch between processes
            (sample['feature'].float().cpu().clone(), sample['gt_label'].cpu())
            for sample in data_samples
        ]

    def compute_metrics(self, results):
        known = [result for result in results if result is not None]
        if len(known) < 2:
            return {}
        features, labels = map(torch.stack, zip(*known))
        hits = predict_left_out(features, labels[:, 0], self.k,
                                self.temperature) == labels[:, 0]
        return dict(top1=100 * hits.float().mean().item())


def predict_left_out(features, labels, k, temperature, chunk=1024):
    """The class that the k nearest others vote for.

    Args:
        features: (N, C).
        labels: (N, ) int.

    Returns:
        (N, ) int.
    """
    features = F.normalize(features, dim=1)
    predicted = []
    for start in range(0, len(features), chunk):
        cosine = features[start:start + chunk] @ features.T
        own = torch.arange(len(cosine))
        cosine[own, start + own] = -torch.inf
        nearest, index = cosine.topk(min(k, len(features) - 1))
        weights = (nearest / temperature).exp()
        votes = weights.new_zeros(len(cosine), int(labels.max()) + 1)
        votes.scatter_add_(1, labels[index], weights)
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)
