"""Write the tables of the README files from the metafiles and the configs.

    python docs/write_tables.py            # writes them
    python docs/write_tables.py --check    # fails where one is not current

In a README file a table stands between two lines that are kept:

    <!-- table: NAME -->
    <!-- end -->

NAME is a key of TABLES. Each of these functions takes the models of the
metafiles and gives head and rows. Links are paths from the repository's root.
"""
import argparse
import os
import re
from pathlib import Path

import yaml
from mmengine.config import Config

from mmfd.networks import timm_network
from mmfd.planning.training_images import IMAGENET_IMAGES
from mmfd.weights.published import PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
READMES = [
    ROOT / 'README.md',
    *sorted(ROOT.glob('configs/*/README.md')),
    ROOT / 'configs/fd/ablations/README.md',
    ROOT / 'configs/fd/by_name/README.md',
    ROOT / 'docs/teachers.md',
    ROOT / 'docs/gpu.md',
    ROOT / 'docs/swinv2g.md',
]
PLACE = re.compile(r'(<!-- table: (\w+) -->\n\n).*?(\n<!-- end -->)', re.S)
NOTHING = '-'
GPUS = dict(A100=312, H100=989, B200=2250)  # dense bf16 TFLOP/s, as published
USED, TOGETHER = 1 / 3, 8  # share of these that is assumed; GPUs of a run
HOURS = f'hours on {TOGETHER} H100, counted'


def read_metafiles():
    """{name: model} of all metafiles, in their order."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    return {
        model['Name']: model
        for path in index['Import']
        for model in yaml.safe_load((ROOT / path).read_text())['Models']
    }


def of_folder(models, folder):
    return [x for x in models.values() if folder in Path(x['Config']).parts]


def before_and_after(models, folder):
    """(config before FD or None, config after it) for each student."""
    return [(models.get(after['Name'].replace('_fd', '')), after)
            for after in of_folder(models, folder) if '_fd' in after['Name']]


def fact(model, key):
    value = model['Metadata'][key]
    return f'{value:,}' if isinstance(value, int) else value


def size(model):
    millions = model['Metadata']['Parameters'] / 1e6
    return f'{millions:.1f} M' if millions < 1e3 else f'{millions / 1e3:.1f} B'


def result(model, place=0):
    """The first of a model's published metrics, or another one."""
    results = model.get('Results') if model else None
    figures = [*results[0]['Metrics'].values()] if results else []
    return str(figures[place]) if place < len(figures) else NOTHING


def link(model, text=None):
    if not model:
        return NOTHING
    return f'[{text or Path(model["Config"]).name}]({model["Config"]})'


def sides(before, after):
    return [link(before), result(before), link(after), result(after)]


def official(model):
    address = model['Metadata'].get('Official Weights')
    return f'[weights]({address})' if address else NOTHING


def operations(model):
    """Of a whole run; the metafile has what docs/count_operations.py counts.

    They are those of a training step on one image.
    """
    facts = model['Metadata']
    images = facts.get('Images of an Epoch', IMAGENET_IMAGES)
    return facts['Operations of an Image'] * images * facts['Epochs']


def hours(model, gpu='H100'):
    """That a run would take by its operations; nobody has measured it."""
    return _hours_on(operations(model), TOGETHER, gpu)


def _hours_on(count, gpus, gpu='H100'):
    seconds = count / (GPUS[gpu] * 1e12 * USED * gpus)
    return f'{seconds / 3600:,.{seconds < 36000:d}f}'


# --- README.md ---


def imagenet(models):
    rows = []
    for before, after in before_and_after(models, 'classification'):
        if result(after) == NOTHING or after['Name'].endswith('_linear'):
            continue
        chain = [after]  # from the result back to the distillation
        while 'fd' not in Path(chain[-1]['Config']).parts:
            chain += [
                x for x in models.values()
                if chain[-1]['Name'] in x.get('Downstream', ())
            ]
        links = [link(after, 'student')]
        links += [link(x, 'ImageNet-22K') for x in chain[1:-1]]
        links += [link(before, 'before')] if before else []
        rows.append([
            fact(after, 'Network'),
            result(before), f'**{result(after)}**',
            link(chain[-1], 'config'), ', '.join(links)
        ])
    return ('ImageNet-1K top-1, fine-tuned', 'before', 'after FD', 'distil',
            'fine-tune'), rows


def dense_tasks(models):
    rows = []
    for folder in 'ade20k', 'coco':
        for before, after in before_and_after(models, folder):
            if result(after) != NOTHING:
                results = after['Results'][0]
                metric = next(iter(results['Metrics'])).partition(' (')[0]
                rows.append([
                    f'{results["Dataset"]} {metric}, {fact(after, "Network")}',
                    result(before), f'**{result(after)}**',
                    f'{link(after, "student")}, {link(before, "before")}'
                ])
    return ('downstream', 'before', 'after FD', 'train'), rows


