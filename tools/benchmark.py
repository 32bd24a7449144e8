"""Plan a run before it has its GPUs: parameters, memory, time, disk.

    python tools/benchmark.py configs/fd/swinv2g_fd.py --plan --gpus 32 \\
        --memory 80 --tflops 200
"""
import argparse
import json


def main():
    from mmfd import launch
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    launch.add_arguments(parser)
    parser.add_argument(
        '--plan',
        action='store_true',
        required=True,
        help='count, run nothing')
    parser.add_argument('--gpus', type=int, default=1, help='how many')
    parser.add_argument('--memory', type=float, help='GiB of each GPU')
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        '--throughput', type=float, help='images/s of a GPU, as measured')
    speed.add_argument(
        '--tflops', type=float, help='10^12 operations/s that a GPU sustains')
    parser.add_argument('--json', metavar='FILE', help='the figures')
    args = parser.parse_args()
    with launch.one_message():
        from mmfd import plan
        counted = plan.Plan(launch.load_config(args), args.gpus)
        sections = {
            'parameters': counted.parameters(),
            'operations for an image': counted.operations(),
            'memory of a GPU': counted.memory(counted.setting),
            'activations of a GPU': counted.activations(),
            'run': counted.time(args.throughput, args.tflops),
        }
        sections = {title: [*found] for title, found in sections.items()}
        for title, figures in sections.items():
            print('\n'.join(plan.table(title, figures)))
        if args.memory:
            print('\n' + plan.verdict(counted, args.memory))
        if args.json:
            with open(args.json, 'w') as file:
                json.dump(
                    {
                        title: [vars(figure) for figure in figures]
                        for title, figures in sections.items()
                    }, file)


if __name__ == '__main__':
    main()
