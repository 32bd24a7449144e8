"""Report what distillation did to the features of a network.

    mmfd analyze configs/fd/x.py CHECKPOINT --images DIR --out DIR
    mmfd analyze configs/fd/x.py --images DIR --out DIR
    mmfd analyze CONFIG CHECKPOINT CONFIG2 CHECKPOINT2 ...

The first shows teacher and student side by side, the second says which
normalisation suits a teacher, the third compares the trained networks of any
two configs. --out gets report.html, its plots and numbers.json.
"""
import shlex
import sys

from mmfd.launch import command_line, threads

DEFAULT = 'attention', 'tokens', 'whitening'
MEASURES = *DEFAULT, 'landscape'


def main():
    threads.wait_briefly()  # before PyTorch is imported
    from mmfd.launch import paths
    from mmfd.weights.weight_files import RANDOM
    parser = command_line.parser_of(__doc__)
    parser.add_argument(
        'networks',
        nargs='+',
        metavar='CONFIG [CHECKPOINT]',
        help="one or two; the checkpoint 'random' stands for no training")
    parser.add_argument(
        '--images', required=True, metavar='DIR', help='folder of images')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder of the report')
    parser.add_argument(
        '--measures',
        nargs='+',
        choices=MEASURES,
        default=DEFAULT,
        help='all but the landscape, which takes hundreds of passes')
    parser.add_argument(
        '--count', type=int, default=1000, help='of images (1000)')
    parser.add_argument(
        '--batch-size', type=int, default=8, help='images at a time (8)')
    parser.add_argument(
        '--landscape-images', type=int, default=128, help='for a point (128)')
    command_line.add_cfg_options(parser, 'every config')
    args = parser.parse_args()
    if len(args.networks) not in (1, 2, 4):
        parser.error('expected CONFIG, CONFIG CHECKPOINT, or two such pairs')
    with command_line.one_message():
        files = [path for path in args.networks[1::2] if path != RANDOM]
        paths.check(args.networks[::2], files, [args.images])
        report = analyze(args, shlex.join(['mmfd', 'analyze', *sys.argv[1:]]))
        print(f'{report}: open it in a browser')


def analyze(args, command):
    """Measure and write a report; its path."""
    from mmfd.launch import terminal
    terminal.begin()
    from mmfd.analysis import load_networks, report
    from mmfd.analysis.diagnosis import Diagnosis
    from mmfd.analysis.images import ImageSample
    from mmfd.launch.config_options import read_model_config
    from mmfd.launch.failed_start import traces_removed
    configs = [
        read_model_config(path, args.cfg_options)
        for path in args.networks[::2]
    ]
    images = ImageSample(args.images, args.count)
    if len(args.networks) == 1:
        networks = load_networks.load_teachers(configs[0])
    elif len(args.networks) == 2:
        networks = load_networks.load_pair(configs[0], args.networks[1])
    else:
        networks = load_networks.load_two(*zip(configs, args.networks[1::2]))
    diagnosis = Diagnosis(networks, images, args.measures, args.batch_size,
                          args.landscape_images)
    with traces_removed(args.out):
        report.check_folder(args.out)
        return report.write(diagnosis.run(), args.out, command)
