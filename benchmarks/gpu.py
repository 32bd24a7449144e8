"""Ten minutes on a GPU: is mmfd right there, and how fast? Paste the table.

    python benchmarks/gpu.py --json gpu.json

Networks of full size with random weights, on noise: neither images nor
checkpoints are needed. A section that fails is a row of the table, not the
end. `--small` tries the sections on a CPU, with small networks; its numbers
mean nothing.
"""
import argparse
import json
import logging
import sys
import time
import traceback

import torch

from mmfd import files
from mmfd.errors import Refused
from mmfd.launch import command_line

SECTIONS = ('machine', 'attention', 'waiting', 'numbers', 'learning',
            'resuming', 'speed', 'kernels')


def rows(section, place, until):
    """(section, what, value, bound, whether it holds), of a section."""
    start = time.perf_counter()
    try:
        for what, value, bound in section(place):
            holds = None if bound is None else bool(value <= bound)
            yield section.__name__, what, value, bound, holds
            if time.perf_counter() > until:
                yield section.__name__, 'no time left', '', None, None
                return
    except Exception as error:
        traceback.print_exc()
        text = f'{type(error).__name__}: {error}'.partition('\n')[0]
        yield section.__name__, 'ended by', text, None, False
    seconds = time.perf_counter() - start
    yield section.__name__, 'seconds', seconds, None, None


def line(section, what, value, bound, holds):
    value = f'{value:.4g}' if isinstance(value, float) else value
    bound = '' if bound is None else f'<= {bound:g}'
    verdict = {None: '', True: 'holds', False: 'FAILS'}[holds]
    return f'{section:10} {what:60} {value!s:>14} {bound:9} {verdict}'.rstrip()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        '--only', nargs='+', choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        '--minutes', type=float, default=10, help='after which it ends (10)')
    parser.add_argument('--small', action='store_true', help='on a CPU')
    parser.add_argument('--json', metavar='FILE', help='write the table')
    args = parser.parse_args()
    with command_line.one_message():
        if not args.small and not torch.cuda.is_available():
            raise Refused('PyTorch sees no GPU, and this check is of one; '
                          '--small tries it on a CPU')
        logging.disable(logging.WARNING)
        check(args)


def check(args):
    """Print the table; exit with 1 if something in it does not hold."""
    import gpu_sections
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32
    place = gpu_sections.Place('cpu' if args.small else 'cuda', args.small)
    until = time.perf_counter() + 60 * args.minutes
    table = []
    for name in args.only:
        section = getattr(gpu_sections, name)
        for row in rows(section, place, until):
            print(line(*row), flush=True)
            table.append(row)
    if args.json:
        with files.output_file(args.json) as file:
            file.write_text(json.dumps(table, indent=1))
    failed = sum(holds is False for *_, holds in table)
    print(f'{failed} of these do not hold' if failed else 'all holds')
    sys.exit(failed > 0)


if __name__ == '__main__':
    main()
