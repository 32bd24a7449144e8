"""Train what a config describes: a distillation, a fine-tuning.

    mmfd train configs/fd/clip_vitl_fd.py
"""
from mmfd.launch import command_line, threads


def main():
    threads.wait_briefly()  # before PyTorch is imported
    from mmfd.launch import config_paths, paths
    parser = command_line.parser_of(__doc__)
    command_line.add_arguments(parser)
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision on any device')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the last of the work dir')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='ten iterations, then ETA, memory and what looks wrong')
    args = parser.parse_args()
    with command_line.one_message():
        given = args.resume not in (None, 'auto')
        paths.check([args.config], [args.resume] * given, args.data_root or ())
        config_paths.check(
            args.config,
            args.cfg_options,
            loops=() if args.data_root else ('train', 'val'),
            begins=args.resume is None)
        from mmfd.launch import terminal
        from mmfd.launch.checks import resume_checks
        from mmfd.launch.config_options import load_config, override
        from mmfd.launch.runner import dry_run, train
        if not args.verbose:
            terminal.begin()
        cfg = load_config(args)
        if args.amp:
            override(cfg, {'optim_wrapper.type': 'mmfd.AmpOptimWrapper'})
        if args.resume is not None:
            resume_checks.go_on(cfg, args.resume)
        if args.dry_run:
            dry_run(cfg, args.verbose)
        else:
            train(cfg, args.verbose)
