"""A report in one HTML file: plots, and how to read them."""
import base64
import html
import json
from pathlib import Path
from typing import Callable, NamedTuple

from mmfd import __version__, files
from mmfd.analysis import plot_parts, plots, whitening
from mmfd.errors import Refused


class ReportSection(NamedTuple):
    """A plot of the report, with its text.

    Attributes:
        plot: function of `mmfd.analysis.plots`.
        needs: what a diagnosis must have: `attention`, `layers`, `advice` or
            `landscapes`.
        title: what it shows.
        read: how to read it.
        paper: what the FD paper, or another, says about it.
    """
    plot: Callable
    needs: str
    title: str
    read: str
    paper: str


SECTIONS = [
    ReportSection(
        plots.attention_distance, 'attention', 'How far heads look',
        'Each dot is a head: the distance between a patch and what it attends '
        'to, weighted by attention and averaged over patches and images. '
        'Heads at different heights look near and far; heads in one narrow '
        'band near the dashed line all look everywhere alike.',
        'FD, figure 2: before distillation the heads of the last layers of '
        'DINO, DeiT and CLIP collapse into such a band; after it they are '
        'spread from local to global in every layer.'),
    ReportSection(
        plots.heads, 'attention', 'How different heads are',
        'Left, the cosine between the attention maps of two heads of a layer, '
        'averaged over pairs and images: 1 is heads that do the same. Middle, '
        'the divergence of their rows: 0 is the same again. Right, the '
        'entropy of each head: low looks at few patches, the dashed line at '
        'all.', 'FD, figure 3: heads of deep layers are much less alike after '
        'distillation. Divergence and entropy follow Xie et al. '
        '(arXiv 2205.13543), who find them collapsed in the last layers of '
        'supervised and contrastive networks.'),
    ReportSection(
        plots.average_maps, 'attention', 'Where attention goes on average',
        'Rows are querying patches, columns the patches they attend to, both '
        'row by row through the image; bright is much. Diagonals are '
        'attention by relative offset, vertical stripes attention to fixed '
        'places.',
        'FD, figure 4: after distillation there are more diagonals and fewer '
        'stripes, so the network treats a shifted image more alike.'),
    ReportSection(
        plots.shares, 'attention', 'By offset, or by place',
        'The share of the variance of each map above that offset, or key '
        'position, explains; adjusted so that both explain nothing of noise. '
        'They need not add up to 100 %.',
        "This puts a number on FD's figure 4: the left curve should rise with "
        'distillation, the right one fall.'),
    ReportSection(
        plots.cka, 'layers', 'Which layers compute alike',
        'Linear CKA between what layers give for the same regions of the '
        'same images: 1 is the same up to rotation and scale. The last row '
        'and column are the output, behind the final norm. A bright block is '
        'a run of layers that change little.',
        'Not in the FD paper; Xie et al. find layers of supervised networks '
        'less alike (0.5 to 1) than those of contrastive and of masked '
        'modelling (0.9 to 1). Between teacher and student, the last layers '
        'should agree: that is what is distilled.'),
    ReportSection(
        plots.ranks, 'layers', 'How many directions are used',
        'Singular values of the centred patch tokens, and the effective rank '
        'they amount to (the exponential of their entropy). A curve that '
        'falls early is a representation in few directions.',
        "Not in the FD paper. Whitening gives each token's channels equal "
        'scale, not equal directions, so the student inherits much of the '
        "teacher's spectrum; a rank near zero is a collapse."),
    ReportSection(
        plots.norms, 'layers', 'How long tokens are, how loud channels',
        'Left, the mean length of patch and cls tokens. Right, the root mean '
        'square of the loudest channel over that of the median channel; above '
        'the dashed line it is an outlier.',
        'Not in the FD paper. Scales differ by orders of magnitude between '
        'teachers, which is why FD whitens its target.'),
    ReportSection(
        plots.colours, 'layers', 'What patches mean',
        'The first three principal components of the last patch tokens, over '
        'these images, as red, green and blue. Patches of one colour are '
        'alike to the network. Colours cannot be compared between rows.',
        'Not in the FD paper. A good student draws the same borders as its '
        'teacher.'),
    ReportSection(
        plots.whitened, 'advice', 'Is the teacher well whitened?',
        'Above, the share of the loss that each channel of the target gets, '
        'by choice of normaliser: flat is even. Below, how many of the '
        'channels and tokens the loss effectively looks at.',
        'FD compares targets in an ablation and finds its whitening best: '
        'features of different teachers differ in scale by orders of '
        'magnitude, and one loss and learning rate are to suit them all.'),
    ReportSection(
        plots.line, 'landscapes', 'How flat the loss is',
        'Weights are moved along random directions in which every filter is '
        'as long as its weights (Li et al., arXiv 1712.09913): thin lines are '
        'directions, thick ones their mean. Flat around 0 is good.',
        'FD, figure 5: after distillation and fine-tuning, loss and accuracy '
        'are flatter for most teachers.'),
    ReportSection(
        plots.plane, 'landscapes', 'The loss in two directions',
        'The same in the plane of two random directions; the cross is where '
        'training ended. Wide contours are flat.',
        'FD, figure 5: basins are wider after distillation.'),
]

STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 3rem auto; padding: 0 1.5rem;
  font: 1.05rem/1.55 Georgia, 'Times New Roman', serif;
  color: light-dark(#222, #ddd); background: light-dark(#fff, #1b1b1b); }
h1 { font-size: 1.9rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .3rem; }
figure { margin: 1rem 0 0; }
img { width: 100%; max-width: 45rem; height: auto; border-radius: 4px; }
figcaption p { margin: .5rem 0; max-width: 46rem; }
.paper { color: light-dark(#555, #aaa); font-style: italic; }
.note { border-left: 3px solid #D55E00; padding-left: .8rem; }
.advice { border-left: 3px solid #0072B2; padding-left: .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: right; padding: .2rem .7rem; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:first-child th { border-bottom: 1px solid #999; }
code { font-size: .88em; overflow-wrap: anywhere; }
"""


def check_folder(folder):
    """Make the folder of a report, before its long measurements.

    Raises:
        Refused: if a report cannot be written there.
    """
    files.make_folder(folder)
    for name in ('report.html', 'numbers.json',
                 *(f'{section.plot.__name__}.png' for section in SECTIONS)):
        if Path(folder, name).is_dir():
            raise Refused(f'{Path(folder, name)} is a folder, where a file is '
                          'to be written: name another --out')


def write(diagnosis, folder, command):
    """Write plots, `numbers.json` and `report.html` into a folder.

    Args:
        diagnosis (Diagnosis): after its `run`.
        folder (str): as `check_folder` leaves it.
        command (str): that made the report, for its reader to repeat.

    Returns:
        Path: of the report.

    Raises:
        Refused: if the folder cannot be written.
    """
    folder = Path(folder)
    parts = []
    for section in SECTIONS:
        if _has(diagnosis, section.needs):
            with files.output_file(folder /
                                   f'{section.plot.__name__}.png') as path:
                plot_parts.save(section.plot, diagnosis, path)
                png = path.read_bytes()
            parts.append(_section(section, png, diagnosis))
    with files.output_file(folder / 'numbers.json') as path:
        path.write_text(json.dumps(diagnosis.numbers(), indent=1))
    with files.output_file(folder / 'report.html') as path:
        path.write_text(
            _page(diagnosis, parts, command),
            encoding='utf-8',
            errors='backslashreplace')  # names of files may be no text
    return folder / 'report.html'


def _has(diagnosis, needs):
    return {
        'attention':
        any(s.attention for s in diagnosis.statistics),
        'layers':
        'tokens' in diagnosis.wanted and bool(diagnosis.statistics)
        and all(s.tokens for s in diagnosis.statistics),
        'advice':
        bool(diagnosis.advice),
        'landscapes':
        bool(diagnosis.landscapes),
    }[needs]


def _section(section, png, diagnosis):
    data = base64.b64encode(png).decode()
    extra = ''
    if section.needs == 'advice':
        extra = _shares(diagnosis.shares) + ''.join(
            f'<h3>{html.escape(name)}</h3>{_advice(advice)}'
            for name, advice in diagnosis.advice.items())
    return (f'<section><h2>{html.escape(section.title)}</h2><figure>'
            f'<img alt="{html.escape(section.title)}" '
            f'src="data:image/png;base64,{data}"><figcaption>'
            f'<p>{html.escape(section.read)}</p>'
            f'<p class="paper">{html.escape(section.paper)}</p>'
            f'</figcaption></figure>{extra}</section>')


ROWS = dict(  # of the table on whitening
    rms='root mean square',
    linear_share="share beyond smooth-L1's 2",
    token_norm_variation='variation of token lengths',
    cls_over_patch_norm='cls / patch length',
    largest_channel_over_median='largest / median channel',
    largest_channel_share='largest channel, share of the loss',
    artifact_loss_share='artifact patches, share of the loss',
    faint_share='faintest 1 % of the variance, share of the loss',
    effective_rank='effective rank',
    even='evenness, channels x tokens',
    score='evenness without the faintest')


def _shares(shares):
    """How much of the loss each of several teachers gets."""
    if not shares:
        return ''
    rows = ''.join(
        f'<tr><td>{html.escape(name)}</td><td>{one["loss"]:.3g}</td>'
        f'<td>{one["weight"]:g}</td><td>{one["share"]:.0%}</td></tr>'
        for name, one in shares.items())
    return (
        '<p>What each teacher gets of the loss of a student that predicts '
        'the mean of each position, by the weights of the branches. The '
        'balance of the config works on these losses.</p>'
        '<div class="scroll"><table><tr><th></th><th>loss</th><th>weight</th>'
        f'<th>share</th></tr>{rows}</table></div>')


def _advice(advice):
    names = [*advice['choices']]
    head = ''.join(f'<th>{html.escape(whitening.TITLES[n])}</th>'
                   for n in names)
    rows = ''.join(
        f'<tr><td>{html.escape(title)}</td>' +
        ''.join(f'<td>{round(advice["choices"][n][key], 5):.3g}</td>'
                for n in names) + '</tr>' for key, title in ROWS.items()
        if key in advice['choices'][names[0]])
    outliers = ''.join(
        f'<td>{len(advice["choices"][n]["outlier_channels"])}</td>'
        for n in names)
    return (f'<p class="advice"><strong>Recommended: '
            f'{html.escape(whitening.TITLES[advice["recommended"]])}.</strong>'
            f' {html.escape(advice["reason"])}</p><div class="scroll"><table>'
            f'<tr><th></th>{head}</tr>{rows}<tr><td>outlier channels</td>'
            f'{outliers}</tr></table></div>')


def _page(diagnosis, parts, command):
    names = ' and '.join(network.name for network in diagnosis.networks)
    notes = ''.join(f'<p class="note">{html.escape(note)}</p>'
                    for note in diagnosis.notes())
    images = max([s.images for s in diagnosis.statistics], default=0)
    seen = f'{images:,} images of' if images else 'Images of'
    points = ('Every point of a landscape is '
              f'{len(diagnosis.landscape_sample.infos):,} images. '
              if diagnosis.landscapes else '')
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{html.escape(names)}</title><style>{STYLE}</style></head>'
        f'<body><h1>What {html.escape(names)} see</h1>'
        f'<p>{seen} <code>{html.escape(str(diagnosis.images.root))}</code>. '
        f'Made by mmfd {__version__} with</p>'
        f'<p><code>{html.escape(command)}</code></p>'
        f'<p>{points}Attention distance is over patches alone, with rows '
        'that sum to one without the cls token; all other measures of '
        'attention take the cls token in. Every number is in '
        '<code>numbers.json</code>, the distance with the cls token too. FD '
        'is Feature Distillation (Wei et al., arXiv 2205.14141), whose '
        'figures are these.</p>'
        f'{notes}{"".join(parts)}</body></html>')
