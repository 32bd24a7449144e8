"""Everything that is measured of networks on the same images."""
from itertools import product

import torch
from mmengine.utils import ProgressBar

from mmfd.analysis import landscape, measures, whitening
from mmfd.analysis.evaluation import evaluation
from mmfd.analysis.images import ImageSample, check_batch_size
from mmfd.analysis.layer_statistics import LayerStatistics, RunningMean
from mmfd.analysis.loss_shares import LossShares
from mmfd.errors import Refused

LINE = torch.linspace(-1, 1, 21).tolist()  # lengths along a direction
PLANE = torch.linspace(-1, 1, 11).tolist()  # along each of two
DIRECTIONS = 3


class Diagnosis:
    """Measures of networks, for a report.

    Args:
        networks (list[Network]): teachers, a student, or any two.
        images (ImageSample): what they see.
        wanted (Sequence[str]): some of attention, tokens, whitening and
            landscape.
        batch_size (int): images at a time.
        landscape_images (int): at most, for each point of a landscape.

    Attributes:
        statistics (list[LayerStatistics]): of each network.
        hsic (RunningMean): (layers, layers), of the layers of all networks.
        landscapes (dict): name of a network -> losses and where they are.
        advice (dict): name of a teacher -> as `whitening.advise` gives it.
        shares (dict): as `LossShares.measure` gives them.
        missing (dict): measure -> why it could not be made.

    Raises:
        Refused: for batches of no image.
    """

    def __init__(self,
                 networks,
                 images,
                 wanted,
                 batch_size=8,
                 landscape_images=128):
        check_batch_size(batch_size)
        self.networks, self.images, self.wanted = networks, images, wanted
        self.batch_size = batch_size
        if 'landscape' in wanted:
            self.landscape_sample = ImageSample(images.root, landscape_images)
        self.statistics, self.hsic = [], RunningMean()
        self.landscapes, self.advice, self.missing = {}, {}, {}
        self.shares = {}

    def run(self):
        """Measure everything that is wanted; returns self."""
        if {'attention', 'tokens', 'whitening'} & {*self.wanted}:
            self._collect_statistics()
        if 'whitening' in self.wanted:
            self._advise()
        if 'landscape' in self.wanted:
            self._make_landscapes()
        return self

    def _batches(self, images, networks):
        return images.batches([network.pipeline for network in networks],
                              self.batch_size)

    def _collect_statistics(self):
        tokens = bool({'tokens', 'whitening'} & {*self.wanted})
        self.statistics = [
            LayerStatistics(network, len(self.images.infos), 'attention'
                            in self.wanted, tokens)
            for network in self.networks
        ]
        bar = ProgressBar(len(self.images.infos))
        shares = LossShares(self.networks)
        for batches in self._batches(self.images, self.networks):
            for statistics, batch in zip(self.statistics, batches):
                shares.add(statistics.network.name, statistics.add(batch))
            count = len(batches[0]['inputs'])
            grams = [gram for s in self.statistics for gram in s.grams]
            if grams:
                self.hsic.add(measures.hsic(torch.stack(grams)), count)
            bar.update(count)
        self.shares = shares.measure(self.statistics[0].images)
        print()

    def _advise(self):
        teachers = [s for s in self.statistics if s.network.is_teacher]
        if not teachers:
            self.missing['whitening'] = 'no network here is a teacher'
        for statistics in teachers:
            name = statistics.network.name
            if statistics.sample:
                self.advice[name] = whitening.advise(*statistics.output())
            else:
                self.missing[f'whitening of the {name}'] = (
                    'its backbone does not return a map of tokens: set its '
                    "out_type='raw'")

    def _make_landscapes(self):
        for network in self.networks:
            if network.is_teacher:  # it has no loss
                continue
            batches = (
                batch
                for batch, in self._batches(self.landscape_sample, [network]))
            try:
                evaluate = evaluation(network, batches)
            except Refused as error:
                self.missing['landscape'] = str(error)
                continue
            print(f'landscape of {network.name}')
            self.landscapes[network.name] = self._landscape(network, evaluate)

    def _landscape(self, network, evaluate):
        weights = dict(network.model.named_parameters())
        directions = [
            landscape.random_direction(weights,
                                       torch.Generator().manual_seed(seed))
            for seed in range(DIRECTIONS)
        ]
        bar = ProgressBar(DIRECTIONS * len(LINE) + len(PLANE)**2)

        def losses(directions, points):
            for numbers in landscape.evaluate_along(network.model, directions,
                                                    points, evaluate):
                bar.update()
                yield numbers

        lines = [[*losses([direction], [(length, ) for length in LINE])]
                 for direction in directions]
        plane = [*losses(directions[:2], [*product(PLANE, repeat=2)])]
        print()
        return dict(line=LINE, lines=lines, side=PLANE, plane=plane)

    def cka(self):
        """(network, layer) of all layers, and their CKA (layers, layers)."""
        names = [(statistics.network.name, layer)
                 for statistics in self.statistics
                 for layer in statistics.tokens]
        return names, measures.cka_of(self.hsic.value)

    def notes(self):
        """Sentences: what a reader has to know of images and networks."""
        yield from self.images.notes()
        sizes = {}
        for statistics in self.statistics:
            name = statistics.network.name
            refused = statistics.attention_recorder.refused
            for layer, reason in refused.items():
                yield f'{name}, {layer}: no attention map, {reason}.'
            if 'attention' in self.wanted and not statistics.attention:
                yield (f'{name}: none of its layers computes attention among '
                       'tokens, so there is nothing to show of it.')
            depth = len(statistics.attention) or len(statistics.tokens)
            sizes[name] = depth, {*statistics.grids.values()}
        if len({str(size) for size in sizes.values()}) > 1:
            yield ('The networks differ, ' +
                   '; '.join(f'{name}: {depth} layers, grids ' +
                             ', '.join(f'{h} x {w}'
                                       for h, w in sorted(grids, reverse=True))
                             for name, (depth, grids) in sizes.items()) +
                   '. Layers are compared by their share of the depth.')
        for measure, reason in self.missing.items():
            yield f'No {measure}: {reason}.'

    def numbers(self):
        """Everything as plain numbers, for a JSON file."""
        numbers = dict(
            images=dict(
                root=str(self.images.root),
                there=self.images.available,
                asked=self.images.asked,
                unreadable=self.images.broken),
            notes=[*self.notes()],
            networks={s.network.name: s.numbers
                      for s in self.statistics},
            landscape=self.landscapes,
            whitening=self.advice,
            loss_shares=self.shares)
        if self.hsic.count:
            names, values = self.cka()
            numbers['cka'] = dict(layers=names, values=values.tolist())
        return numbers
