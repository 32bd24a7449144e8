"""A picture of what `step.py --json FILE` has appended to a file.

    python benchmarks/picture.py benchmarks/step.json docs/images/step.png

A bar for each of those compared: the share that it reaches of the images per
second that the matrix products alone would allow, at the best rate of products
that any run with that dtype has measured. Where a comparison was run more than
once, the last one counts.
"""
import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

WORK = dict(
    vitb='ViT-B/16 from CLIP ViT-B/16',
    swinb='Swin V2-B from EsViT Swin-B',
    vitti='ViT-Ti/16 from ViT-S/16')
OURS, OTHERS = '#0072B2', '#BBBBBB'


def compared(rows):
    """(pair, dtype, batch) -> img/s of each, and the limit."""
    best, found = {}, {}
    for row in rows:
        dtype, rate = row['dtype'], row['gemm_gflop_s']
        best[dtype] = max(best.get(dtype, 0), rate)
    for row in rows:
        limit = row['limit_img_s'] * best[row['dtype']] / row['gemm_gflop_s']
        if len(row['img_s']) > 1:
            key = row['pair'], row['dtype'], row['batch']
            found[key] = row['img_s'], limit
    return found


def draw(rows):
    groups = compared(rows)
    bars = sum(len(rates) + 2 for rates, _ in groups.values())
    figure = Figure((7, 0.2 * bars + 0.6), layout='constrained')
    axis, y = figure.subplots(), 0
    names = {}
    for (pair, dtype, batch), (rates, limit) in groups.items():
        axis.text(0, y, f'{WORK[pair]}, {dtype}, batch {batch}', va='center')
        for name, (low, mid, high) in rates.items():
            y += 1
            names[y] = name
            axis.barh(
                y,
                100 * mid / limit,
                0.8,
                xerr=[[100 * (mid - low) / limit],
                      [100 * (high - mid) / limit]],
                error_kw=dict(lw=1, ecolor='#555555'),
                color=OURS if name.startswith('mmfd') else OTHERS)
            axis.text(
                1,
                y,
                f'{mid:.2f} img/s',
                va='center',
                size=7,
                color='white' if name.startswith('mmfd') else 'black')
        y += 2
    axis.set(
        yticks=[*names],
        yticklabels=[*names.values()],
        ylim=(y - 1, -1),
        xlim=(0, 105),
        xlabel='% of what the matrix products alone allow')
    axis.axvline(100, color='#555555', lw=1)
    axis.tick_params('y', length=0, labelsize=8)
    axis.spines[['top', 'right', 'left']].set_visible(False)
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('json')
    parser.add_argument('png')
    args = parser.parse_args()
    draw(json.loads(Path(args.json).read_text())).savefig(args.png, dpi=130)


if __name__ == '__main__':
    main()
