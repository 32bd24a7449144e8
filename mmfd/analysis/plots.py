"""Figures of a diagnosis. The only file that knows matplotlib.

One colour for each network in all of them; colours, after Okabe and Ito, and
maps are told apart by the colour-blind.
"""
from math import log

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mmfd.analysis import measures, whitening

COLOURS = ('#E69F00', '#0072B2')  # first and second network
CHOICES = dict(  # of whitening -> colour and width; some are the same curve
    none=('#BBBBBB', 7),
    whitening=('#0072B2', 4),
    l2=('#F0E442', 1.5),
    standardise=('#D55E00', 1.5))
STYLE = {
    'font.size': 9,
    'axes.titlesize': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'legend.frameon': False,
    'image.cmap': 'viridis',
    'savefig.dpi': 130,
}
WIDTH = 9  # inches, as wide as a page
SHOWN = 6  # attention maps in a row


def save(draw, diagnosis, path):
    """Draw a figure of this module into a PNG file."""
    with rc_context(STYLE):
        figure = draw(diagnosis)
        figure.savefig(path)


def attention_distance(diagnosis):
    """A dot for each head, layer by layer (FD, fig. 2)."""
    surveys = _attending(diagnosis)
    figure, axes = _panels(len(surveys), 3.2, sharey=True)
    for axis, survey in zip(axes, surveys):
        spots = [
            (index, distance)
            for index, layer in enumerate(survey.numbers['attention'].values())
            for distance in layer['distance']
        ]
        axis.plot(
            *zip(*spots),
            'o',
            ms=4,
            alpha=0.8,
            color=_colour(diagnosis, survey.network.name))
        uniform = [
            _uniform_distance(survey, name) for name in survey.attention
        ]
        axis.plot(
            uniform, '--', color='#444444', lw=1, label='uniform attention')
        axis.set(title=survey.network.name, xlabel='layer')
        _whole(axis)
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(0 if low < high / 2 else low, high + 0.2 * (high - low))
    axes[0].set_ylabel('mean attention distance (pixels)')
    axes[-1].legend(loc='upper right')
    return figure


def heads(diagnosis):
    """Cosine, divergence and entropy of heads (FD, fig. 3)."""
    surveys = _attending(diagnosis)
    figure, (cosine, divergence, entropy) = _panels(3, 2.9)
    width = _width(surveys)
    for i, (survey, x) in enumerate(_depths(surveys)):
        layers = [*survey.numbers['attention'].values()]
        name = survey.network.name
        colour = _colour(diagnosis, name)
        for axis, key in ((cosine, 'similarity'), (divergence, 'divergence')):
            axis.plot(
                x, [layer[key] for layer in layers],
                'o-',
                ms=3,
                color=colour,
                label=name)
        beside = width * (i - (len(surveys) - 1) / 2)
        spots = [(place + beside, value) for place, layer in zip(x, layers)
                 for value in layer['entropy']]
        entropy.plot(*zip(*spots), 'o', ms=3, color=colour, alpha=0.7)
        entropy.plot(
            x, [log(layer['keys']) for layer in layers],
            '--',
            lw=1,
            color='#444444',
            label='uniform attention')
    cosine.set(ylabel='cosine of two heads', ylim=(0, 1.02))
    divergence.set(ylabel='KL of two heads (nats)', ylim=0)
    entropy.set(ylabel='entropy of a head (nats)', ylim=0)
    cosine.legend()
    _legend_once(entropy, loc='lower left')
    _label_depth(surveys, (cosine, divergence, entropy))
    return figure


def average_maps(diagnosis):
    """Attention averaged over images, heads and windows (FD, fig. 4)."""
    surveys = _attending(diagnosis)
    figure = _figure(1.95 * len(surveys))
    axes = figure.subplots(len(surveys), SHOWN, squeeze=False)
    for row, survey in zip(axes, surveys):
        names = [*survey.attention]
        chosen = _spread(len(names), SHOWN)
        for axis, index in zip(row, chosen):
            average = survey.maps(names[index]).mean(0).numpy()
            axis.imshow(
                average,
                vmin=0,
                vmax=np.quantile(average, 0.995),
                interpolation='nearest')
            axis.set(title=f'layer {index}', xticks=[], yticks=[])
        for axis in row[len(chosen):]:
            axis.set_axis_off()
        row[0].set(ylabel=f'{survey.network.name}\nquery', xlabel='key')
    return figure


