"""What a user sees of a run: in a file, in a terminal, after Ctrl-C."""
import fcntl
import logging
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager, redirect_stdout

import pytest
from helpers import commands
from helpers.runs import wait_for

from mmfd.hosts import log
from mmfd.launch.command_line import one_message
from mmfd.launch.terminal import ConsoleHandler, quiet
from mmfd.training.progress import ProgressHook
from mmfd.training.stop_signals import StopSignals

PROGRESS = re.compile(
    r'^epoch \d/3  iteration \d+/12  (loss \d\.\d+  )?.* img/s  '
    r'data \d+%  ETA \d:\d\d:\d\d$')


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    """The work dir of a run, and what it printed, line by line."""
    work_dir = tmp_path_factory.mktemp('quiet') / 'run'
    output = commands.command('train', config, '--work-dir', work_dir)
    return work_dir, output.splitlines()


def iterations(lines):
    return [
        int(x.split('iteration ')[1].split('/')[0]) for x in lines
        if PROGRESS.match(x)
    ]


def test_few_lines_then_one_for_each_of_the_log(trained):
    _, lines = trained
    begins = [bool(PROGRESS.match(line)) for line in lines]
    assert iterations(lines) == [*range(1, 13)], lines
    assert all('  loss ' in x for x in lines if PROGRESS.match(x)), lines
    assert begins.index(True) <= 15, lines
    assert [line for line in lines if line.startswith('epoch 2: ')]
    for row in 'teacher', 'student', 'run', 'device', 'output', 'log':
        assert len([x for x in lines if x.startswith(f'{row} ')]) == 1, lines
    assert not [x for x in lines if 'mmengine' in x or 'Warning' in x], lines


def test_a_line_of_progress_has_at_most_100_columns(trained):
    assert max(len(x) for x in trained[1] if PROGRESS.match(x)) <= 100


def test_epoch_shorter_than_the_interval_ends_with_a_line(config, tmp_path):
    output = commands.command('train', config, '--work-dir', tmp_path,
                              '--cfg-options',
                              'default_hooks.logger.interval=5')
    assert iterations(output.splitlines()) == [1, 4, 8, 12], output


def test_the_log_file_has_everything(trained):
    work_dir, lines = trained
    [file] = work_dir.glob('*/*.log')
    text = file.read_text()
    for said in ('System environment', 'Hooks will be executed',
                 'Epoch(train)', 'Epoch(val)'):
        assert said in text and not [x for x in lines if said in x]
    images = [x for x in lines if re.match('(train|val): ', x)]
    assert len(images) == 2 and all(x in text for x in images)


def test_the_end_names_files_that_are_there(trained):
    work_dir, lines = trained
    end = lines[[x.startswith('done in ') for x in lines].index(True):]
    for what in 'best', 'curves', 'last':
        [path] = [x.split()[1] for x in end if x.startswith(f'  {what} ')]
        assert os.path.exists(path)
    assert path == str(work_dir / 'epoch_3.pth')
    assert any(f'mmfd export {path}' in x for x in end)


def test_a_test_prints_its_numbers(trained, config):
    work_dir, lines = trained
    output = commands.command('test', config, work_dir / 'epoch_3.pth',
                              '--work-dir', work_dir / 'test')
    [tested] = [x for x in output.splitlines() if x.startswith('test: ')]
    trained = [x for x in lines if x.startswith('epoch 3: ')]
    assert [tested.removeprefix('test: ')
            ] == [x.removeprefix('epoch 3: ') for x in trained]


SLOW = '''
_base_ = {config!r}
custom_imports = dict(imports=['helpers.fault_hooks'])
default_hooks = dict(
    slow=dict(type='SlowIteration', iteration={at}, seconds={seconds}))
'''


def test_ctrl_c_prints_the_command_that_goes_on(config, tmp_path):
    slow, file = tmp_path / 'slow.py', tmp_path / 'log'
    slow.write_text(SLOW.format(config=str(config), at=3, seconds=3))
    file.touch()
    process = commands.start(
        'train', slow, '--work-dir', tmp_path / 'run', log=file)
    assert wait_for(lambda: 'iteration 2/12' in file.read_text(), process)
    os.kill(process.pid, signal.SIGINT)
    output = commands.finish(process, file, status=130)
    command = output.splitlines()[-1]
    python, script, *arguments = shlex.split(command)
    assert python == 'python' and arguments[-1] == '--resume'
    output = commands.command(script, *arguments)
    assert 'iteration 12/12' in output and 'done in' in output


def test_what_a_metric_prints_itself_is_not_shown(capsys):

    class Evaluator:

        def evaluate(self, size):
            print('Average Precision')
            return dict(ap=size)

    class Host:

        def build_evaluator(self, evaluator):
            return evaluator

    evaluator = quiet(Host)().build_evaluator(Evaluator())
    assert evaluator.evaluate(3) == dict(ap=3)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('last, left', [
    (1, '; it has written no checkpoint yet'),
    (6, '; from {}/epoch_1.pth it goes on with'),
])
def test_ctrl_c_says_what_the_hook_of_the_host_has_left(
        config, tmp_path, last, left):
    file, run = tmp_path / 'log', tmp_path / 'run'
    file.touch()
    of_host = tmp_path / 'of_host.py'
    of_host.write_text(
        SLOW.format(config=str(config), at=last + 1, seconds=60) +
        'default_hooks.update(checkpoint=dict(_delete_=True, '
        "type='CheckpointHook', interval=1))")
    process = commands.start('train', of_host, '--work-dir', run, log=file)
    shown = f'iteration {last}/12'
    assert wait_for(lambda: shown in file.read_text(), process)
    os.kill(process.pid, signal.SIGINT)
    output = commands.finish(process, file, status=130)
    [line] = [x for x in output.splitlines() if x.startswith('Ctrl-C ends ')]
    assert line.endswith(left.format(run))
    assert output.splitlines()[-1].endswith(' --resume') == ('goes on' in left)


