"""Plots of a diagnosis: each function takes one and returns a figure."""
from math import log

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator

from mmfd.analysis import measures, whitening
from mmfd.analysis.plot_parts import (GREY, WIDTH, colour_of, curve,
                                      label_depth, legend_without_repeats,
                                      log_scale, new_figure, on_depth_axis,
                                      panels, whole_numbers, with_attention)

MAPS = 6  # attention maps in a row
TARGETS = dict(  # normaliser -> colour and width: some curves agree
    layer_norm=('#0072B2', 7),
    none=('#BBBBBB', 4),
    l2=('#F0E442', 1.5),
    phi_s=('#009E73', 5),
    standardize=('#D55E00', 2.5),
    zca=('#000000', 1))


def attention_distance(diagnosis):
    """A dot for each head, layer by layer (FD, fig. 2)."""
    statistics = with_attention(diagnosis)
    figure, axes = panels(len(statistics), 2.6, sharey=True)
    for axis, stats in zip(axes, statistics):
        spots = [
            (index, distance)
            for index, layer in enumerate(stats.numbers['attention'].values())
            for distance in layer['distance']
        ]
        axis.plot(
            *zip(*spots),
            'o',
            ms=4,
            alpha=0.8,
            color=colour_of(diagnosis, stats.network.name))
        uniform = [_uniform_distance(stats, name) for name in stats.attention]
        axis.plot(uniform, '--', color=GREY, lw=1, label='uniform attention')
        axis.set(title=stats.network.name, xlabel='layer')
        whole_numbers(axis)
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(0 if low < high / 2 else low, high + 0.2 * (high - low))
    axes[0].set_ylabel('attention distance (pixels)')
    axes[-1].legend(loc='upper right')
    return figure


def heads(diagnosis):
    """Cosine, divergence and entropy of heads (FD, fig. 3)."""
    statistics = with_attention(diagnosis)
    figure, (cosine, divergence, entropy) = panels(3, 2.3)
    width = _beside(statistics)
    for i, (stats, x) in enumerate(on_depth_axis(statistics)):
        layers = [*stats.numbers['attention'].values()]
        name = stats.network.name
        colour = colour_of(diagnosis, name)
        for axis, key in ((cosine, 'similarity'), (divergence, 'divergence')):
            curve(axis, x, [layer[key] for layer in layers], colour, name)
        beside = width * (i - (len(statistics) - 1) / 2)
        spots = [(place + beside, value) for place, layer in zip(x, layers)
                 for value in layer['entropy']]
        entropy.plot(*zip(*spots), 'o', ms=3, color=colour, alpha=0.7)
        entropy.plot(
            x, [log(layer['keys']) for layer in layers],
            '--',
            lw=1,
            color=GREY,
            label='uniform attention')
    cosine.set(ylabel='cosine of two heads', ylim=(0, 1.02))
    divergence.set(ylabel='KL of two heads (nats)', ylim=0)
    entropy.set(ylabel='entropy of a head (nats)', ylim=0)
    cosine.legend()
    legend_without_repeats(entropy, loc='lower left')
    label_depth(statistics, (cosine, divergence, entropy))
    return figure


def average_maps(diagnosis):
    """Attention averaged over images, heads and windows (FD, fig. 4)."""
    statistics = with_attention(diagnosis)
    figure = new_figure(1.4 * len(statistics))
    axes = figure.subplots(len(statistics), MAPS, squeeze=False)
    for row, stats in zip(axes, statistics):
        names = [*stats.attention]
        chosen = _evenly_spread(len(names), MAPS)
        for axis, index in zip(row, chosen):
            average = stats.maps(names[index]).mean(0).numpy()
            axis.imshow(
                average,
                vmin=0,
                vmax=np.quantile(average, 0.995),
                interpolation='nearest')
            axis.set(title=f'layer {index}', xticks=[], yticks=[])
        for axis in row[len(chosen):]:
            axis.set_axis_off()
        row[0].set(ylabel=f'{stats.network.name}\nquery', xlabel='key')
    return figure


