"""Count what the stages of Swin V2 need, and write docs/swinv2.yml.

    python docs/count_stages.py            # all, in minutes
    python docs/count_stages.py swinv2b    # one network

docs/write_tables.py makes the tables of docs/swinv2g.md of it. `operations`
are those of all images of a schedule; `gib` and `images` those of one GPU, for
each number of GPUs; `test` the GiB of a GPU that tests the largest image.
"""
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import yaml

from mmfd.launch import command_line
from mmfd.launch.config_options import load_config, override
from mmfd.planning.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / 'docs/swinv2.yml'
GPUS = dict(swinv2g=(8, 64, 256), swinv2b=(8, ), swinv2l=(8, ))
STAGES = ('fd/{}_fd', 'ade20k/{}_fd_ade20k', 'objects365/{}_fd_objects365',
          'coco/{}_fd_htc')
AN_UPDATE = 2048  # images of an update of FD, however many GPUs
HEAD = '# docs/count_stages.py writes this file.\n'


def count(name, gpus):
    """What a stage needs, as the planner says.

    Args:
        name (str): path of a config in configs/, without its ending.
        gpus (tuple[int]): numbers of GPUs; the schedule is that of the first.
    """
    parser = ArgumentParser()
    command_line.add_arguments(parser)
    cfg = load_config(
        parser.parse_args([str(ROOT / 'configs' / f'{name}.py')]))
    if 'model_wrapper_cfg' not in cfg:  # whose shards are in bf16
        override(cfg, {'optim_wrapper.type': 'mmfd.AmpOptimWrapper'})
    plan = Plan(cfg, gpus[0])
    run = {q.name: q.value for q in plan.totals()}
    facts = dict(operations=float(f'{run["operations"]:.4g}'))
    facts.update(images={}, gib={})
    for plan.gpus in gpus:
        images = plan.settings.batch_size
        if not plan.dense:
            images = min(images, AN_UPDATE // plan.gpus)
        *_, total = plan.memory(replace(plan.settings, batch_size=images))
        facts['images'][plan.gpus] = images
        facts['gib'][plan.gpus] = gib(total)
    if plan.dense and 'objects365' not in name:  # is not tested by itself
        *_, total = plan.test()
        facts['test'] = gib(total)
    return facts


def gib(quantity):
    return round(quantity.value / 2**30, 1)


def main():
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('networks', nargs='*', help=f'of {", ".join(GPUS)}')
    known = yaml.safe_load(FILE.read_text()) if FILE.exists() else {}
    for network in parser.parse_args().networks or GPUS:
        for stage in STAGES:
            name = stage.format(network)
            known[name] = count(name, GPUS[network])
            print(f'{name}: {known[name]}', flush=True)
            FILE.write_text(HEAD + yaml.safe_dump(known, sort_keys=False))


if __name__ == '__main__':
    main()
