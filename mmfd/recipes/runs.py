"""Write the config of a run, train it, and read what it logged."""
import multiprocessing
import shlex
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from mmfd import files
from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.launch import command_line, runner, terminal
from mmfd.launch.config_options import load_config
from mmfd.training import curves
from mmfd.training.last_checkpoint import find_checkpoints
from mmfd.weights.weight_files import IN_FOLDER, first_file


class Recipe(NamedTuple):
    """A run that has not begun.

    Attributes:
        name (str): of its config, without a suffix.
        text (str): of its config.
        why (list[str]): sentences on what was chosen.
        out (str): the folder of the run.
    """
    name: str
    text: str
    why: list
    out: str


def command(name, **options):
    """The command line that does the same; what is None is chosen there."""
    words = ['mmfd', name]
    for key, value in options.items():
        option = key.replace('_', '-')
        if isinstance(value, bool):
            words.append(f'--{option}' if value else f'--no-{option}')
        elif value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f'--{option}', *map(str, values)]
    return shlex.join(words)


def begin(verbose):
    """Show what is for users alone, unless all is asked for."""
    if not verbose:
        terminal.begin()


def train(recipe, resume, verbose):
    """Write the config of a run and train it.

    Returns:
        Runner: at the end of the training.

    Raises:
        Refused: as `write` and `runner.train`.
    """
    cfg = _load(write(recipe, resume))
    cfg.resume = resume
    _say(recipe)
    return runner.train(cfg, verbose)


def dry_run(recipe, verbose):
    """Train ten iterations, print what they showed, leave nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f'{recipe.name}.py')
        path.write_text(recipe.text)
        cfg = _load(path)
        _say(recipe)
        runner.dry_run(cfg, verbose)


def write(recipe, resume):
    """Write a config into the folder of its run.

    It is in a folder of its own there: the host writes the config with all
    that it builds on beside the checkpoints, under the same name.

    Returns:
        Path: of the config.

    Raises:
        Refused: if another run is there, or this one and `resume` is not set.
    """
    path = Path(recipe.out, 'recipe', f'{recipe.name}.py')
    has_begun = find_checkpoints(recipe.out)
    for other in path.parent.glob('*.py'):
        if other == path and other.read_text() == recipe.text:
            continue
        if has_begun:
            raise Refused(
                f'{recipe.out} holds another run: {other} differs. Name '
                'another folder with --out, or go on with that run as it is: '
                f'mmfd train {other} --resume')
        other.unlink()  # of a run that did not begin
    if has_begun and not resume:
        raise Refused(
            f'{recipe.out} holds checkpoints of this run: --resume goes on '
            'from the last one, --out names another folder')
    with files.output_file(path) as file:
        file.write_text(recipe.text)
    return path


def file_in(path, name, command):
    """The file that a run has left at its end.

    Args:
        path (str): of the file, or of the folder of the run.
        name (str): of the file in that folder.
        command (str): that writes it.

    Returns:
        Path: also of a folder with weights in another form.

    Raises:
        Refused: for a folder without weights.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if found := first_file(path, (name, *IN_FOLDER)):
        return path / name if found == name else path
    raise Refused(f'{path} has no {name}, which {command} writes there at its '
                  'end: name the folder of such a run, --resume a run that '
                  'was stopped, or name one of its checkpoints')


def history(work_dir):
    """What all starts of a run have logged, in order.

    Returns:
        list[dict]: for each line its `step`, and `loss` and the like of
        training or `held_out/loss` and the like of evaluation. What a run did
        again after it was stopped counts once.
    """
    found = {}
    for lines in curves.logged(work_dir):
        for line in lines:
            found['loss' in line, line['step']] = line
    return [*found.values()]


def _load(path):
    """The config of a file, as `mmfd train` has it."""
    parser = ArgumentParser()
    command_line.add_arguments(parser)
    cfg = load_config(parser.parse_args([str(path)]))
    # the host keeps logs and counts under this name as long as it lives
    cfg.experiment_name = f'{path.stem}_{uuid4().hex[:8]}'
    if multiprocessing.current_process().daemon:  # it can start no process
        for loop in 'train', 'val', 'test':
            cfg[f'{loop}_dataloader'].num_workers = 0
    return cfg


def _say(recipe):
    for sentence in recipe.why:
        log.info(sentence)