def shares(diagnosis):
    """What explains the average maps: offset, or key alone."""
    statistics = with_attention(diagnosis)
    figure, axes = panels(2, 2.3, sharey=True)
    titles = dict(
        offset_share='relative offset (diagonals)',
        key_share='key position (columns)')
    for axis, (key, title) in zip(axes, titles.items()):
        for stats, x in on_depth_axis(statistics):
            colour = colour_of(diagnosis, stats.network.name)
            values = [
                100 * layer[key]
                for layer in stats.numbers['attention'].values()
            ]
            curve(axis, x, values, colour, stats.network.name)
        axis.set(title=title, ylim=(0, 102))
    axes[0].set_ylabel('variance explained (%)')
    axes[0].legend()
    label_depth(statistics, axes)
    return figure


def cka(diagnosis):
    """Similarity of every layer to every other, within and between."""
    names, values = diagnosis.cka()
    values = values.numpy()
    parts = {}  # network -> slice
    for stats in diagnosis.statistics:
        mine = [
            i for i, (network, _) in enumerate(names)
            if network == stats.network.name
        ]
        parts[stats.network.name] = slice(mine[0], mine[-1] + 1)
    *others, last = parts
    pairs = [(name, name) for name in parts] + [(name, last)
                                                for name in others]
    figure, axes = panels(len(pairs), 2.4)
    for axis, (row, column) in zip(axes, pairs):
        shown = axis.imshow(
            values[parts[row], parts[column]], vmin=0, vmax=1, origin='lower')
        axis.set(
            title='within ' + row if row == column else 'between',
            xlabel=f'layer of {column}',
            ylabel=f'layer of {row}')
        whole_numbers(axis)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(shown, ax=axes, label='CKA', shrink=0.8)
    return figure


def ranks(diagnosis):
    """Singular values of the last layer; effective rank of all."""
    statistics = diagnosis.statistics
    figure, (spectrum, rank) = panels(2, 2.4)
    for stats, x in on_depth_axis(statistics, 'tokens'):
        colour = colour_of(diagnosis, stats.network.name)
        layers = [*stats.numbers['tokens'].values()]
        values = np.array(layers[-1]['singular_values'])
        spectrum.plot(
            np.arange(1,
                      len(values) + 1),
            values / values[0],
            color=colour,
            label=stats.network.name)
        shares = [
            100 * layer['effective_rank'] / layer['channels']
            for layer in layers
        ]
        curve(rank, x, shares, colour)
    spectrum.set(
        xlabel='index',
        yscale='log',
        ylim=(1e-4, 1.2),
        ylabel='singular value / largest',
        title='last layer')
    rank.set(
        ylabel='effective rank (% of channels)', ylim=0, title='all layers')
    spectrum.legend()
    label_depth(statistics, [rank], 'tokens')
    return figure


def norms(diagnosis):
    """Lengths of tokens, and the loudest channel, layer by layer."""
    statistics = diagnosis.statistics
    figure, (length, channel) = panels(2, 2.4)
    for stats, x in on_depth_axis(statistics, 'tokens'):
        colour = colour_of(diagnosis, stats.network.name)
        layers = [*stats.numbers['tokens'].values()]
        name = stats.network.name
        curve(length, x, [layer['norm'] for layer in layers], colour,
              f'{name}, patches')
        if 'cls_norm' in layers[0]:
            curve(length, x, [layer['cls_norm'] for layer in layers], colour,
                  f'{name}, cls token', 's:')
        curve(channel, x,
              [layer['largest_channel_over_median'] for layer in layers],
              colour)
    channel.axhline(
        measures.OUTLIER, ls='--', lw=1, color=GREY, label='outlier')
    log_scale(length, channel)
    length.set(ylabel='mean length of a token')
    channel.set(ylabel='largest channel / median')
    length.legend()
    channel.legend()
    label_depth(statistics, (length, channel), 'tokens')
    return figure


