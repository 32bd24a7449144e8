"""All that is measured of one or two networks on the same images."""
from itertools import product

import torch
from mmengine.utils import ProgressBar

from mmfd.analysis import landscape, measures, networks, whitening
from mmfd.analysis.images import Images
from mmfd.analysis.survey import Mean, Survey

MEASURES = ('attention', 'tokens', 'whitening', 'landscape')
LINE = torch.linspace(-1, 1, 21).tolist()
PLANE = torch.linspace(-1, 1, 11).tolist()
SEEDS = 3


class Diagnosis:
    """Measures of networks, as the report shows them.

    Args:
        shown (list[Network]): one or two.
        images (Images): what they look at.
        wanted (Sequence[str]): some of `MEASURES`.
        batch_size (int): images at a time.
        landscape_images (int): for each point of a landscape.
    """

    def __init__(self,
                 shown,
                 images,
                 wanted=MEASURES,
                 batch_size=8,
                 landscape_images=128):
        self.networks, self.images, self.wanted = shown, images, wanted
        self.batch_size = batch_size
        self.landscape_images = landscape_images
        self.surveys, self.hsic = [], Mean()
        self.landscapes, self.advice, self.missing = {}, None, {}

    def run(self):
        """Measure everything; `self` when it is done."""
        if {'attention', 'tokens', 'whitening'} & {*self.wanted}:
            self._survey()
        if 'whitening' in self.wanted:
            self._advise()
        if 'landscape' in self.wanted:
            self._walk()
        return self

    def batches(self, images, shown):
        return images.batches([network.pipeline for network in shown],
                              self.batch_size)

    def _survey(self):
        tokens = bool({'tokens', 'whitening'} & {*self.wanted})
        self.surveys = [
            Survey(network, len(self.images.infos), 'attention' in self.wanted,
                   tokens) for network in self.networks
        ]
        bar = ProgressBar(len(self.images.infos))
        for batches in self.batches(self.images, self.networks):
            for survey, batch in zip(self.surveys, batches):
                survey.see(batch)
            count = len(batches[0]['inputs'])
            grams = [gram for survey in self.surveys for gram in survey.grams]
            if grams:
                self.hsic.add(measures.hsic(torch.stack(grams)), count)
            bar.update(count)
        print()

    def _advise(self):
        teachers = [s for s in self.surveys if s.network.name == 'teacher']
        if not teachers:
            self.missing['whitening'] = 'no network here is a teacher'
        elif not teachers[0].sample:
            self.missing['whitening'] = (
                "the teacher's backbone does not return a map of tokens: set "
                "its out_type='raw'")
        else:
            self.advice = whitening.advise(*teachers[0].output())

    def _walk(self):
        for network in self.networks:
            if network.name == 'teacher':  # has nothing to lose
                continue
            images = Images(self.images.root, self.landscape_images)
            self.landscape_images = len(images.infos)
            batches = (found for found, in self.batches(images, [network]))
            try:
                evaluate = networks.evaluation(network, batches)
            except ValueError as error:
                self.missing['landscape'] = str(error)
                continue
            print(f'landscape of {network.name}')
            self.landscapes[network.name] = self._landscape(network, evaluate)

    def _landscape(self, network, evaluate):
        weights = dict(network.model.named_parameters())
        steps = [
            landscape.direction(weights,
                                torch.Generator().manual_seed(seed))
            for seed in range(SEEDS)
        ]
        bar = ProgressBar(SEEDS * len(LINE) + len(PLANE)**2)

        def walk(directions, points):
            for values in landscape.walk(network.model, directions, points,
                                         evaluate):
                bar.update()
                yield values

        lines = [[*walk([step], [(point, ) for point in LINE])]
                 for step in steps]
        plane = [*walk(steps[:2], [*product(PLANE, repeat=2)])]
        print()
        return dict(line=LINE, lines=lines, side=PLANE, plane=plane)

    def cka(self):
        """Names of all layers, network by network, and their CKA."""
        names = [(survey.network.name, layer) for survey in self.surveys
                 for layer in survey.tokens]
        return names, measures.cka_of(self.hsic.value)

    def notes(self):
        """What a reader has to know of the images and networks, sentences."""
        yield from self.images.notes()
        sizes = {}
        for survey in self.surveys:
            name = survey.network.name
            for layer, reason in survey.recorder.refused.items():
                yield f'{name}, {layer}: no attention map, {reason}.'
            if 'attention' in self.wanted and not survey.attention:
                yield (f'{name}: none of its layers computes attention among '
                       'tokens, so there is nothing to show of it.')
            depth, grids = len(survey.attention), {*survey.grids.values()}
            sizes[name] = depth or len(survey.tokens), grids
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
        """All of it, for a JSON file."""
        found = dict(
            images=dict(
                root=str(self.images.root),
                there=self.images.there,
                asked=self.images.asked,
                unreadable=self.images.unreadable),
            notes=[*self.notes()],
            networks={s.network.name: s.numbers
                      for s in self.surveys},
            landscape=self.landscapes,
            whitening=self.advice)
        if self.hsic.count:
            names, values = self.cka()
            found['cka'] = dict(layers=names, values=values.tolist())
        return found
