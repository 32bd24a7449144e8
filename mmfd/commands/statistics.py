"""Measure mean and covariance of a teacher's tokens, for its normaliser.

    mmfd statistics configs/fd/x.py --images DIR --out tokens.safetensors

The file is for teacher.neck=dict(type='mmfd.TargetNeck', normalize='phi_s',
statistics='tokens.safetensors'), and for standardize, pca and zca.
"""
from mmfd.launch import command_line, threads


def main():
    threads.wait_briefly()  # before PyTorch is imported
    from mmfd.launch import paths
    parser = command_line.parser_of(__doc__)
    parser.add_argument('config', help='config of a distillation')
    parser.add_argument(
        '--images', required=True, metavar='DIR', help='folder of images')
    parser.add_argument(
        '--number', type=int, default=1000, help='of images (1000)')
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='file to write, .safetensors')
    parser.add_argument(
        '--branch',
        default='',
        metavar='NAME',
        help="of model.branches, whose teacher's they are, of several")
    parser.add_argument(
        '--batch-size', type=int, default=8, help='images at a time (8)')
    command_line.add_cfg_options(parser, 'the config')
    args = parser.parse_args()
    with command_line.one_message():
        paths.check([args.config], folders=[args.images])
        from mmfd.launch import terminal
        terminal.begin()
        from mmfd.analysis import target_statistics
        from mmfd.analysis.images import ImageSample
        from mmfd.launch.config_options import read_model_config
        from mmfd.targets import token_statistics
        token_statistics.check_suffix(args.out)
        cfg = read_model_config(args.config, args.cfg_options)
        images = ImageSample(args.images, args.number)
        measured = target_statistics.measure(cfg, images, args.batch_size,
                                             args.branch)
        measured.save(args.out)
        for note in images.notes():
            print(note)
        print(f'{args.out}: {measured.tokens:,} tokens of '
              f'{measured.images:,} images, {len(measured.mean)} channels, '
              f'{measured.selection}')
