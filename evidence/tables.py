"""Write the tables of docs/evidence.md from the logs.

    python evidence/tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, as in the
README files. A row without all logs of the design has no verdict.
"""
import re
from pathlib import Path

import design
import evaluate
import numpy as np
from verdict import bootstrap, verdict, welch

PAGE = Path(__file__).resolve().parents[1] / 'docs/evidence.md'
PLACE = re.compile(r'(<!-- table: (\w+) -->\n).*?(<!-- end -->)', re.S)
NOT_RUN = 'not run'
KINDS = dict(
    simclr='contrast: SimCLR',
    labels='labels: DeiT, cut down',
    captions='images with text, on drawn shapes',
    masked='masked images: MAE, the control')


class Group:
    """The runs of one network with several seeds, as far as they have logs."""

    def __init__(self, logs, runs, expected):
        self.logs = [logs[run.name] for run in runs if run.name in logs]
        self.expected = expected

    @property
    def complete(self):
        return len(self.logs) == self.expected

    @property
    def scores(self):
        return np.array([log['score'] for log in self.logs])

    @property
    def values(self):
        return np.array([evaluate.unpack(log['values']) for log in self.logs])

    def mean(self):
        if not self.logs:
            return NOT_RUN
        text = f'{self.scores.mean():.1f}'
        if len(self.logs) > 1:
            text += f' ± {self.scores.std(ddof=1):.1f}'
        if not self.complete:
            text += f' ({len(self.logs)} of {self.expected} seeds)'
        return text

    def frozen(self, side, probe):
        """Mean of a probe of frozen features, in per cent."""
        found = [
            log['frozen'][side][probe] for log in self.logs if 'frozen' in log
        ]
        return f'{np.mean(found):.1f}' if found else NOT_RUN


def compared(before, after):
    """Cells: difference, its two intervals, verdict."""
    if not (before.complete and after.complete):
        return [NOT_RUN] * 4
    intervals = (welch(before.scores,
                       after.scores), bootstrap(before.values, after.values))
    return [
        f'{after.scores.mean() - before.scores.mean():+.1f}',
        *(f'{low:+.1f} to {high:+.1f}' for low, high in intervals),
        verdict(*intervals)
    ]


INTERVALS = ['difference', 'over seeds', 'over images', 'verdict']


def groups(arms, logs, seeds):
    """The final runs of each arm."""
    return [Group(logs, arms.final(arm, seeds), seeds) for arm in arms.arms]


def before_and_after(name, arms, logs, seeds):
    before, after = groups(arms, logs, seeds)
    return [name, before.mean(), after.mean(), *compared(before, after)]


def from_scratch(name, arms, logs, seeds):
    [group] = groups(arms, logs, seeds)
    return [f'none: {name}', group.mean(), ''] + [''] * len(INTERVALS)


HEAD = ['teacher', 'fine-tuned before', 'fine-tuned after', *INTERVALS]


def main_table(logs):
    rows = [
        before_and_after(name, design.of_teacher(kind, logs), logs,
                         design.SEEDS[kind]) for kind, name in KINDS.items()
    ]
    names = dict(simclr='from scratch', captions='from scratch, drawn shapes')
    return HEAD, rows + [
        from_scratch(name, design.of_scratch(kind, logs), logs,
                     design.SEEDS[kind]) for kind, name in names.items()
    ]


def dense_table(logs):
    rows = [
        before_and_after(name, design.segmented(kind, logs), logs,
                         design.SEEDS[kind]) for kind, name in KINDS.items()
    ]
    alone = design.segmented_scratch(logs)
    return HEAD, [*rows, from_scratch('from scratch', alone, logs, 5)]


def frozen_table(logs):
    head = ['teacher', 'kNN before', 'after', 'linear before', 'after']
    rows = []
    for kind, name in KINDS.items():
        _, after = groups(
            design.of_teacher(kind, logs), logs, design.SEEDS[kind])
        rows.append([name] + [
            after.frozen(side, probe) for probe in ('knn', 'linear')
            for side in ('teacher', 'student')
        ])
    return head, rows


def controls_table(logs):
    """Each control beside FD, which is to be better than it."""
    head = ['SimCLR teacher', 'top-1', 'FD', *(f'FD: {x}' for x in INTERVALS)]
    arms = design.of_teacher('simclr', logs)
    _, after = groups(arms, logs, design.SEEDS['simclr'])
    rates = arms.chosen

    def three(run, arm):
        runs = [run(rates[arm], seed) for seed in range(3) if rates]
        return Group(logs, runs, 3)

    long = three(design.long, 'before')
    rows = [
        ('fine-tuned twice as long', long, after),
        ('both fine-tuned twice as long', long,
         three(design.long_after, 'after')),
        ('trained on with its own loss', three(design.more, 'before'), after),
        ('FD into its own architecture', three(design.absolute,
                                               'before'), after),
    ]
    return head, [[name,
                   control.mean(),
                   fd.mean(), *compared(control, fd)]
                  for name, control, fd in rows]


