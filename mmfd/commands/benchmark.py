"""Measure a run on this machine: img/s, share of the limit, phases, memory.

    mmfd benchmark configs/fd/clip_vitb_fd.py --data-root DIR

It trains for some rounds and leaves nothing behind. With --plan it trains
nothing, and counts what a run needs: parameters, operations, memory, time,
disk, what its machines read, decode and send, and whether a teacher is cheaper
live or from a cache.

    mmfd benchmark configs/fd/swinv2g_fd.py --plan --gpus 32 \\
        --memory 80 --tflops 200 --nodes 4 --link 200 --cores 96
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

from mmfd import files
from mmfd.errors import Refused
from mmfd.launch import command_line, threads

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'


def positive(text):
    """A number of the command line that has to be above 0 and finite."""
    value = float(text)
    if not 0 < value < float('inf'):
        raise ValueError
    return value


def main():
    threads.wait_briefly()  # before PyTorch is imported
    from mmfd.launch import paths
    parser = command_line.parser_of(__doc__)
    command_line.add_arguments(parser)
    parser.add_argument(
        '--amp', action='store_true', help='in mixed precision')
    parser.add_argument(
        '--rounds',
        type=int,
        default=5,
        help='times that everything is measured (5)')
    parser.add_argument(
        '--length', type=int, default=5, help='iterations of a round (5)')
    parser.add_argument(
        '--peers',
        nargs=argparse.REMAINDER,
        metavar='ARGS',
        help='then benchmarks/loader.py on these images, and '
        'benchmarks/step.py\nwith the rest of the line, if there is any')
    parser.add_argument(
        '--plan', action='store_true', help='count, train nothing')
    parser.add_argument('--json', metavar='FILE', help='write the numbers')
    planning = parser.add_argument_group('with --plan')
    speed = planning.add_mutually_exclusive_group()
    of_plans = [
        planning.add_argument(
            '--gpus', type=int, default=1, help='how many (1)'),
        planning.add_argument(
            '--memory', type=positive, help='GiB of each GPU'),
        speed.add_argument(
            '--throughput',
            type=positive,
            help='images/s of a GPU, as measured'),
        speed.add_argument(
            '--tflops',
            type=positive,
            help='10^12 operations/s that a GPU sustains'),
        planning.add_argument(
            '--nodes', type=int, default=1, help='machines with them (1)'),
        planning.add_argument(
            '--cores', type=positive, help='of a machine, for its loaders'),
        planning.add_argument(
            '--link',
            type=positive,
            metavar='GBIT',
            help='10^9 bits/s that a machine sends'),
        planning.add_argument(
            '--storage',
            type=positive,
            metavar='GB',
            help='10^9 bytes/s that all machines read together'),
        planning.add_argument(
            '--cache',
            metavar='DIR',
            help='where a teacher cache would be: is it cheaper?'),
        planning.add_argument(
            '--store',
            choices=['bfloat16', 'int8'],
            default='bfloat16',
            help='precision of the cache')
    ]
    args = parser.parse_args()
    for option in of_plans:
        if not args.plan and getattr(args, option.dest) != option.default:
            parser.error(f'{option.option_strings[0]} is for --plan')
    with command_line.one_message():
        paths.check([args.config], folders=args.data_root or ())
        from mmfd.launch.checks import config_checks
        from mmfd.launch.config_options import load_config, override
        cfg = load_config(args)
        config_checks.check_sections(cfg, train=True)
        config_checks.check_model(cfg)
        scope = cfg.get('default_scope') or 'mmengine'
        if scope != 'mmpretrain' and not args.plan:
            raise Refused(
                f'{args.config} trains a model of {scope}; '
                'distillations and classifiers are measured here. --plan '
                f'counts it, mmfd train {args.config} --dry-run times it')
        if args.amp:
            override(cfg, {'optim_wrapper.type': 'mmfd.AmpOptimWrapper'})
        sections, sentences = (plan_run if args.plan else measure_run)(cfg,
                                                                       args)
        show(sections, sentences, args.json)
        if args.peers is not None:
            compare(cfg.train_dataloader.dataset.data_root, args.peers)


def measure_run(cfg, args):
    """Sections of quantities, and no sentence."""
    from mmfd.launch.runner import prepare
    from mmfd.planning.measure import measure
    return measure(cfg, prepare, args.rounds, args.length), []


def plan_run(cfg, args):
    """Sections of quantities, and sentences of advice."""
    from mmfd.launch.failed_start import build_errors_refused
    from mmfd.planning.cluster import Machines, demands, limit
    from mmfd.planning.plan import Plan, advise, advise_test
    with build_errors_refused():
        plan, sentences = Plan(cfg, args.gpus), []
    sections = {
        'parameters': plan.parameters(),
        'operations for an image': plan.operations(),
        'memory of a GPU': plan.memory(plan.settings),
        'activations of a GPU': plan.activations(),
        'run': plan.totals(args.throughput, args.tflops),
    }
    if plan.dense:
        sections['test of an image'] = [*plan.test()]
    throughput = plan.throughput(args.throughput, args.tflops)
    machines = Machines(args.nodes, args.cores, args.link, args.storage)
    if throughput:
        sections['machines'] = demands(plan, machines, throughput)
        if machines != Machines(args.nodes):
            sentences.append(limit(sections['machines'], machines))
    elif machines != Machines():
        raise Refused('--nodes, --cores, --link and --storage are compared '
                      'with what the GPUs do in a second: add --throughput or '
                      '--tflops')
    if args.memory:
        sentences.append(advise(plan, args.memory))
        if plan.dense:
            sentences.append(
                advise_test(sections['test of an image'], args.memory))
    if args.cache:
        from mmfd.planning import measure
        teacher = [
            *measure.live_and_cached_teacher(plan, args.cache, args.store,
                                             args.throughput, args.tflops)
        ]
        sections['teacher, live or cached'] = teacher
        sentences.append(measure.live_or_cached_advice(teacher))
    return sections, sentences


def compare(data_root, step):
    """Run the comparisons with other code, each in a process of its own.

    Args:
        step (list[str]): arguments of benchmarks/step.py, which is left out
            if there are none.
    """
    runs = [('loader.py', data_root)] + [('step.py', *step)] * bool(step)
    for script, *options in runs:
        if not (BENCHMARKS / script).exists():
            raise Refused(f'--peers: no {BENCHMARKS / script}; the '
                          'comparisons are in the repository alone')
        print(f'\n{script}', flush=True)
        subprocess.run([sys.executable, BENCHMARKS / script, *options],
                       check=True)


def show(sections, sentences, path):
    """Print, and write the quantities to a JSON file if there is a path."""
    from mmfd.planning.quantities import table
    sections = {title: [*section] for title, section in sections.items()}
    for title, section in sections.items():
        print('\n'.join(table(title, section)))
    for sentence in sentences:
        print('\n' + sentence)
    if path:
        with files.output_file(path) as file:
            file.write_text(
                json.dumps({
                    title: [vars(quantity) for quantity in section]
                    for title, section in sections.items()
                }))
