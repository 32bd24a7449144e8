"""Metrics of a distillation on held-out images: FD loss and kNN accuracy."""
import torch
import torch.nn.functional as F
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from mmfd.errors import Refused
from mmfd.registry import METRICS
from mmfd.training.mean_baselines import MeanBaselines

# The result of an image that counts in no metric. None would be lost on the
# way between processes, and the padding at the end be taken for images.
NOT_COUNTED = ()


@METRICS.register_module()
class HeldOutLoss(BaseMetric):
    """The distillation loss of the held-out images, and what it is worth.

    - `held_out/loss`: its mean.
    - `held_out/loss_of_mean`: the same loss, if the prediction were the mean
      of the target over all these images and their tokens.
    - `held_out/loss_of_positions`: the same, of the mean of each position.
    - `held_out/explained`: the share of the target's variance between images
      that the prediction explains, of squared errors: 1 at most, and 0 for
      the mean of each position over many images.

    The losses of the two means are of at most `images` images, all else is of
    all. They need two images or more.

    Of several teachers each has these four, as `held_out/clip_loss`;
    `held_out/loss` is the weighted sum, and `held_out/explained` the mean.

    Args:
        images (int): evenly spread over the held-out ones.
    """
    default_prefix = 'held_out'

    def __init__(self, images=64, **kwargs):
        super().__init__(**kwargs)
        self.images = images
        self.baselines = {}  # of each teacher, by the name of its branch
        self.seen = 0  # images of this process

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            parts = sample.get('branches') or {'': sample}
            if sample.get('skipped'):
                parts = {}
            for name in parts.keys() - self.baselines.keys():
                self.baselines[name] = MeanBaselines(self.images, self.seen)
            for name, baselines in self.baselines.items():
                part = parts.get(name, {})
                baselines.add(part.get('target'), part.get('criterion'))
            self.seen += 1
            self.results.append({
                'loss': float(sample['loss']),
                **{
                    (name, key): float(part[key])
                    for name, part in parts.items()
                    for key in ('loss', 'error')
                }
            } if parts else NOT_COUNTED)

    def evaluate(self, size):
        names = {
            name
            for each in all_gather_object([*self.baselines])
            for name in each
        }
        self.means = {
            name:
            self.baselines.get(name, MeanBaselines(self.images,
                                                   self.seen)).measure(size)
            for name in sorted(names)
        }
        self.baselines, self.seen = {}, 0
        return super().evaluate(size)

    def compute_metrics(self, results):
        known = [result for result in results if result]
        if not known:
            return {}
        mean = {
            key: sum(result[key] for result in known) / len(known)
            for key in known[0]
        }
        metrics, shares = dict(loss=mean['loss']), []
        for name, means in self.means.items():
            found = dict(means, loss=mean[name, 'loss'])
            variance = found.pop('variance', 0)
            if variance > 0:
                found['explained'] = 1 - mean[name, 'error'] / variance
                shares.append(found['explained'])
            prefix = name and f'{name}_'
            metrics |= {prefix + key: value for key, value in found.items()}
        if shares:
            metrics['explained'] = sum(shares) / len(shares)
        return metrics


@METRICS.register_module()
class NearestNeighbours(BaseMetric):
    """`knn/top1`: accuracy (per cent) of a k-nearest-neighbour classifier.

    The neighbours of a held-out image are the other held-out images, so one
    pass over them is enough. Votes are weighted by exp(cosine / temperature),
    as in Wu et al., arXiv 1805.01978, and DINO, whose published accuracies
    are higher because they search the training set. Images without labels
    give no result.

    Args:
        k (int): neighbours that vote.
        temperature (float): of the weights.

    Raises:
        Refused: for less than one neighbour, and for no temperature above 0.
    """
    default_prefix = 'knn'

    def __init__(self, k=20, temperature=0.07, **kwargs):
        super().__init__(**kwargs)
        if k < 1 or not temperature > 0:
            raise Refused(f'k={k}, temperature={temperature}: mmfd.Nearest'
                          'Neighbours needs k of 1 or more, and a temperature '
                          'above 0')
        self.k = k
        self.temperature = temperature

    def process(self, data_batch, data_samples):
        self.results += [
            NOT_COUNTED
            if sample.get('skipped') or 'gt_label' not in sample else
            # a clone: pickling a view would send its whole batch
            (sample['feature'].float().cpu().clone(), sample['gt_label'].cpu())
            for sample in data_samples
        ]

    def compute_metrics(self, results):
        known = [result for result in results if result]
        if len(known) < 2:
            return {}
        features, labels = map(torch.stack, zip(*known))
        hits = leave_one_out_knn(features, labels[:, 0], self.k,
                                 self.temperature) == labels[:, 0]
        return dict(top1=100 * hits.float().mean().item())


def leave_one_out_knn(features, labels, k, temperature, chunk=1024):
    """Predict the class of each image from its k nearest neighbours.

    Args:
        features (Tensor): (N, C), of any length.
        labels (Tensor): (N, ) int.
        k (int): neighbours, the image itself not among them.
        temperature (float): votes are weighted by exp(cosine / temperature).
        chunk (int): images compared with all others at once.

    Returns:
        Tensor: (N, ) int.
    """
    features = F.normalize(features, dim=1)
    predicted = []
    for start in range(0, len(features), chunk):
        cosine = features[start:start + chunk] @ features.T
        row = torch.arange(len(cosine))
        cosine[row, start + row] = -torch.inf  # not its own neighbour
        predicted.append(
            vote(cosine, labels, min(k,
                                     len(features) - 1), temperature))
    return torch.cat(predicted)


def knn(queries, features, labels, k, temperature, chunk=1024):
    """Predict the class of each query from its k nearest features.

    Args:
        queries (Tensor): (M, C), of any length.
        features, labels, k, temperature, chunk: as above.

    Returns:
        Tensor: (M, ) int.
    """
    features = F.normalize(features, dim=1)
    return torch.cat([
        vote(part @ features.T, labels, k, temperature)
        for part in F.normalize(queries, dim=1).split(chunk)
    ])


def vote(cosine, labels, k, temperature):
    """The class with most votes of the k nearest: cosine (M, N) to (M, )."""
    nearest, index = cosine.topk(k)
    weights = (nearest / temperature).exp()
    votes = weights.new_zeros(len(cosine), int(labels.max()) + 1)
    return votes.scatter_add_(1, labels[index], weights).argmax(1)