def shares(diagnosis):
    """What explains the average maps: offset, or key alone."""
    surveys = _attending(diagnosis)
    figure, axes = _panels(2, 2.8, sharey=True)
    titles = dict(
        offset_share='relative offset (diagonals)',
        key_share='key position (columns)')
    for axis, (key, title) in zip(axes, titles.items()):
        for survey, x in _depths(surveys):
            colour = _colour(diagnosis, survey.network.name)
            values = [
                100 * layer[key]
                for layer in survey.numbers['attention'].values()
            ]
            axis.plot(
                x, values, 'o-', ms=3, color=colour, label=survey.network.name)
        axis.set(title=title, ylim=(0, 102))
    axes[0].set_ylabel('variance of the map explained (%)')
    axes[0].legend()
    _label_depth(surveys, axes)
    return figure


def cka(diagnosis):
    """Similarity of every layer to every other, within and between."""
    names, values = diagnosis.cka()
    values = values.numpy()
    parts = {}  # network -> slice
    for survey in diagnosis.surveys:
        mine = [
            i for i, (network, _) in enumerate(names)
            if network == survey.network.name
        ]
        parts[survey.network.name] = slice(mine[0], mine[-1] + 1)
    pairs = [(name, name) for name in parts]
    if len(parts) == 2:
        pairs.append((*parts, ))
    figure, axes = _panels(len(pairs), 3.2)
    for axis, (row, column) in zip(axes, pairs):
        shown = axis.imshow(
            values[parts[row], parts[column]], vmin=0, vmax=1, origin='lower')
        axis.set(
            title='within ' + row if row == column else 'between',
            xlabel=f'layer of {column}',
            ylabel=f'layer of {row}')
        _whole(axis)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(shown, ax=axes, label='CKA', shrink=0.8)
    return figure


def ranks(diagnosis):
    """Singular values of the last layer; effective rank of all."""
    surveys = diagnosis.surveys
    figure, (spectrum, rank) = _panels(2, 2.9)
    for survey, x in _depths(surveys, 'tokens'):
        colour = _colour(diagnosis, survey.network.name)
        layers = [*survey.numbers['tokens'].values()]
        values = np.array(layers[-1]['singular_values'])
        spectrum.plot(
            np.arange(1,
                      len(values) + 1),
            values / values[0],
            color=colour,
            label=survey.network.name)
        rank.plot(
            x, [
                100 * layer['effective_rank'] / layer['channels']
                for layer in layers
            ],
            'o-',
            ms=3,
            color=colour)
    spectrum.set(
        xlabel='index',
        yscale='log',
        ylim=(1e-4, 1.2),
        ylabel='singular value / largest',
        title='last layer')
    rank.set(
        ylabel='effective rank (% of channels)', ylim=0, title='all layers')
    spectrum.legend()
    _label_depth(surveys, [rank], 'tokens')
    return figure


def norms(diagnosis):
    """Lengths of tokens, and the loudest channel, layer by layer."""
    surveys = diagnosis.surveys
    figure, (length, channel) = _panels(2, 2.9)
    for survey, x in _depths(surveys, 'tokens'):
        colour = _colour(diagnosis, survey.network.name)
        layers = [*survey.numbers['tokens'].values()]
        name = survey.network.name
        length.plot(
            x, [layer['norm'] for layer in layers],
            'o-',
            ms=3,
            color=colour,
            label=f'{name}, patches')
        if 'cls_norm' in layers[0]:
            length.plot(
                x, [layer['cls_norm'] for layer in layers],
                's:',
                ms=3,
                color=colour,
                label=f'{name}, cls token')
        channel.plot(
            x, [layer['largest_channel_over_median'] for layer in layers],
            'o-',
            ms=3,
            color=colour)
    channel.axhline(
        measures.OUTLIER, ls='--', lw=1, color='#444444', label='outlier')
    _plain_log(length, channel)
    length.set(ylabel='mean length of a token')
    channel.set(ylabel='largest channel / median')
    length.legend()
    channel.legend()
    _label_depth(surveys, (length, channel), 'tokens')
    return figure


def colours(diagnosis):
    """Three principal components of patches as red, green and blue."""
    rows = []
    for survey in diagnosis.surveys:
        pictures, patches = survey.colours()
        rows.append((survey.network.name, patches))
    rows.insert(0, ('image', pictures))
    count = len(pictures)
    figure = _figure(WIDTH / max(count, 4) * len(rows) * 0.96)
    axes = figure.subplots(len(rows), max(count, 4), squeeze=False)
    for row, (name, images) in zip(axes, rows):
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, image in zip(row, images):
            axis.imshow(image.numpy(), interpolation='nearest')
        row[0].set_ylabel(name)
    return figure


def line(diagnosis):
    """Loss, and accuracy where there is one, along random directions."""
    found = diagnosis.landscapes
    titles = dict(loss='loss', top1='top-1 (%)')
    keys = [
        key for key in titles
        if all(key in shape['plane'][0] for shape in found.values())
    ]
    figure, axes = _panels(len(keys), 3.0)
    for axis, key in zip(axes, keys):
        for name, shape in found.items():
            colour = _colour(diagnosis, name)
            curves = np.array([[point[key] for point in curve]
                               for curve in shape['lines']])
            axis.plot(shape['line'], curves.T, lw=0.7, alpha=0.5, color=colour)
            axis.plot(
                shape['line'], curves.mean(0), lw=2, color=colour, label=name)
        axis.set(xlabel='step, in lengths of the weights', ylabel=titles[key])
    axes[0].legend()
    return figure


