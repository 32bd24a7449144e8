"""Test a checkpoint: top-1 of a classifier, held-out loss of a distillation.

    python tools/test.py CONFIG CHECKPOINT
"""
import argparse
import os


def main():
    # CPU threads that wait in a loop starve those of a run beside this one
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from mmfd import launch
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    launch.add_arguments(parser)
    parser.add_argument('checkpoint', help='file that training wrote')
    args = parser.parse_args()
    with launch.one_message():
        cfg = launch.load_config(args)
        cfg.load_from = args.checkpoint
        launch.prepare(cfg, train=False).test()


if __name__ == '__main__':
    main()
