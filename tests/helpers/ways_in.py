"""Give files to all that reads weights; print what happens, a JSON a line.

    python tests/helpers/ways_in.py FOLDER IMAGES WAY,WAY FILE...

It is to be a process of its own, which reads the first file once before, to
have all that is read lazily. It records which processes are started,
which connections made and which files written outside of FOLDER/out, and has
3 GB of memory beside its libraries.
"""
import contextlib
import io
import json
import os
import resource
import runpy
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from mmengine.visualization import Visualizer

from mmfd.errors import Refused
from mmfd.weights import checkpoints
from mmfd.weights.convert import CONVERTERS

MEMORY = 3 << 30  # bytes
EVENTS = ('os.system', 'os.exec', 'os.fork', 'os.posix_spawn', 'os.rename',
          'os.remove', 'subprocess.Popen', 'socket.connect')
HARMLESS = ('gcc', 'nvcc', 'fc-list')  # versions in logs, fonts of plots
FD = 'configs/demo/simclr_fd.py'
FINETUNE = 'configs/demo/simclr_fd_shapes.py'


def tool(name, *args):
    sys.argv = [name, *map(str, args)]
    runpy.run_path(f'tools/{name}.py', run_name='__main__')


def train(config, folder, images, *args):
    Visualizer._instance_dict.clear()  # named by the second
    tool('train', config, '--work-dir', folder / 'out/run', '--data-root',
         images, *args)


def load(path, folder, images):
    checkpoints.state_dict_of(checkpoints.load(path), path)


def convert(kind):
    return lambda path, folder, images: tool('convert', kind, path, folder /
                                             'out/w.pth')


WAYS = {
    'load':
    load,
    **{
        f'convert {kind}': convert(kind)
        for kind in CONVERTERS
    },
    'export':
    lambda path, folder, images: tool('export', path, folder / 'out/w.pth'),
    'timm':
    lambda path, folder, images: tool('export', path, folder / 'out/w.pth',
                                      '--to', 'timm'),
    'hf':
    lambda path, folder, images: tool('export', path, folder / 'out/hf',
                                      '--to', 'hf'),
    'teacher':
    lambda path, folder, images: train(FD, folder, images, '--cfg-options',
                                       f'model.teacher.checkpoint={path}'),
    'load_from':
    lambda path, folder, images: train(FD, folder, images, '--cfg-options',
                                       f'load_from={path}'),
    'resume':
    lambda path, folder, images: train(FD, folder, images, '--resume', path),
    'init_cfg':
    lambda path, folder, images: train(
        FINETUNE, folder, images, '--cfg-options',
        f'model.backbone.init_cfg.checkpoint={path}'),
}


class Watch:
    """Records what the process does and reading a file does not need."""

    def __init__(self, *allowed):
        self.allowed = tuple(f'{folder}/' for folder in allowed)
        self.events, self.on = [], False
        sys.addaudithook(self)

    def __call__(self, event, args):
        if not self.on:
            return
        if event == 'open':
            path, mode, flags = args
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, str) and path != os.devnull:
                self.note(event, path)
        elif event in EVENTS and not (event == 'os.remove' and args[1] != -1):
            self.note(event, *map(str, args))  # not of a folder's own entries

    def note(self, event, *args):
        known = any(tool in ''.join(args) for tool in HARMLESS)
        if not known and not ''.join(args[:1]).startswith(self.allowed):
            self.events.append([event, *args])


def memory(field):
    """Bytes."""
    with open('/proc/self/status') as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024


def one(way, path, folder, images, watch):
    out = folder / 'out'
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    Path('/proc/self/clear_refs').write_text('5')  # the peak is the present
    before, start, message = memory('VmRSS'), time.process_time(), ''
    watch.events, watch.on = [], True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            with contextlib.redirect_stderr(io.StringIO()):
                WAYS[way](path, folder, images)
        end = 'accepted'
    except SystemExit as stop:
        message = str(stop.code)
        end = 'refused' if message.startswith('error: ') else 'usage'
    except Refused as error:  # of `load`, which is no command
        message, end = f'error: {error}', 'refused'
        if way != 'load':
            message, end = traceback.format_exc()[-600:], 'traceback'
    except BaseException:
        message, end = traceback.format_exc()[-600:], 'traceback'
    finally:
        watch.on = False
    return dict(
        way=way,
        file=path.name,
        end=end,
        message=message,
        left=sorted(os.listdir(out)),
        events=watch.events,
        seconds=round(time.process_time() - start, 2),
        size=sum(file.stat().st_size for file in path.rglob('*'))
        if path.is_dir() else path.is_file() and path.stat().st_size,
        peak=memory('VmHWM') - before)


def main():
    tempfile.tempdir = None  # of this process, not of the one that forked
    folder, images, ways = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    watch = Watch(folder / 'out', folder / 'home')
    limit = memory('VmSize') + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    names = sys.argv[4:]
    for way in ways.split(','):
        one(way, folder / names[0], folder, images, watch)
    for name in names:
        for way in ways.split(','):
            row = one(way, folder / name, folder, images, watch)
            print(json.dumps(row), flush=True)


if __name__ == '__main__':
    main()
