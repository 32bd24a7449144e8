"""Count the operations of the recipes, and write them into the metafiles.

    python docs/count_operations.py

`Operations of an Image` are those of a training step, teacher and backward
included, on one image. docs/write_tables.py makes hours of them. Distillations
and classifiers alone are counted.
"""
import re
from argparse import ArgumentParser
from pathlib import Path

import yaml

from mmfd.launch import command_line
from mmfd.launch.config_options import load_config
from mmfd.planning.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = 'fd', 'classification'
KEY = 'Operations of an Image'


def operations(config):
    """Floating-point operations of a training step, for each of its images.

    Args:
        config (str): path of a distillation's or classifier's config.
    """
    parser = ArgumentParser()
    command_line.add_arguments(parser)
    cfg = load_config(parser.parse_args([str(config)]))
    return round(sum(part.value for part in Plan(cfg, 1).operations()))


def main():
    for folder in FOLDERS:
        path = ROOT / 'configs' / folder / 'metafile.yml'
        text = re.sub(f'      {KEY}: .*\n', '', path.read_text())
        for model in yaml.safe_load(text)['Models']:
            count = operations(ROOT / model['Config'])
            print(f'{model["Name"]}: {count:.4g}', flush=True)
            entry = rf'(  - Name: {model["Name"]}\n(?:.*\n)*?' \
                    r'      Parameters: .*\n)'
            text = re.sub(entry, rf'\1      {KEY}: {count}\n', text, count=1)
        path.write_text(text)


if __name__ == '__main__':
    main()
