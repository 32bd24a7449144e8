"""The command `mmfd`: the tools, from any folder."""
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
from helpers.commands import command, run
from mmengine.config import Config

from mmfd.commands.console import COMMANDS
from mmfd.commands.img_size import ImgSize
from mmfd.errors import Refused
from mmfd.launch.config_options import read_config


def mmfd(*args, **options):
    return run('-m', 'mmfd.__main__', *args, **options)


def test_help_names_each_command_and_imports_no_library():
    code = ('import sys; sys.argv[1:] = ["--help"]; import atexit; '
            'atexit.register(lambda: print({"torch", "mmengine", "numpy"} '
            '& sys.modules.keys())); from mmfd.commands.console import main; '
            'main()')
    done = subprocess.run([sys.executable, '-c', code],
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    *lines, heavy = done.stdout.splitlines()
    listed = [line.split(maxsplit=1) for line in lines[-len(COMMANDS):]]
    assert [name for name, _ in listed] == [*COMMANDS]
    assert all(line.endswith('.') for _, line in listed)
    assert heavy == 'set()'


@pytest.mark.parametrize('name', COMMANDS)
def test_command_shows_its_own_arguments_under_its_own_name(name):
    status, output = mmfd(name, '--help')
    assert status == 0 and output.startswith(f'usage: mmfd {name} ')


def test_tools_are_the_commands():
    tools = {path.stem for path in Path('tools').glob('*.py')}
    assert tools <= {*COMMANDS}
    for name in tools:
        shown = command(name, '--help').replace(f'{name}.py', f'mmfd {name}')
        assert shown.split() == mmfd(name, '--help').output.split()


def test_unknown_command_is_answered_with_those_that_there_are():
    status, output = mmfd('trian')
    assert status == 2 and "'train'" in output


def test_configs_that_come_with_mmfd_are_found_from_any_folder(
        tmp_path, monkeypatch):
    config = 'configs/demo/simclr_fd.py'
    expected = Config.fromfile(config).to_dict()
    monkeypatch.chdir(tmp_path)
    assert read_config(config).to_dict().keys() == expected.keys()
    Path('configs/demo').mkdir(parents=True)
    Path(config).write_text('a = 1')  # one's own goes before
    assert read_config(config).to_dict() == {'a': 1}


def test_name_of_no_config_is_answered_with_the_nearest():
    with pytest.raises(Refused) as refusal:
        read_config('clip_vitb_df.py')
    assert str(
        refusal.value) == ('no config file clip_vitb_df.py; did you mean '
                           'configs/fd/clip_vitb_fd.py?')


@pytest.mark.parametrize('numbers, size', [('224', (224, 224)),
                                           ('192 256', (192, 256)),
                                           ('0', None), ('64 -32', None),
                                           ('3 224 224', None)])
def test_img_size_is_a_side_or_height_and_width(numbers, size, capsys):
    parser = ArgumentParser()
    parser.add_argument('--img-size', action=ImgSize)
    arguments = ['--img-size', *numbers.split()]
    if size:
        assert parser.parse_args(arguments).img_size == size
        return
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert f'--img-size {numbers}: expected is a side' in capsys.readouterr(
    ).err
