"""Options that the commands share which choose the rest of a run."""
from argparse import BooleanOptionalAction


def add_options(parser):
    """Add them.

    Args:
        parser (ArgumentParser): changed in place.
    """
    parser.add_argument(
        '--data',
        nargs='+',
        required=True,
        metavar='DIR',
        help='folders of images')
    parser.add_argument('--out', metavar='DIR', help='folder of the run')
    parser.add_argument(
        '--epochs', type=int, help='how often each image is seen')
    parser.add_argument('--batch-size', type=int, help='images of an update')
    parser.add_argument(
        '--lr', type=float, help='highest learning rate, of such a batch')
    parser.add_argument(
        '--amp',
        action=BooleanOptionalAction,
        help='mixed precision; where there is a GPU, unless told')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on from the last checkpoint in --out')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='ten iterations, then ETA, memory and what looks wrong')
    parser.add_argument(
        '--verbose', action='store_true', help='print the whole log')
