"""The design of docs/evidence.md as data: which runs there are, in order.

A run is named by what it trains, from what and with what. Which final runs
there are follows from the logs of others: their learning rates are those that
did best on held-out images.
"""
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmfd.targets import normalizers

TEACHERS = Path('evidence/teachers')
SEEDS = dict(  # teacher -> seeds of final runs
    simclr=5,
    labels=3,
    captions=3,
    masked=3)
SCRATCH = 'simclr', 'captions'  # one for each set of images
RATES = 4e-3, 8e-3, 16e-3  # of fine-tuning, per 512 images
WIDEST = 5  # rates of a list that was extended at its edges
TRIAL = 100  # seed of the runs that choose rates; no final run has it
PRETRAINED, DISTILLED, FINE_TUNED, SEGMENTED = 40, 30, 12, 40  # epochs
CURVE = 4, 10, 100  # epochs of distillation, beside DISTILLED
SPEAKING = 10  # epochs of distillation of students that answer in words
NORMALIZERS = 'layer_norm', 'l2', 'none', 'standardize', 'phi_s', 'zca'
ABLATIONS = ('target_cls', 'target_mean', 'norm_none', 'norm_l2',
             'norm_affine', 'position_absolute', 'drop_path_t1_s1')
TARGETS = {  # beyond the paper's: what is learned -> options of FD
    'PHI-S': {
        'model.teacher.neck.type': 'mmfd.TargetNeck',
        'model.teacher.neck.normalize': 'phi_s',
        'model.teacher.neck.statistics': TEACHERS / 'simclr_tokens.safetensors'
    },
    'running standardisation': {
        'model.teacher.neck.type': 'mmfd.TargetNeck',
        'model.teacher.neck.normalize.type': 'running',
        'model.teacher.neck.normalize.channels': 128
    },
    'cosine': {
        'model.head.loss._delete_': True,
        'model.head.loss.type': 'mmfd.CosineLoss'
    },
    'cosine and smooth L1': {
        'model.head.loss._delete_': True,
        'model.head.loss.type': 'mmfd.SumOfLosses',
        'model.head.loss.terms.direction.loss.type': 'mmfd.CosineLoss',
        'model.head.loss.terms.direction.weight': 0.9,
        'model.head.loss.terms.scale.loss.type': 'torch.nn.SmoothL1Loss',
        'model.head.loss.terms.scale.weight': 0.1
    },
    'tokens of hidden patches': {
        'model.type': 'mmfd.MaskedFeatureDistillation',
        'model.hidden': 0.6,
        'model.side': 8
    },
}


class Step(NamedTuple):
    """A run of tools/train.py."""
    images: str  # a function of images.py
    folder: str  # in work_dirs/small; two steps of one name are one step
    config: str  # name of a file in configs/small or configs/fd/ablations
    epochs: int
    options: dict

    @property
    def checkpoint(self):
        return f'work_dirs/small/{self.folder}/epoch_{self.epochs}.pth'

    @property
    def is_distillation(self):
        return any(key.endswith('teacher.checkpoint') for key in self.options)


class Run(NamedTuple):
    """Steps one after the other; the last one names the log, and is tested."""
    steps: tuple

    @property
    def name(self):
        return self.steps[-1].folder

    @property
    def images(self):
        return self.steps[-1].images


def of_kind(kind, stage):
    """The images of a teacher: those with captions are drawn.

    Args:
        stage (str): `'selection'` of learning rates, or `'final'`.
    """
    return f'shapes_{stage}' if kind == 'captions' else stage


def teacher(kind):
    name = f'{kind}_teacher'
    options = {'train_cfg.max_epochs': PRETRAINED}
    images = of_kind(kind, 'selection')
    return Run((Step(images, name, f'{name}_small', PRETRAINED, options), ))


def distil(kind, stage, seed, epochs=DISTILLED, config='fd_small', **teachers):
    """FD, of the teacher of a kind or of other `teachers`: options."""
    name = f'{kind}_{config.removesuffix("_small")}_{epochs}_epochs'
    teachers = teachers or {
        'model.teacher.checkpoint': TEACHERS / f'{kind}.pth'
    }
    return Step(
        of_kind(kind, stage), f'{name}_seed{seed}', config, epochs, {
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': epochs,
            **teachers, 'randomness.seed': seed
        })


def fine_tune(name, images, rate, seed, config, epochs=FINE_TUNED, **options):
    """The last step of a run, which the tables are made of."""
    stage = images.rpartition('_')[-1]
    return Step(
        images, f'{stage}_{name}_lr{1000 * rate:g}e-3_seed{seed}', config,
        epochs, {
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': epochs,
            'optim_wrapper.optimizer.lr': rate,
            'randomness.seed': seed,
            **options
        })


def from_file(path, prefix=''):
    """Options of a network that starts from a file."""
    return {
        'model.backbone.init_cfg.checkpoint': path,
        'model.backbone.init_cfg.prefix': prefix
    }


