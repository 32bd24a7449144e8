"""What the plots of a diagnosis share: style, panels, colours and axes."""
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

# Of the networks in turn, after Okabe and Ito: those who do not see all
# colours can tell them apart
COLOURS = ('#E69F00', '#0072B2', '#009E73', '#CC79A7', '#D55E00', '#56B4E9',
           '#000000')
GREY = '#444444'
STYLE = {
    'font.size': 9,
    'axes.titlesize': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'legend.frameon': False,
    'image.cmap': 'viridis',
    'legend.fontsize': 8,
    'figure.facecolor': 'white',  # a card on a dark page
    'savefig.dpi': 200,
}
# Inches: text of 9 points has 9 pixels where a figure is shown 432 wide, as in
# a window of 500, and 15 in the 720 of a larger one
WIDTH = 6
IN_A_ROW = 2  # panels


def save(plot, diagnosis, path):
    """Draw a plot of `mmfd.analysis.plots` into a PNG file."""
    with rc_context(STYLE):
        figure = plot(diagnosis)
        figure.savefig(path, format='png')


def new_figure(height):
    """An empty figure, its height in inches."""
    return Figure(figsize=(WIDTH, height), layout='constrained')


def panels(count, height, in_a_row=IN_A_ROW, **kwargs):
    """A figure with axes side by side, two in a row of a height in inches."""
    columns = min(count, in_a_row)
    rows = -(-count // columns)
    figure = new_figure(height * rows)
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs).flatten()
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def colour_of(diagnosis, name):
    """The colour of a network, the same in all plots."""
    names = [network.name for network in diagnosis.networks]
    return COLOURS[names.index(name) % len(COLOURS)]


def with_attention(diagnosis):
    """Statistics of the networks that compute attention."""
    return [s for s in diagnosis.statistics if s.attention]


def on_depth_axis(statistics, of='attention'):
    """Statistics of each network with the positions of its layers on x.

    Layers are numbered, or in per cent of the depth if depths differ.
    """
    counts = [len(vars(s)[of]) for s in statistics]
    for stats, count in zip(statistics, counts):
        scale = 1 if len({*counts}) == 1 else 100 / max(count - 1, 1)
        yield stats, [index * scale for index in range(count)]


def curve(axis, x, values, colour, label=None, style='o-'):
    """Draw a line with a small dot at each layer."""
    axis.plot(x, values, style, ms=3, color=colour, label=label)


def label_depth(statistics, axes, of='attention'):
    """Label the x axes that `on_depth_axis` gives."""
    same = len({len(vars(s)[of]) for s in statistics}) == 1
    for axis in axes:
        axis.set_xlabel('layer' if same else 'layer, % of the depth')
        whole_numbers(axis)


def whole_numbers(axis):
    """Ticks of x at whole numbers only."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def log_scale(*axes):
    """Make y logarithmic, with plain numbers at its ticks."""
    for axis in axes:
        axis.set_yscale('log')
        low, high = axis.get_ylim()
        wide = high > 10 * low
        axis.yaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 7)))
        axis.yaxis.set_major_formatter('{x:g}')
        axis.yaxis.set_minor_formatter(NullFormatter())


def legend_without_repeats(axis, **kwargs):
    """A legend in which each label stands once."""
    handles = dict(zip(*axis.get_legend_handles_labels()[::-1]))
    axis.legend(handles.values(), handles, **kwargs)
