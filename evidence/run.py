"""Run what docs/evidence.md is made of, one run after the other.

    make small DATA=DIR              # CIFAR-10 as a folder of images
    make small DATA=DIR CAMVID=DIR   # and street scenes, for segmentation

Runs that have a log in evidence/logs are not run again; one that was stopped
goes on. A log is written when its run is done.
"""
import argparse
import fcntl
import json
import multiprocessing
import os
import platform
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import design
import evaluate
import images
import mmengine
import mmpretrain
import tables
import torch
import torchvision
import train
import verdict

import mmfd
from mmfd import files
from mmfd.errors import Refused
from mmfd.launch import command_line

LOGS = Path('evidence/logs')
LIBRARIES = mmfd, torch, torchvision, mmengine, mmpretrain


def read_logs():
    """{name of a run: its log}."""
    return {
        path.stem: json.loads(path.read_text())
        for path in sorted(LOGS.glob('*.json'))
    }


def images_for(name, data):
    """The folder of a set of images, compared with that of the logs.

    Args:
        name (str): a function of `images.py`.
        data (dict): `DATA` and `CAMVID`, folders or None.

    Raises:
        Refused: if a log is of others, or `data` is not as expected.
    """
    source = source_of(name)
    folder = getattr(images, name)(data[source])
    for run, log in read_logs().items():
        if log['images'] == name and log['sum'] != folder.name:
            raise Refused(
                f'{LOGS / run}.json is of the images {log["sum"]}, those of '
                f'{source}={data[source]} are {folder.name}: it is another '
                f'version of the data. Move {LOGS} and {design.TEACHERS} away '
                'to run everything on this one')
    return folder


def source_of(name):
    """Which argument has the images of a function of `images.py`."""
    return 'CAMVID' if name.startswith('camvid') else 'DATA'


def log_of(run, data, held=()):
    """Take the steps of a run and evaluate the last: its log, for JSON.

    Args:
        held (Sequence[int]): files of `claim`, which training holds too.
    """
    steps = [(step, images_for(step.images, data)) for step in run.steps]
    for step, folder in steps:
        train.take(step, folder, held)
    (before, folder_before), (last, folder) = steps[-2:][0], steps[-1]
    log = dict(
        images=run.images,
        sum=folder.name,
        steps=[train.account(step, folder) for step, folder in steps],
        python=platform.python_version(),
        processor=processor(),
        **{library.__name__: library.__version__
           for library in LIBRARIES})
    if run.name in design.teachers():
        file = train.save_teacher(last)
        evaluate.save_statistics(file, folder)
        return log | dict(teacher=str(file), sha256=files.sha256(file))
    cfg = evaluate.read(train.config_of(last), last.options, folder)
    if last.is_distillation:
        return log | evaluate.in_words(cfg, last.checkpoint)
    measure = evaluate.areas if run.images.startswith(
        'camvid') else evaluate.hits
    values = measure(cfg, last.checkpoint)
    log |= dict(
        score=round(verdict.score(values[None]), 3),
        values=evaluate.pack(values))
    if run.images in ('final', 'shapes_final') and before.is_distillation:
        cfg = evaluate.read(
            train.config_of(before), before.options, folder_before)
        log['frozen'] = evaluate.probe(cfg, before.checkpoint)
    return log


def processor():
    """The model of the processor, on which the last digits depend."""
    text = Path('/proc/cpuinfo')
    lines = text.read_text().splitlines() if text.exists() else []
    names = [x.split(': ')[1] for x in lines if x.startswith('model name')]
    return names[0] if names else platform.processor()


def claim(run, claims):
    """Lock the steps of a run, if no other process has one of them.

    Args:
        claims (ExitStack): closes the files that hold the locks.

    Returns:
        list: numbers of these files; None if the run is another's.
    """
    held = []
    for step in run.steps:
        path = train.WORK / f'{step.folder}.lock'
        path.parent.mkdir(parents=True, exist_ok=True)
        held.append(claims.enter_context(open(path, 'w')).fileno())
        try:
            fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
    return held


def work(data, only):
    """Run what has no log, in the order of the design, until nothing is left.

    Several processes may do so side by side.
    """
    with command_line.one_message():
        while ready := runs_without_log(data, only):
            for run in ready:
                with ExitStack() as claims:
                    held = claim(run, claims)
                    if held and run.name not in read_logs():
                        print(f'{run.name} begins', flush=True)
                        write_log(run.name, log_of(run, data, held))
                        break
            else:  # others are at work on all of them
                time.sleep(10)


def runs_without_log(data, only):
    """Those whose images and teacher are there, if their name has `only`."""
    logs = read_logs()
    return [
        run for run in design.runs(logs)
        if run.name not in logs and only in run.name
        and data[source_of(run.images)] and design.needed(run) <= logs.keys()
    ]


def write_log(name, log):
    with files.output_file(LOGS / f'{name}.json') as file:
        file.write_text(json.dumps(log, indent=1) + '\n')
    tables.write(read_logs())
    seconds = sum(step['cpu_seconds'] for step in log['steps'])
    result = f'{log["score"]:.2f} %' if 'score' in log else log['sha256']
    print(f'{name}: {result}, {seconds} s of one core', flush=True)


def again(name, data):
    """Run what has a log once more, in a folder of its own, and compare."""
    logs = read_logs()
    found = [run for run in design.runs(logs) if run.name == name]
    if not found or 'score' not in logs.get(name, {}):
        raise Refused(f'{name}: expected is the name of a log in {LOGS} that '
                      'has a score')
    log = log_of(design.elsewhere(found[0], 'again'), data)
    print(f'{name}: {log["score"]:.2f} %, the log says '
          f'{logs[name]["score"]:.2f} %')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('data', metavar='DATA', help='folder of CIFAR-10')
    parser.add_argument(
        'camvid', metavar='CAMVID', nargs='?', help='folder of CamVid')
    parser.add_argument(
        '--only', default='', help='runs whose name contains this')
    parser.add_argument(
        '--jobs', type=int, default=2, help='runs side by side, a core each')
    parser.add_argument('--again', metavar='NAME', help='a run to run again')
    args = parser.parse_args()
    os.environ.update(train.ENVIRONMENT)
    data = dict(DATA=args.data, CAMVID=args.camvid)
    with command_line.one_message():
        images_for('selection', data)  # before anything is begun
        if args.camvid:
            images_for('camvid_selection', data)
        else:
            print('no CAMVID: segmentation is left out')
        if args.again:
            return again(args.again, data)
    spawn = multiprocessing.get_context('spawn')
    workers = [
        spawn.Process(target=work, args=(data, args.only))
        for _ in range(args.jobs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(max(worker.exitcode for worker in workers))


if __name__ == '__main__':
    main()