# --- configs/fd ---


def students(models):

    def change(student, folder):
        """Figures of the task that begins with this student."""
        for before, after in before_and_after(models, folder):
            if before and after['Name'].startswith(f'{student["Name"]}_'):
                return f'{result(before)} -> {result(after)}'
        return NOTHING

    rows = [[
        link(x),
        fact(x, 'Teacher'), f'{fact(x, "Student")}, {size(x)}',
        fact(x, 'Epochs'),
        hours(x),
        change(x, 'classification'),
        change(x, 'ade20k'),
        official(x)
    ] for x in of_folder(models, 'fd')]
    return ('config', 'teacher', 'student', 'epochs', HOURS,
            'ImageNet-1K top-1, before -> after',
            'ADE20K mIoU, before -> after', 'official student'), rows


def teachers(models):
    """What is published for each teacher's config, by its own command."""
    rows = []
    for path in sorted(ROOT.glob('configs/_base_/teachers/*.py')):
        name = re.match(r'"""(.+?)( as teacher| \(|,)', path.read_text())[1]
        *_, url, converted = Config.fromfile(path).teacher.source.split()
        for file in PUBLISHED:
            if file.url == url:
                rows.append([
                    f'[{name}]({path.relative_to(ROOT)})', f'`{file.kind}`',
                    f'[{file.file}]({url})', file.licence, file.sha256
                    or 'not published', f'`{converted}`'
                ])
    return ('teacher', 'kind', 'file', 'licence',
            'sha256, or its first digits', 'file for the config'), rows


def ablations(models):
    """From the docstrings, whose first lines `make demo-ablations` prints."""
    rows = []
    for path in sorted(ROOT.glob('configs/fd/ablations/*.py')):
        what, value, table, finding = re.match(
            r'"""(.*?): (.*)\n\n(Table \d|Not) (?:of|in) the paper: '
            r'(.*?)\.\s', path.read_text(), re.S).groups()
        rows.append([
            f'[{path.name}]({path.relative_to(ROOT)})',
            table.replace('Not', NOTHING), what, value,
            ' '.join(finding.split())
        ])
    return ('config', 'paper', 'ablation', 'value',
            'what the paper finds'), sorted(
                rows, key=lambda row: (row[1] == NOTHING, row[1]))


def named(models):
    """From the docstrings, and from what timm says of the names."""
    rows = []
    for path in sorted(ROOT.glob('configs/fd/by_name/*.py')):
        teacher, licence = re.match(r'"""(.*) -> FD. Licence (.*?); not',
                                    path.read_text()).groups()
        cfg = Config.fromfile(path)
        published = timm_network.published(cfg.model.teacher.backbone.name)
        rows.append([
            f'[{path.name}]({path.relative_to(ROOT)})', teacher, licence,
            f'`{published.hf_hub_id}`', f'`{cfg.model.teacher.checkpoint}`'
        ])
    return ('config', 'teacher', 'licence', 'repository',
            'file for the config'), rows


# --- docs/teachers.md ---


def by_name(models):
    """From docs/teachers.yml, with which a test compares what mmfd finds."""
    rows = []
    for row in yaml.safe_load((ROOT / 'docs/teachers.yml').read_text()):
        facts = row['facts']
        before = [
            f'{facts[key]} {word}'
            for key, word in (('cls', 'cls'), ('registers', 'registers'))
            if key in facts
        ]
        rows.append([
            f'`{row["name"]}`', row['what'],
            str(facts['width']),
            str(facts['patch']),
            str(facts['img_size']), facts['statistics'], ', '.join(before)
            or NOTHING,
            facts.get('licence', 'not said')
        ])
    return ('name', 'what it is', 'channels', 'patch', 'trained at',
            'statistics', 'before the map', 'licence'), rows


# --- docs/gpu.md ---


def how_long(models):
    tuned = [x for _, x in before_and_after(models, 'classification')]
    rows = [[
        f'{link(x)}, {fact(x, "Epochs")} epochs',
        f'{operations(x):.1e}'.replace('e+', 'e'), *(hours(x, gpu)
                                                     for gpu in GPUS)
    ] for x in of_folder(models, 'fd') + tuned]
    peaks = [f'{gpu} ({peak:,})' for gpu, peak in GPUS.items()]
    return ('recipe', 'operations', *peaks), rows


# --- docs/swinv2g.md ---

