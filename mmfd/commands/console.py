"""Feature Distillation: a student learns the whitened tokens of a teacher.

    mmfd COMMAND --help
"""
import argparse
import importlib
import sys

import mmfd

COMMANDS = ('distill', 'finetune', 'predict', 'train', 'test', 'draw',
            'convert', 'export', 'statistics', 'analyze', 'benchmark')


def main():
    """Run the command that the first argument names."""
    parser = argparse.ArgumentParser(
        prog='mmfd',
        description=__doc__,
        epilog='commands:\n' + '\n'.join(f'  {name:<10} {_first_line(name)}'
                                         for name in COMMANDS),
        formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        '--version', action='version', version=mmfd.__version__)
    hidden = dict(help=argparse.SUPPRESS)
    parser.add_argument(
        'command', choices=COMMANDS, metavar='COMMAND', **hidden)
    parser.add_argument(
        'arguments', nargs=argparse.REMAINDER, metavar='...', **hidden)
    args = parser.parse_args()
    # the name that its own parser shows in `usage`
    sys.argv = [f'mmfd {args.command}', *args.arguments]
    _module(args.command).main()


def _module(name):
    return importlib.import_module(f'mmfd.commands.{name}')


def _first_line(name):
    return _module(name).__doc__.splitlines()[0]