def colours(diagnosis):
    """Three principal components of patches as red, green and blue."""
    rows = []
    for stats in diagnosis.statistics:
        pictures, patches = stats.colours()
        rows.append((stats.network.name, patches))
    rows.insert(0, ('image', pictures))
    count = len(pictures)
    figure = new_figure(WIDTH / max(count, 4) * len(rows) * 0.96)
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
    landscapes = diagnosis.landscapes
    titles = dict(loss='loss', top1='top-1 (%)')
    keys = [
        key for key in titles if all(key in landscape['plane'][0]
                                     for landscape in landscapes.values())
    ]
    figure, axes = panels(len(keys), 2.5)
    for axis, key in zip(axes, keys):
        for name, landscape in landscapes.items():
            colour = colour_of(diagnosis, name)
            curves = np.array([[point[key] for point in curve]
                               for curve in landscape['lines']])
            axis.plot(
                landscape['line'], curves.T, lw=0.7, alpha=0.5, color=colour)
            axis.plot(
                landscape['line'],
                curves.mean(0),
                lw=2,
                color=colour,
                label=name)
        axis.set(xlabel='step, in lengths of the weights', ylabel=titles[key])
    axes[0].legend()
    return figure


def plane(diagnosis):
    """Loss in the plane of two random directions."""
    landscapes = diagnosis.landscapes
    losses = {
        name: _losses(landscape)
        for name, landscape in landscapes.items()
    }
    low = min(loss.min() for loss in losses.values())
    high = max(np.quantile(loss, 0.9) for loss in losses.values())
    figure, axes = panels(len(landscapes), 2.5)
    for axis, (name, landscape) in zip(axes, landscapes.items()):
        drawn = axis.contourf(
            landscape['side'],
            landscape['side'],
            losses[name],
            np.linspace(low, high, 13),
            extend='max')
        axis.plot(0, 0, '+', color='white', ms=10)
        axis.set(
            title=name,
            xlabel='first direction',
            aspect='equal',
            ylabel='second direction')
    figure.colorbar(drawn, ax=axes, label='loss', shrink=0.9, format='{x:.2f}')
    return figure


def whitened(diagnosis):
    """Channels and tokens of each teacher, by choice of normaliser."""
    figure, axes = panels(2 * len(diagnosis.advice), 2.4, in_a_row=1)
    for i, (name, advice) in enumerate(diagnosis.advice.items()):
        _whitened(*axes[2 * i:2 * i + 2], name, advice['choices'])
    return figure


def _whitened(channels, even, name, choices):
    """The two panels of a teacher."""
    for choice, target in choices.items():
        colour, width = TARGETS[choice]
        shares = np.sort(target['channel_shares'])[::-1]
        channels.plot(
            np.arange(1,
                      len(shares) + 1),
            100 * shares,
            color=colour,
            lw=width,
            label=whitening.TITLES[choice])
    log_scale(channels)
    channels.set(
        xlabel='channel, loudest first', ylabel='share of the loss (%)')
    channels.legend(
        title=name, loc='lower center', bbox_to_anchor=(0.5, 1), ncols=3)
    for i, key in enumerate(('even_channels', 'even_tokens')):
        even.barh([j + 0.36 * i for j in range(len(choices))],
                  [100 * target[key] for target in choices.values()],
                  0.34,
                  color=('#56B4E9', '#CC79A7')[i],
                  label=key.replace('even_', ''))
    even.set(
        yticks=[j + 0.18 for j in range(len(choices))],
        xlim=(0, 100),
        yticklabels=[whitening.TITLES[choice] for choice in choices],
        xlabel='seen by the loss, as if so many were alike (%)')
    even.invert_yaxis()
    even.legend(loc='upper center', bbox_to_anchor=(0.5, 1.14), ncols=2)


def _beside(statistics):
    """How far apart on x the dots of two networks are drawn."""
    depths = {len(s.attention) for s in statistics}
    return 0.24 if len(depths) == 1 else 2


def _evenly_spread(count, wanted):
    """Indices of `wanted` of `count`, with the first and the last."""
    if count <= wanted:
        return [*range(count)]
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def _uniform_distance(statistics, layer):
    """Mean distance if all patches attended to all alike, in pixels."""
    positions, _ = statistics.layouts[layer]
    return torch.cdist(positions, positions).mean().item()


def _losses(landscape):
    """Losses in a plane (y, x): the first direction to the right."""
    losses = np.array([point['loss'] for point in landscape['plane']])
    return losses.reshape(len(landscape['side']), -1).T