# the process that is forked has a file there, and asks a terminal for a place
OWN = 'import sys; sys.stdout = open(1, "w", buffering=1, closefd=False)'


def in_terminal(columns, *arguments, **options):
    """What a command prints into a terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0,
                                                     0))
    printed = []

    def read():
        try:
            while piece := os.read(ours, 65536):
                printed.append(piece)
        except OSError:  # nobody has it open any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    process = commands.start(
        'train', *arguments, log=os.ttyname(its), before=OWN, **options)
    process.join(120)
    os.close(its)
    reader.join()
    assert process.exitcode == 0, b''.join(printed)[-3000:]
    return b''.join(printed).decode().replace('\r\n', '\n')


@pytest.mark.parametrize('columns', [40, 120])
def test_a_terminal_has_one_line_that_is_redrawn(config, tmp_path, columns):
    text = in_terminal(columns, config, '--work-dir', tmp_path / 'run')
    drawn = [x for x in re.split('[\r\n]', text) if 'iteration ' in x]
    assert any('iteration 11/12' in x for x in drawn)
    assert max(map(len, drawn)) < columns
    lines = text.split('\n')
    assert not [x for x in lines if PROGRESS.match(x)]
    # what is longer is a command, or a path behind a name at most
    wide = [x for x in lines if len(x.split('\r')[-1]) >= columns]
    assert not [
        x for x in wide if not log.COMMAND.match(x) and len(x.split()) > 2
    ]


def test_a_dumb_terminal_gets_lines(config, tmp_path):
    text = in_terminal(
        120, config, '--work-dir', tmp_path / 'run', env=dict(TERM='dumb'))
    assert '\r' not in text
    assert len([x for x in text.split('\n') if PROGRESS.match(x)]) == 12


@pytest.mark.parametrize('level, text, of_mmfd, shown', [
    (logging.INFO, 'Exp name: fd', False, ''),
    (logging.INFO, '7 images', True, '7 images\n'),
    (logging.WARNING, 'the disk is full', False,
     'warning: the disk is full\n'),
    (logging.WARNING, log.MEANINGLESS[0] + ' "mmseg"', False, ''),
    (logging.ERROR, 'lost', False, 'warning: lost\n'),
])
def test_who_said_it_and_how_serious_it_is(level, text, of_mmfd, shown,
                                           capsys):
    record = logging.LogRecord('x', level, '', 0, text, (), None)
    record.of_mmfd = of_mmfd
    ConsoleHandler(logging.INFO).handle(record)
    assert capsys.readouterr().out == shown


@contextmanager
def closed_console():
    """Nobody reads what is printed, nor the errors."""
    kept = os.dup(1), os.dup(2)
    read, write = os.pipe()
    os.close(read)
    for descriptor in 1, 2:
        os.dup2(write, descriptor)
    os.close(write)
    try:
        with open(1, 'w', 1, closefd=False) as out, redirect_stdout(out):
            yield
    finally:
        for descriptor, before in zip((1, 2), kept):
            os.dup2(before, descriptor)
            os.close(before)


def say():
    """What Ctrl-C says; it ends the `tee` behind a pipe, too."""
    signals, before = StopSignals(), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.catch()
    os.kill(os.getpid(), signal.SIGINT)
    signals.release()
    signal.signal(signal.SIGINT, before)
    assert signals.received == signal.SIGINT


PRINTERS = {
    'log':
    lambda: ConsoleHandler(0).handle(
        logging.makeLogRecord(dict(msg='x', levelno=logging.WARNING))),
    'progress':
    lambda: ProgressHook().after_test_epoch(None, dict(a=1.)),
    'signal':
    say
}


@pytest.mark.parametrize('printer', PRINTERS)
def test_output_that_nobody_reads_ends_nothing(printer):
    with closed_console():
        with pytest.raises(BrokenPipeError):
            os.write(2, b'x')
        PRINTERS[printer]()
        os.write(2, b'x')  # it is left


def test_command_whose_output_nobody_reads_ends_without_a_message():
    with closed_console(), pytest.raises(SystemExit) as ended:
        with one_message():
            print('x', flush=True)
    assert ended.value.code == 128 + signal.SIGPIPE


@pytest.mark.full
def test_run_goes_on_when_nobody_reads_its_output(config, tmp_path):
    train = shlex.join([
        sys.executable, f'{commands.ROOT}/tools/train.py',
        str(config), '--work-dir',
        str(tmp_path / 'run'), '--cfg-options', 'train_cfg.max_epochs=1'
    ])
    read = subprocess.run(
        ['bash', '-o', 'pipefail', '-c', f'{train} 2>&1 | grep -m1 "n 1/4"'],
        capture_output=True)
    assert read.returncode == 0 and len(read.stdout.splitlines()) == 1
    assert (tmp_path / 'run/epoch_1.pth').exists()
