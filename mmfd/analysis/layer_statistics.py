"""Statistics of every layer of a network, in one pass over images.

The memory they take does not grow with the number of images; of the attention
maps only one is there at a time.
"""
from collections import defaultdict
from contextlib import ExitStack
from functools import cached_property

import torch

from mmfd.analysis import measures
from mmfd.analysis.attention import AttentionRecorder
from mmfd.analysis.tokens import OUTPUT, TokenRecorder

SHOWN = 6  # images whose patches are shown in colours
SAMPLE = 8192  # tokens of the output that are kept


class RunningMean:
    """Mean over images of tensors that come batch by batch."""

    def __init__(self):
        self.total, self.count = 0., 0

    def add(self, value, count):
        self.total = self.total + value.double().cpu() * count
        self.count += count

    @property
    def value(self):
        return self.total / self.count


class LayerStatistics:
    """What one network does to images, layer by layer.

    Args:
        network (Network): as `mmfd.analysis.load_networks` gives it.
        images (int): how many will come.
        attention, tokens (bool): what to measure.

    Attributes:
        attention, tokens (dict): layer -> name of a measure -> RunningMean.
        layouts (dict): layer -> (positions, extra), as in `AttentionMap`.
        grids (dict): layer -> (h, w) of its tokens.
        grams (list): of the last batch, (n, n) for each layer.
        sample, cls_tokens (list): of the output, (B, n, C) and (B, C).
    """

    def __init__(self, network, images, attention=True, tokens=True):
        self.network, self.images = network, 0
        self.attention = defaultdict(lambda: defaultdict(RunningMean))
        self.tokens = defaultdict(lambda: defaultdict(RunningMean))
        self.layouts, self.grids, self.grams = {}, {}, []
        self.pictures, self.patches = [], []  # (3, H, W), (h, w, C)
        self.sample, self.cls_tokens = [], []
        self.per_image = -(-SAMPLE // images)
        self.generator = torch.Generator().manual_seed(0)
        backbone = network.backbone
        self.attention_recorder = AttentionRecorder(backbone, self._add_map)
        self.recorders = [self.attention_recorder] * attention + [
            TokenRecorder(backbone, self._add_tokens)
        ] * tokens

    @torch.no_grad()
    def add(self, batch):
        """Add a batch of images, as the network's preprocessor takes it.

        Returns:
            What the network gives of it.
        """
        self.grams = []
        with ExitStack() as stack:
            for recorder in self.recorders:
                stack.enter_context(recorder)
            output = self.network(batch)
        missing = SHOWN - len(self.pictures)
        if missing and self.grids:
            self.pictures += batch['inputs'][:missing]
            self.patches += self.last_map[:missing].cpu().unbind()
        self.images += len(batch['inputs'])
        return output

    def _add_map(self, attention):
        weights, positions, extra = attention[1:]
        means, images = self.attention[attention.layer], len(weights)
        self.layouts[attention.layer] = positions.cpu(), extra
        divergence, entropy = measures.head_divergence(weights)
        values = dict(
            distance=measures.attention_distance(weights, positions, extra),
            distance_with_cls=measures.attention_distance(
                weights, positions, extra, renormalise=False),
            similarity=measures.head_similarity(weights),
            divergence=divergence,
            entropy=entropy,
            map=weights.mean((0, 2)))
        for name, value in values.items():
            means[name].add(value, images)

    def _add_tokens(self, layer, tokens):
        means, images = self.tokens[layer], len(tokens.map)
        self.last_map = tokens.map.float()
        self.grids[layer] = tuple(self.last_map.shape[1:3])
        patches = self.last_map.flatten(0, 2)
        lengths = self.last_map.norm(dim=-1).flatten(1)
        values = dict(
            mean=patches.mean(0),
            second=patches.mT @ patches / len(patches),
            norm=lengths.mean(),
            norm_squared=lengths.square().mean(),
            longest=lengths.amax(1).mean())
        if tokens.cls.shape[1]:
            cls_token = tokens.cls[:, 0].float()
            values.update(cls_norm=cls_token.norm(dim=-1).mean())
        for name, value in values.items():
            means[name].add(value, images)
        self.grams.append(measures.gram(measures.regions(self.last_map)))
        if layer == OUTPUT and self.images < SAMPLE:
            self._keep_sample(tokens)

    def _keep_sample(self, tokens):
        patches = self.last_map.flatten(1, 2)
        chosen = torch.randperm(
            patches.shape[1], generator=self.generator)[:self.per_image]
        self.sample.append(patches[:, chosen.to(patches.device)].cpu())
        cls_token = tokens.cls[:, :1].flatten(1).float().cpu()
        self.cls_tokens.append(cls_token.clone())  # a view would hold all

    def output(self):
        """The sample of the output: patches (B, n, C), cls (B, C or 0)."""
        return torch.cat(self.sample), torch.cat(self.cls_tokens)

    def colours(self):
        """Images (n, H, W, 3) and colours of their patches (n, h, w, 3), 0-1.

        Pipelines load BGR, as OpenMMLab's do.
        """
        pictures = torch.stack(self.pictures).flip(1).permute(0, 2, 3, 1)
        return pictures / 255, measures.colours(torch.stack(self.patches))

    @cached_property
    def numbers(self):
        """All measures as plain numbers, after the last image was added."""
        return dict(
            images=self.images,
            attention={
                layer: self._attention(layer)
                for layer in self.attention
            },
            tokens={layer: self._tokens(layer)
                    for layer in self.tokens},
            refused=self.attention_recorder.refused)

    def maps(self, layer):
        """Mean attention of patches to patches over images, (W, N, N)."""
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
            offset_share=measures.variance_explained_by_offset(
                average, positions).item(),
            key_share=measures.variance_explained_by_key(average,
                                                         positions).item())

    def _tokens(self, layer):
        means = {name: mean.value for name, mean in self.tokens[layer].items()}
        second, mean = means['second'], means['mean']
        values = measures.singular_values(second - mean[:, None] * mean)
        rms = second.diagonal().sqrt()
        spread = (means['norm_squared'] - means['norm']**2).clamp(min=0).sqrt()
        numbers = dict(
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
            numbers.update(cls_norm=means['cls_norm'].item())
        return numbers
