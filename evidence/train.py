"""Take the steps of a run: train what is not trained yet, and keep account."""
import json
import os
import subprocess
import sys
from pathlib import Path

from design import ABLATIONS, TEACHERS

from mmfd.errors import Refused
from mmfd.launch.rebased_config import rebased
from mmfd.weights import checkpoints

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs/small'
WORK = Path('work_dirs/small')
BESIDE = dict(  # a teacher -> what is kept beside it: prefix of its weights
    simclr=dict(simclr_neck='neck.'),  # to be trained on
    captions=dict(captions_towers='towers.'))  # for answers in words
# one thread: two runs side by side are faster than one run on two cores
ENVIRONMENT = dict(
    OMP_NUM_THREADS='1',
    OMP_WAIT_POLICY='PASSIVE',
    PYTHONPATH=os.pathsep.join(  # where captions.py is
        [
            str(ROOT / 'evidence'),
            *filter(None, [os.environ.get('PYTHONPATH')])
        ]))


def config_of(step):
    """The config file of a step; that of an ablation is written first."""
    if step.config in ABLATIONS:
        return rebased(ROOT / f'configs/fd/ablations/{step.config}.py',
                       CONFIGS / 'fd_small.py', WORK / 'configs')
    return CONFIGS / f'{step.config}.py'


def command(step, images):
    """The command of a step: a list of words."""
    options = [f'{key}={value}' for key, value in step.options.items()]
    return [
        str(ROOT / 'tools/train.py'),
        str(config_of(step)), '--resume', '--work-dir',
        str(WORK / step.folder), '--data-root',
        str(images), *(['--cfg-options', *options] if options else [])
    ]


def take(step, images, held=()):
    """Train a step, or go on with it; nothing happens if it is trained.

    Args:
        held (Sequence[int]): locked files. Training keeps them open, so they
            stay locked until it ends, even if this process is killed.

    Raises:
        Refused: if training failed, with the end of what it printed.
    """
    folder = WORK / step.folder
    if Path(step.checkpoint).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / 'output.txt'
    with open(output, 'w') as file:
        process = subprocess.Popen([sys.executable, *command(step, images)],
                                   env=os.environ | ENVIRONMENT,
                                   pass_fds=held,
                                   stdout=file,
                                   stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    with open(folder / 'cpu_seconds.txt', 'a') as file:
        print(usage.ru_utime + usage.ru_stime, file=file)
    if status:
        raise Refused(f'{step.folder} failed:\n{output.read_text()[-2000:]}')


def account(step, images):
    """What is to be known of a trained step: a dict for JSON."""
    folder = WORK / step.folder
    seconds = [  # of those processes that somebody waited for
        float(line) for path in folder.glob('cpu_seconds.txt')
        for line in path.read_text().split()
    ]
    return dict(
        command=' '.join(
            os.path.relpath(word, ROOT) if os.path.isabs(word) else word
            for word in ['python', *command(step, images)]),
        cpu_seconds=round(sum(seconds)),
        loss_of_epochs=losses(folder))


def losses(folder):
    """The loss at the end of every epoch, however often it was stopped."""
    found = {}
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in map(json.loads, log.read_text().splitlines()):
            if 'loss' in line and 'epoch' in line:
                found[line['epoch']] = round(line['loss'], 4)
    return [found[epoch] for epoch in sorted(found)]


def save_teacher(step):
    """Keep a teacher, rounded to half precision, which git packs by half.

    Returns:
        Path: its file; beside it is what of `BESIDE` it learnt.
    """
    kind = step.folder.partition('_')[0]
    weights = checkpoints.state_dict_of(
        checkpoints.load(step.checkpoint), step.checkpoint)
    for name, prefix in {kind: 'backbone.', **BESIDE.get(kind, {})}.items():
        part = {
            key.removeprefix(prefix): value.half().float()
            for key, value in weights.items() if key.startswith(prefix)
        }
        checkpoints.save(part, TEACHERS / f'{name}.pth',
                         dict(kind=f'mmpretrain {kind}', source=step.config))
    return TEACHERS / f'{kind}.pth'
