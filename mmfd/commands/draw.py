"""Draw what a trained classifier, segmentor or detector says of images.

    mmfd draw CONFIG CHECKPOINT photo.jpg --out DIR
    mmfd draw CONFIG CHECKPOINT FOLDER --out DIR

--out gets a picture for each image, under the same name, as .png.
"""
import sys

from mmfd.launch import command_line, threads


def main():
    threads.wait_briefly()  # before PyTorch is imported
    from mmfd.launch import paths
    parser = command_line.parser_of(__doc__)
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', help='file that training wrote')
    parser.add_argument('images', help='image, or folder of images')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder of the pictures')
    parser.add_argument(
        '--score',
        type=float,
        default=0.3,
        help='0-1, from which on objects are drawn (0.3)')
    command_line.add_cfg_options(parser, 'the config')
    args = parser.parse_args()
    with command_line.one_message():
        paths.check([args.config], [args.checkpoint], existing=[args.images])
        from mmfd.launch import terminal
        from mmfd.launch.config_options import read_model_config
        terminal.begin()
        cfg = read_model_config(args.config, args.cfg_options)
        from mmfd.launch.predictions import predict
        count, broken = predict(cfg, args.checkpoint, args.images, args.out,
                                args.score)
        for reason in broken:
            print(f'left out: {reason}', file=sys.stderr)
        print(f'{args.out}: {count} pictures')
