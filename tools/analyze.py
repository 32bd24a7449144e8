"""Look at a representation before and after distillation.

    python tools/analyze.py configs/fd/x.py CHECKPOINT --images DIR --out DIR
    python tools/analyze.py configs/fd/x.py --images DIR --out DIR
    python tools/analyze.py CONFIG CHECKPOINT CONFIG2 CHECKPOINT2 ...

The first shows teacher and student side by side, the second asks whether the
teacher is well whitened, the third compares the trained networks of any two
configs. --out gets figures, numbers.json and report.html.
"""
import argparse
import shlex
import sys

from mmfd.launch import threads

MOST = ('attention', 'tokens', 'whitening')


def main():
    threads.wait_briefly()  # before PyTorch is imported
    from mmfd.analysis.diagnosis import MEASURES
    from mmfd.launch import command_line
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        'networks',
        nargs='+',
        metavar='CONFIG [CHECKPOINT]',
        help="config and checkpoint of one or two; 'random' is a checkpoint")
    parser.add_argument(
        '--images', required=True, metavar='DIR', help='folder of images')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder of the report')
    parser.add_argument(
        '--measures',
        nargs='+',
        choices=MEASURES,
        default=MOST,
        help='all but the landscape, which takes hundreds of passes')
    parser.add_argument(
        '--count', type=int, default=1000, help='of images (1000)')
    parser.add_argument(
        '--batch-size', type=int, default=8, help='images at a time (8)')
    parser.add_argument(
        '--landscape-images', type=int, default=128, help='for a point (128)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=command_line.Options,
        default={},
        metavar='KEY=VALUE',
        help='settings that override every config')
    args = parser.parse_args()
    if len(args.networks) not in (1, 2, 4):
        parser.error('expected CONFIG, CONFIG CHECKPOINT, or two such pairs')
    with command_line.one_message():
        report = analyze(args, shlex.join(['python', *sys.argv]))
        print(f'{report}: open it in a browser')


def analyze(args, command):
    """Measure and write; the path of the report."""
    from mmfd.analysis import diagnosis, networks, report
    from mmfd.analysis.images import Images
    from mmfd.launch.config_options import override, read_config
    images = Images(args.images, args.count)
    configs = [read_config(path) for path in args.networks[::2]]
    for cfg in configs:
        override(cfg, args.cfg_options)
    if len(args.networks) == 1:
        shown = [networks.of_teacher(configs[0])]
    elif len(args.networks) == 2:
        shown = networks.of_pair(configs[0], args.networks[1])
    else:
        shown = networks.of_two(*zip(configs, args.networks[1::2]))
    measured = diagnosis.Diagnosis(shown, images, args.measures,
                                   args.batch_size, args.landscape_images)
    return report.write(measured.run(), args.out, command)


if __name__ == '__main__':
    main()