STAGES = {  # configs of the stages, and what is said of them
    'fd/{}_fd': 'FD, 224 x 224',
    'ade20k/{}_fd_ade20k': 'ADE20K, 640 x 640',
    'objects365/{}_fd_objects365': 'Objects365, 1,536 x 1,536',
    'coco/{}_fd_htc': 'COCO, 1,536 x 1,536',
}


def stages(models):
    """From docs/swinv2.yml, which docs/count_stages.py writes."""
    rows = []
    for stage, what in STAGES.items():
        facts = _stage(stage, 'swinv2g')
        cells = [
            f'{gib} ({facts["images"][gpus]})'
            for gpus, gib in facts['gib'].items()
        ]
        rows.append([
            what, *cells,
            *(_hours_on(facts['operations'], gpus) for gpus in facts['gib']),
            str(facts.get('test', NOTHING))
        ])
    on = [f'on {gpus}' for gpus in (8, 64, 256)]
    return ('stage', *(f'GiB {x}' for x in on), *(f'hours {x}' for x in on),
            'GiB of its test'), rows


def stages_of_others(models):
    """Swin V2-B and Swin V2-L, from the same file."""
    rows = []
    for letter in 'BL':
        for stage, what in STAGES.items():
            facts = _stage(stage, f'swinv2{letter.lower()}')
            gib = f'{facts["gib"][8]} ({facts["images"][8]})'
            rows.append([
                f'{letter}: {what}', gib,
                *(_hours_on(facts['operations'], gpus) for gpus in (8, 64)),
                str(facts.get('test', NOTHING))
            ])
    return ('stage', 'GiB on 8', 'hours on 8', 'hours on 64',
            'GiB of its test'), rows


def _stage(stage, network):
    counted = yaml.safe_load((ROOT / 'docs/swinv2.yml').read_text())
    return counted[stage.format(network)]


# --- the tasks ---


def fine_tuning(models):
    rows = [[
        fact(after, 'Network'),
        fact(after, 'Epochs'),
        hours(after), *sides(before, after),
        size(after),
        official(after)
    ] for before, after in before_and_after(models, 'classification')
            if not after['Name'].endswith('_linear')]
    return ('network', 'epochs', HOURS, 'before FD', 'top-1', 'after FD',
            'top-1', 'parameters', 'official model'), rows


def linear_probe(models):
    rows = [[fact(after, 'Network'),
             hours(after), *sides(before, after)]
            for before, after in before_and_after(models, 'classification')
            if after['Name'].endswith('_linear')]
    return ('network', HOURS, 'before FD', 'top-1', 'after FD', 'top-1'), rows


def ade20k(models):
    rows = [[
        fact(after, 'Network'),
        fact(after, 'Iterations'), *sides(before, after),
        size(after)
    ] for before, after in before_and_after(models, 'ade20k')]
    return ('network', 'iterations', 'before FD', 'mIoU', 'after FD', 'mIoU',
            'parameters'), rows


def coco(models):
    rows = [[
        fact(after, 'Network'),
        fact(after, 'Detector'),
        fact(after, 'Epochs'), *sides(before, after),
        result(after, 1),
        size(after)
    ] for before, after in before_and_after(models, 'coco')]
    return ('network', 'detector', 'epochs', 'before FD', 'box AP', 'after FD',
            'box AP', 'mask AP', 'parameters'), rows


TABLES = dict(
    imagenet=imagenet,
    dense_tasks=dense_tasks,
    students=students,
    teachers=teachers,
    ablations=ablations,
    named=named,
    by_name=by_name,
    how_long=how_long,
    stages=stages,
    stages_of_others=stages_of_others,
    fine_tuning=fine_tuning,
    linear_probe=linear_probe,
    ade20k=ade20k,
    coco=coco)


def markdown(head, rows, folder):
    """A table as text, its links as seen from a folder."""

    def relative(path):
        return f']({os.path.relpath(ROOT / path[1], folder)})'

    lines = (head, ['---'] * len(head), *rows)
    text = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    return re.sub(r'\]\((configs/[^)]+)\)', relative, text)


def current(path, models):
    """The text of a README file with current tables."""

    def table(place):
        head, rows = TABLES[place[2]](models)
        return place[1] + markdown(head, rows, path.parent) + place[3]

    return PLACE.sub(table, path.read_text())


def outdated():
    """{README file: its text with current tables}, of those that differ."""
    models = read_metafiles()
    texts = {path: current(path, models) for path in READMES}
    return {x: text for x, text in texts.items() if text != x.read_text()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing')
    only_check = parser.parse_args().check
    for path, text in outdated().items():
        if only_check:
            raise SystemExit(f'a table of {path.relative_to(ROOT)} is not '
                             'current: run python docs/write_tables.py')
        path.write_text(text)
        print(f'wrote the tables of {path.relative_to(ROOT)}')


if __name__ == '__main__':
    main()