def from_teacher(kind):
    return from_file(TEACHERS / f'{kind}.pth')


def from_student(step):
    return from_file(step.checkpoint, 'backbone.')


def before(kind, stage, rate, seed, epochs=FINE_TUNED):
    step = fine_tune(f'{kind}_before_{epochs}_epochs', of_kind(kind, stage),
                     rate, seed, 'before_small', epochs, **from_teacher(kind))
    return Run((step, ))


def tuned(first, rate, seed, config, **options):
    """What a step trained, fine-tuned on the same images."""
    name = first.folder.rpartition('_seed')[0]
    step = fine_tune(name, first.images, rate, seed, config,
                     **from_student(first), **options)
    return Run((first, step))


def after(kind, stage, rate, seed):
    return tuned(distil(kind, stage, seed), rate, seed, 'after_small')


def scratch(kind, stage, rate, seed):
    """From random weights, on the images of a teacher."""
    images = of_kind(kind, stage)
    name = images.replace(stage, 'scratch')
    return Run((fine_tune(name, images, rate, seed, 'scratch_small'), ))


def segment(arm, kind, stage, rate, seed):
    """On street scenes: a teacher before, its student after, or neither."""
    student = distil(kind, stage, seed)
    steps, start = dict(
        before=((), from_teacher(kind)),
        after=((student, ), from_student(student)),
        scratch=((), {}))[arm]
    name = f'{kind}_{arm}_segment' if start else f'{arm}_segment'
    step = fine_tune(name, f'camvid_{stage}', rate, seed,
                     f'segment_{arm}_small', SEGMENTED, **start)
    return Run((*steps, step))


class Arms:
    """Networks that are compared, so they choose from one list of rates.

    Attributes:
        chosen (dict): arm -> its rate; empty until every trial has a log.
    """

    def __init__(self, logs, **arms):
        """
        Args:
            logs (dict): name of a run -> its log.
            arms: name -> function of stage, rate and seed to a `Run`.
        """
        self.arms, self.rates, self.chosen = arms, [*RATES], {}
        while all(run.name in logs for run in self.trials()):
            self.chosen = {
                arm:
                max(self.rates,
                    key=lambda rate: logs[self.arms[arm]('selection', rate,
                                                         TRIAL).name]['score'])
                for arm in arms
            }
            low, high = min(self.rates), max(self.rates)
            wider = [low / 2] * (low in self.chosen.values())
            wider += [high * 2] * (high in self.chosen.values())
            if not wider or len(self.rates) >= WIDEST:
                break
            self.rates += wider
            self.chosen = {}

    def trials(self):
        return [
            run('selection', rate, TRIAL) for rate in self.rates
            for run in self.arms.values()
        ]

    def final(self, arm, seeds):
        """The final runs of an arm; none until its rate is chosen."""
        return [
            self.arms[arm]('final', self.chosen[arm], seed)
            for seed in range(seeds) if self.chosen
        ]


def of_teacher(kind, logs):
    return Arms(logs, before=partial(before, kind), after=partial(after, kind))


def of_scratch(kind, logs):
    return Arms(logs, scratch=partial(scratch, kind))


def segmented(kind, logs):
    return Arms(
        logs,
        before=partial(segment, 'before', kind),
        after=partial(segment, 'after', kind))


def segmented_scratch(logs):
    return Arms(logs, scratch=partial(segment, 'scratch', 'simclr'))


def pair(arms, seeds):
    """All runs before and after: those that choose rates, and the final."""
    return [
        *arms.trials(), *arms.final('before', seeds),
        *arms.final('after', seeds)
    ]


def main_table(logs):
    found = []
    for kind, seeds in SEEDS.items():
        found += [teacher(kind), *pair(of_teacher(kind, logs), seeds)]
    for kind in SCRATCH:
        alone = of_scratch(kind, logs)
        found += [*alone.trials(), *alone.final('scratch', SEEDS[kind])]
    return found


def dense_table(logs):
    found = []
    for kind, seeds in SEEDS.items():
        found += pair(segmented(kind, logs), seeds)
    alone = segmented_scratch(logs)
    return [*found, *alone.trials(), *alone.final('scratch', 5)]


def long(rate, seed):
    """Control: the teacher, fine-tuned twice as long."""
    return before('simclr', 'final', rate, seed, 2 * FINE_TUNED)


def long_after(rate, seed):
    """FD's student, fine-tuned twice as long, too."""
    *first, last = tuned(
        distil('simclr', 'final', seed),
        rate,
        seed,
        'after_small',
        epochs=2 * FINE_TUNED).steps
    return Run((*first, last._replace(folder=f'long_{last.folder}')))


def more(rate, seed):
    """Control: the teacher, trained on with its own loss."""
    epochs = DISTILLED // 2  # of two views
    step = Step('final', f'simclr_more_seed{seed}', 'simclr_more_small',
                epochs, {
                    'train_cfg.max_epochs': epochs,
                    'randomness.seed': seed
                })
    return tuned(step, rate, seed, 'before_small')