def plane(diagnosis):
    """Loss in the plane of two random directions."""
    found = diagnosis.landscapes
    losses = {name: _square(shape) for name, shape in found.items()}
    low = min(loss.min() for loss in losses.values())
    high = max(np.quantile(loss, 0.9) for loss in losses.values())
    figure, axes = _panels(len(found), 3.4)
    for axis, (name, shape) in zip(axes, found.items()):
        drawn = axis.contourf(
            shape['side'],
            shape['side'],
            losses[name],
            np.linspace(low, high, 13),
            extend='max')
        axis.plot(0, 0, '+', color='white', ms=10)
        axis.set(
            title=name,
            xlabel='first direction',
            aspect='equal',
            ylabel='second direction')
    figure.colorbar(drawn, ax=axes, label='loss', shrink=0.9)
    return figure


def whitened(diagnosis):
    """Channels, tokens and scale of a teacher, by choice of target."""
    choices = diagnosis.advice['choices']
    figure, (channels, even) = _panels(2, 3.1)
    for name, found in choices.items():
        colour, width = CHOICES[name]
        std = np.array(found['channels'])
        channels.plot(
            np.arange(1,
                      len(std) + 1),
            std / np.median(std),
            color=colour,
            lw=width,
            label=whitening.TITLES[name])
    _plain_log(channels)
    channels.set(
        xlabel='channel, loudest first', ylabel='standard deviation / median')
    channels.legend()
    for i, key in enumerate(('even_channels', 'even_tokens')):
        even.barh([j + 0.36 * i for j in range(len(choices))],
                  [100 * found[key] for found in choices.values()],
                  0.34,
                  color=('#56B4E9', '#CC79A7')[i],
                  label=key.replace('even_', ''))
    even.set(
        yticks=[j + 0.18 for j in range(len(choices))],
        xlim=(0, 100),
        yticklabels=[whitening.TITLES[name] for name in choices],
        xlabel='seen by the loss, as if so many were alike (%)')
    even.invert_yaxis()
    even.legend(loc='upper center', bbox_to_anchor=(0.5, 1.14), ncols=2)
    return figure


def _figure(height):
    return Figure(figsize=(WIDTH, height), layout='constrained')


def _panels(count, height, **kwargs):
    figure = _figure(height)
    axes = figure.subplots(1, count, squeeze=False, **kwargs)[0]
    return figure, axes


def _colour(diagnosis, name):
    names = [network.name for network in diagnosis.networks]
    return COLOURS[names.index(name)]


def _attending(diagnosis):
    return [survey for survey in diagnosis.surveys if survey.attention]


def _depths(surveys, of='attention'):
    """Surveys with the places of their layers on the axis."""
    counts = [len(vars(survey)[of]) for survey in surveys]
    for survey, count in zip(surveys, counts):
        scale = 1 if len({*counts}) == 1 else 100 / max(count - 1, 1)
        yield survey, [index * scale for index in range(count)]


def _label_depth(surveys, axes, of='attention'):
    same = len({len(vars(survey)[of]) for survey in surveys}) == 1
    for axis in axes:
        axis.set_xlabel('layer' if same else 'layer, % of the depth')
        _whole(axis)


def _whole(axis):
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _width(surveys):
    """Between networks, where their dots are put side by side."""
    counts = {len(survey.attention) for survey in surveys}
    return 0.24 if len(counts) == 1 else 2


def _plain_log(*axes):
    for axis in axes:
        axis.set_yscale('log')
        low, high = axis.get_ylim()
        wide = high > 10 * low
        axis.yaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 7)))
        axis.yaxis.set_major_formatter('{x:g}')
        axis.yaxis.set_minor_formatter(NullFormatter())


def _legend_once(axis, **kwargs):
    handles = dict(zip(*axis.get_legend_handles_labels()[::-1]))
    axis.legend(handles.values(), handles, **kwargs)


def _spread(there, wanted):
    """Indices of some of so many, the first and the last among them."""
    if there <= wanted:
        return [*range(there)]
    return [round(i * (there - 1) / (wanted - 1)) for i in range(wanted)]


def _uniform_distance(survey, layer):
    positions, _ = survey.layouts[layer]
    return torch.cdist(positions, positions).mean().item()


def _square(shape):
    """Losses, the first direction to the right."""
    losses = np.array([point['loss'] for point in shape['plane']])
    return losses.reshape(len(shape['side']), -1).T
