"""What a user can cause is one message; a bug keeps its traceback."""
import errno
import os

import pytest
import torch
from helpers.commands import refused, run
from helpers.foreign import resnet
from helpers.openai_clip import write_clip

from mmfd.errors import Refused
from mmfd.launch.command_line import one_message
from mmfd.weights import checkpoints


@pytest.mark.parametrize('tool', ['train', 'convert'])
def test_folder_that_cannot_be_made_is_one_message(project, tool):
    below, archive = project / 'fd.py/run', project / 'ViT.pt'
    if tool == 'convert':
        write_clip(archive)
    message = refused(
        tool, *{
            'train': [project / 'fd.py', '--work-dir', below],
            'convert': ['openai-clip', archive, below / 'o.pth']
        }[tool])
    assert message.startswith(f'error: cannot make the folder {below}')
    assert message.endswith('name another place to write to')


@pytest.mark.parametrize('make, message', [
    (lambda path: torch.save(resnet(), path), "not OpenAI's CLIP ViT"),
    (lambda path: path.write_text('<html>'), 'web page'),
    (lambda path: path.write_bytes(b'PK\x03\x04' + bytes(100)),
     'cannot be read'),
    (lambda path: None, 'no weights file'),
])
def test_convert_refuses_and_writes_nothing(tmp_path, make, message):
    make(tmp_path / 'file.pt')
    before = os.listdir(tmp_path)
    assert message in refused('convert', 'openai-clip', tmp_path / 'file.pt',
                              tmp_path / 'out.pth')
    assert os.listdir(tmp_path) == before


def test_export_of_a_file_without_a_student_is_refused(tmp_path):
    checkpoints.save(dict(w=torch.ones(1)), tmp_path / 'file.pth', {})
    assert 'holds no student' in refused('export', tmp_path / 'file.pth',
                                         tmp_path / 'out.pth')


@pytest.mark.parametrize('tool', ['train', 'test', 'convert', 'export'])
def test_internal_error_is_not_printed_as_a_users_mistake(tmp_path, tool):
    """A ValueError that is no Refused, and one of each builtin kind."""
    arguments = dict(
        train=['x.py'],
        test=['x.py', 'x.pth'],
        convert=['mae', 'x.pth', 'y.pth'],
        export=['x.pth', 'y.pth'])[tool]
    where, name = dict(
        train=('launch.config_options', 'load_config'),
        test=('launch.config_options', 'load_config'),
        convert=('weights.weight_files', 'sha256'),
        export=('weights.checkpoints', 'load'))[tool]
    for file in 'x.py', 'x.pth':
        (tmp_path / file).touch()
    status, output = run(
        tool,
        *arguments,
        cwd=tmp_path,
        before=f'import mmfd.{where} as module\n'
        f'module.{name} = lambda *_: int("a bug")')
    assert status == 1 and 'Traceback' in output
    assert "ValueError: invalid literal for int() with base 10: 'a bug'" in (
        output)
    assert '\nerror: ' not in output and not output.startswith('error: ')


@pytest.mark.parametrize('error, message', [
    (Refused('lower it'), 'error: lower it'),
    (Refused('Caught Refused in DataLoader worker process 0.\nTraceback\n'
             'mmfd.errors.Refused: lower it\n'), 'error: lower it'),
    (Refused('a\x1b[2Jb\nc'), 'error: a\\x1b[2Jb\nc'),
    (OSError(errno.ENOSPC, 'No space left',
             'f'), "error: [Errno 28] No space left: 'f'"),
    (RuntimeError('Timed out waiting 10000ms for send operation'),
     'error: no answer from another process for 10 s, which is '
     'env_cfg.dist_cfg.timeout; it hangs, or its machine or network is gone. '
     '--resume goes on from the last checkpoint'),
    (RuntimeError('[gloo/transport/tcp/pair.cc:1] Connection closed by peer'),
     'error: the connection to another process was closed, as where memory '
     'runs out or a machine is switched off: see what is printed there. '
     '--resume goes on from the last checkpoint'),
])
def test_refusal_ends_with_one_message(error, message):
    with pytest.raises(SystemExit) as end:
        with one_message():
            raise error
    assert end.value.code == message


@pytest.mark.parametrize('error', [
    ValueError('a bug'),
    OSError(errno.EACCES, 'Permission denied'),
    RuntimeError('shape mismatch'),
    KeyError('x'),
    AssertionError()
])
def test_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        with one_message():
            raise error


def test_message_of_another_process_waits_for_the_first(monkeypatch):
    """For the first of all, and longer for the first of its machine."""
    waited = []
    monkeypatch.setattr('time.sleep', waited.append)
    for rank, local_rank in '00', '20', '31', 'xx':
        monkeypatch.setenv('RANK', rank)
        monkeypatch.setenv('LOCAL_RANK', local_rank)
        with pytest.raises(SystemExit):
            with one_message():
                raise Refused('lower it')
    assert waited == [2, 10]


LATE = '''
import os, signal
from mmfd.launch import command_line

def ended(*_):
    raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed')

def reason(what, tell=command_line._reader_ended):
    os.kill(os.getpid(), signal.SIGCHLD)
    return tell(what)

command_line._reader_ended = reason
signal.signal(signal.SIGCHLD, ended)
with command_line.one_message():
    raise EOFError
'''


def test_killed_worker_is_one_message_though_it_is_noticed_twice(tmp_path):
    """By what it did not send, then by a signal amid the message."""
    script = tmp_path / 'late.py'
    script.write_text(LATE)
    assert 'a process that reads images has ended (EOFError)' in refused(
        str(script))