def curve_table(logs):
    head = [
        'epochs of FD', 'from random weights', 'own architecture, from '
        "the teacher's weights"
    ]
    rates = design.of_teacher('simclr', logs).chosen
    rows = []
    for epochs in sorted((*design.CURVE, design.DISTILLED)):
        random = [design.at(epochs, rates['after'])] if rates else []
        own = [design.absolute(rates['before'], 0, epochs, own=True)
               ] if rates else []
        rows.append([str(epochs)] +
                    [Group(logs, runs, 1).mean() for runs in (random, own)])
    return head, rows


def ablations_table(logs):
    head = ['change', 'top-1']
    rates = design.of_teacher('simclr', logs).chosen
    return head, [[
        f'[{name}](../configs/fd/ablations/{name}.py)',
        Group(logs, [design.ablation(name, rates['after'])] if rates else [],
              1).mean()
    ] for name in design.ABLATIONS]


def targets_table(logs):
    head = ['what is learned', 'top-1']
    rates = design.of_teacher('simclr', logs).chosen
    names = [*design.TARGETS, "the student's own tokens: a second stage"]
    runs = design.targets(rates) if rates else [None] * len(names)
    return head, [[name, Group(logs, [run] if run else [], 1).mean()]
                  for name, run in zip(names, runs, strict=True)]


def words_table(logs):
    head = [
        'normaliser', 'top-1 in words', 'same answer as the teacher',
        'cosines differ by'
    ]
    found = {
        name: logs[run.name]
        for name in design.NORMALIZERS
        if (run := design.speaking(name)).name in logs
    }
    teacher = {f"{log['teacher_score']:.1f}" for log in found.values()}
    itself = ', '.join(sorted(teacher)) or NOT_RUN
    rows = [['the teacher itself', itself, '', '']]
    for name in design.NORMALIZERS:
        log = found.get(name)
        rows.append([
            f'`{name}`', f"{log['score']:.1f}", f"{log['same']:.1f}",
            f"{log['cosines']:.2f}"
        ] if log else [f'`{name}`', *[NOT_RUN] * 3])
    return head, rows


def several_table(logs):
    """Each teacher alone, which both together are to be better than."""
    head = ['teacher', 'top-1', *(f'both: {x}' for x in INTERVALS)]
    [both] = groups(design.of_both(logs), logs, 3)
    rows = [['both', both.mean()] + [''] * len(INTERVALS)]
    for kind in 'simclr', 'labels':
        _, alone = groups(
            design.of_teacher(kind, logs), logs, design.SEEDS[kind])
        rows.append([KINDS[kind], alone.mean(), *compared(alone, both)])
    return head, rows


def rates_table(logs):
    head = ['teacher', 'rates tried', 'before', 'after']
    tasks = {'': design.of_teacher, ', on CamVid': design.segmented}
    every = {
        name + task: arms_of(kind, logs)
        for task, arms_of in tasks.items()
        for kind, name in KINDS.items()
    }
    every['both: SimCLR and DeiT'] = design.of_both(logs)
    rows = []
    for name, arms in every.items():
        chosen = {arm: f'{rate:g}' for arm, rate in arms.chosen.items()}
        tried = ', '.join(f'{rate:g}' for rate in arms.rates)
        rows.append([name, tried] + [
            chosen.get(arm, NOT_RUN) if arm in arms.arms else ''
            for arm in ('before', 'after')
        ])
    return head, rows


def cost_table(logs):
    """Hours of one core, by what the runs are for."""
    seconds = {}
    for name, log in logs.items():
        key = ('teachers'
               if 'teacher' in log else log['images'].rpartition('_')[-1])
        spent = sum(step['cpu_seconds'] for step in log['steps'])
        seconds[key] = seconds.get(key, 0) + spent
    names = dict(
        teachers='teachers',
        selection='choosing learning rates',
        final='what the tables show')
    return ['runs', 'core-hours'], [[
        text, f'{seconds[key] / 3600:.1f}' if key in seconds else NOT_RUN
    ] for key, text in names.items()]


TABLES = dict(
    main=main_table,
    dense=dense_table,
    frozen=frozen_table,
    controls=controls_table,
    curve=curve_table,
    ablations=ablations_table,
    targets=targets_table,
    several=several_table,
    words=words_table,
    rates=rates_table,
    cost=cost_table)


def written(text, logs):
    """The page with its tables as the logs have them."""

    def table(match):
        head, rows = TABLES[match[2]](logs)
        lines = [head, ['---'] * len(head), *rows]
        text = ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)
        return f'{match[1]}\n{text}\n{match[3]}'

    return PLACE.sub(table, text)


def write(logs):
    PAGE.write_text(written(PAGE.read_text(), logs))


if __name__ == '__main__':
    from run import read_logs
    write(read_logs())