def absolute(rate, seed, epochs=DISTILLED, own=False):
    """Control: FD into the teacher's own architecture.

    Args:
        own (bool): start from the teacher's own weights, too.
    """
    step = distil('simclr', 'final', seed, epochs, 'absolute_fd_small')
    if own:
        start = from_teacher('simclr')
        start['model.backbone.init_cfg.type'] = 'Pretrained'
        step = step._replace(
            folder=f'own_{step.folder}', options=step.options | start)
    return tuned(step, rate, seed, 'before_small')


def controls(rates):
    return [
        run for seed in range(3) for run in (long(rates['before'], seed),
                                             long_after(rates['after'], seed),
                                             more(rates['before'], seed),
                                             absolute(rates['before'], seed))
    ]


def at(epochs, rate):
    """A point of the curve: a student of so many epochs, one seed."""
    return tuned(distil('simclr', 'final', 0, epochs), rate, 0, 'after_small')


def curve(rates):
    found = [at(epochs, rates['after']) for epochs in CURVE]
    return found + [
        absolute(rates['before'], 0, epochs, own=True)
        for epochs in (*CURVE[:2], DISTILLED)
    ]


def ablation(name, rate):
    step = distil('simclr', 'final', 0, config=name)
    positions = {
        'model.backbone.use_abs_pos_emb': True,
        'model.backbone.use_rel_pos_bias': False
    } if name == 'position_absolute' else {}
    return tuned(step, rate, 0, 'after_small', **positions)


def both(stage, rate, seed):
    """One student of two teachers."""
    step = distil(
        'both',
        stage,
        seed,
        config='several_fd_small',
        **{
            f'model.branches.{branch}.teacher.checkpoint':
            TEACHERS / f'{kind}.pth'
            for branch, kind in dict(contrast='simclr',
                                     labels='labels').items()
        })
    return tuned(step, rate, seed, 'after_small')


def of_both(logs):
    return Arms(logs, after=both)


def several(logs):
    arms = of_both(logs)
    return [*arms.trials(), *arms.final('after', 3)]


def target(name, rate):
    step = distil('simclr', 'final', 0)
    words = name.replace(' ', '_')
    step = step._replace(
        folder=f'{words}_{step.folder}', options=step.options | TARGETS[name])
    return tuned(step, rate, 0, 'after_small')


def staged(rate):
    """The student becomes the teacher of the next."""
    first = distil('simclr', 'final', 0)
    second = distil(
        'simclr',
        'final',
        0,
        config='staged_fd_small',
        **{'model.teacher.checkpoint': first.checkpoint})
    run = tuned(second, rate, 0, 'after_small')
    return Run((first, *run.steps))


def speaking(normalize):
    """A student that answers in the words of its teacher with captions."""
    step = distil('captions', 'final', 0, SPEAKING)
    options = {
        'model.teacher.neck.type': 'mmfd.TargetNeck',
        'model.teacher.neck.normalize': normalize
    }
    if normalizers.NORMALIZERS[normalize].of_file:
        file = TEACHERS / 'captions_tokens.safetensors'
        options['model.teacher.neck.statistics'] = file
    return Run((step._replace(
        folder=f'{normalize}_{step.folder}',
        options=step.options | options), ))


def targets(rates):
    return [
        *(target(name, rates['after']) for name in TARGETS),
        staged(rates['after'])
    ]


def ablations(rates):
    return [ablation(name, rates['after']) for name in ABLATIONS]


def teachers():
    """Names of the runs that make teachers."""
    return {teacher(kind).name for kind in SEEDS}


def needed(run):
    """Names of the runs that make the teachers of a run."""
    used = {
        value.stem.partition('_')[0]
        for step in run.steps
        for value in step.options.values() if isinstance(value, Path)
    }
    if any(step.config == 'simclr_more_small' for step in run.steps):
        used.add('simclr')
    return {teacher(kind).name for kind in used}


def elsewhere(run, folder):
    """The same run in folders of its own."""
    moved = [
        step._replace(folder=f'{folder}/{step.folder}') for step in run.steps
    ]
    checkpoints = {
        old.checkpoint: new.checkpoint
        for old, new in zip(run.steps, moved)
    }
    return Run(
        tuple(
            step._replace(
                options={
                    key: checkpoints.get(value, value)
                    for key, value in step.options.items()
                }) for step in moved))


def runs(logs):
    """Every run that the logs allow to name, in the order of the budget."""
    found, rates = main_table(logs), of_teacher('simclr', logs).chosen
    for rows in (controls, curve, ablations, targets) if rates else ():
        found += rows(rates)
    words = [speaking(normalize) for normalize in NORMALIZERS]
    return found + words + several(logs) + dense_table(logs)
