"""Test a checkpoint by the metrics of its config.

Top-1 of a classifier, held-out loss and kNN of a distillation, mIoU of a
segmentor, AP of a detector.

    mmfd test CONFIG CHECKPOINT
"""
from mmfd.launch import command_line, threads


def main():
    threads.wait_briefly()  # before PyTorch is imported
    from mmfd.launch import config_paths, paths
    parser = command_line.parser_of(__doc__)
    command_line.add_arguments(parser)
    parser.add_argument('checkpoint', help='file that training wrote')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='every image at several scales and flipped, by the '
        'tta_pipeline\nof the config; those of ADE20K and COCO have one')
    args = parser.parse_args()
    with command_line.one_message():
        paths.check([args.config], [args.checkpoint], args.data_root or ())
        config_paths.check(
            args.config,
            args.cfg_options,
            loops=() if args.data_root else ('test', ))
        from mmfd.launch import terminal
        from mmfd.launch.config_options import load_config
        from mmfd.launch.runner import augment, prepare
        if not args.verbose:
            terminal.begin()
        cfg = load_config(args)
        cfg.load_from = args.checkpoint
        if args.tta:
            augment(cfg)
        prepare(cfg, False, args.verbose).test()
