"""One pass over images through one network: sums of all measures.

What is kept does not grow with the number of images, and of the attention
maps only one layer's is there at a time.
"""
from collections import defaultdict
from contextlib import ExitStack
from functools import cached_property

import torch

from mmfd.analysis import measures
from mmfd.analysis.attention import Recorder
from mmfd.analysis.tokens import OUTPUT, Watch

PICTURES = 6  # images whose patches are shown in colours
SAMPLE = 8192  # tokens of the output that are kept


class Mean:
    """Running mean of tensors over images."""

    def __init__(self):
        self.total, self.count = 0., 0

    def add(self, value, count):
        self.total = self.total + value.double().cpu() * count
        self.count += count

    @property
    def value(self):
        return self.total / self.count


class Survey:
    """What one network does to images, layer by layer.

    Args:
        network (Network): as `mmfd.analysis.networks` gives it.
        images (int): how many will come.
        attention, tokens (bool): what to measure.
    """

    def __init__(self, network, images, attention=True, tokens=True):
        self.network, self.images = network, 0
        self.attention = defaultdict(lambda: defaultdict(Mean))
        self.tokens = defaultdict(lambda: defaultdict(Mean))
        self.layouts = {}  # layer -> (positions, extra)
        self.grids = {}  # layer -> (h, w)
        self.grams = []  # of the last batch, one of each layer
        self.pictures, self.patches = [], []  # (h, w, 3), (h, w, C)
        self.sample, self.cls_tokens = [], []  # of the output: (n, C)
        self.per_image = -(-SAMPLE // images)
        self.generator = torch.Generator().manual_seed(0)
        backbone = network.backbone
        self.recorder = Recorder(backbone, self._see_map)
        self.watchers = [self.recorder] * attention + [
            Watch(backbone, self._see_tokens)
        ] * tokens

    @torch.no_grad()
    def see(self, batch):
        """A batch, as the network's preprocessor takes it."""
        self.grams = []
        with ExitStack() as stack:
            for watcher in self.watchers:
                stack.enter_context(watcher)
            self.network(batch)
        missing = PICTURES - len(self.pictures)
        if missing and self.grids:
            self.pictures += batch['inputs'][:missing]
            self.patches += self.last[:missing].cpu().unbind()
        self.images += len(batch['inputs'])

    def _see_map(self, found):
        weights, extra = found.weights, found.extra
        means, images = self.attention[found.layer], len(weights)
        self.layouts[found.layer] = found.positions.cpu(), extra
        divergence, entropy = measures.head_divergence(weights)
        seen = dict(
            distance=measures.attention_distance(weights, found.positions,
                                                 extra),
            distance_with_cls=measures.attention_distance(
                weights, found.positions, extra, renormalise=False),
            similarity=measures.head_similarity(weights),
            divergence=divergence,
            entropy=entropy,
            map=weights.mean((0, 2)))
        for name, value in seen.items():
            means[name].add(value, images)

    def _see_tokens(self, layer, tokens):
        means, images = self.tokens[layer], len(tokens.map)
        self.last = tokens.map.float()
        self.grids[layer] = tuple(self.last.shape[1:3])
        patches = self.last.flatten(0, 2)
        lengths = self.last.norm(dim=-1).flatten(1)
        seen = dict(
            mean=patches.mean(0),
            second=patches.mT @ patches / len(patches),
            norm=lengths.mean(),
            norm_squared=lengths.square().mean(),
            longest=lengths.amax(1).mean())
        if tokens.cls.shape[1]:
            first = tokens.cls[:, 0].float()
            seen.update(cls_norm=first.norm(dim=-1).mean())
        for name, value in seen.items():
            means[name].add(value, images)
        self.grams.append(measures.gram(measures.regions(self.last)))
        if layer == OUTPUT and self.images < SAMPLE:
            self._keep(tokens)

    def _keep(self, tokens):
        patches = self.last.flatten(1, 2)
        chosen = torch.randperm(
            patches.shape[1], generator=self.generator)[:self.per_image]
        self.sample.append(patches[:, chosen.to(patches.device)].cpu())
        first = tokens.cls[:, :1].flatten(1).float().cpu()
        self.cls_tokens.append(first.clone())  # or it holds all tokens

    def output(self):
        """Patches (B, n, C) and cls tokens (B, C or 0) that were kept."""
        return torch.cat(self.sample), torch.cat(self.cls_tokens)

    def colours(self):
        """Pictures (n, H, W, 3) and their patches (n, h, w, 3), 0 to 1.

        Pipelines load BGR, as OpenMMLab's do.
        """
        pictures = torch.stack(self.pictures).flip(1).permute(0, 2, 3, 1)
        return pictures / 255, measures.colours(torch.stack(self.patches))

    @cached_property
    def numbers(self):
        """When all are seen: all measures as plain numbers, layer by layer."""
        return dict(
            images=self.images,
            attention={
                layer: self._attention(layer)
                for layer in self.attention
            },
            tokens={layer: self._tokens(layer)
                    for layer in self.tokens},
            refused=self.recorder.refused)

    def maps(self, layer):
        """Mean attention of patches to patches, (W, N, N)."""
        extra = self.layouts[layer][1]
        return self.attention[layer]['map'].value[:, extra:, extra:]

    def _attention(self, layer):
        means = self.attention[layer]
        positions, extra = self.layouts[layer]
        average = self.maps(layer)
        return dict(
            heads=len(means['entropy'].value),
            windows=len(positions),
            keys=positions.shape[1] + extra,
            distance=means['distance'].value.tolist(),
            distance_with_cls=means['distance_with_cls'].value.tolist(),
            similarity=measures.off_diagonal(means['similarity'].value).item(),
            divergence=measures.off_diagonal(means['divergence'].value).item(),
            entropy=means['entropy'].value.tolist(),
            offset_share=measures.share_by_offset(average, positions).item(),
            key_share=measures.share_by_key(average, positions).item())

    def _tokens(self, layer):
        means = {name: mean.value for name, mean in self.tokens[layer].items()}
        second, mean = means['second'], means['mean']
        values = measures.singular_values(second - mean[:, None] * mean)
        rms = second.diagonal().sqrt()
        spread = (means['norm_squared'] - means['norm']**2).clamp(min=0).sqrt()
        found = dict(
            grid=self.grids[layer],
            channels=len(mean),
            norm=means['norm'].item(),
            norm_std=spread.item(),
            longest_patch=means['longest'].item(),
            effective_rank=measures.effective_rank(values).item(),
            singular_values=values.tolist(),
            largest_channel_over_median=(rms.max() / rms.median()).item(),
            outlier_channels=measures.outlier_channels(rms).tolist())
        if 'cls_norm' in means:
            found.update(cls_norm=means['cls_norm'].item())
        return found
