"""The wheel and the sdist: what they hold, and that mim runs the wheel."""
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from mmengine.config import Config

PARTS = ('LICENSE', 'MANIFEST.in', 'README.md', 'model-index.yml',
         'pyproject.toml', 'setup.cfg', '.mim', 'configs', 'mmfd', 'tests',
         'tools')
LITTER = ('configs/demo/__pycache__/simclr_fd.cpython-311.pyc',
          'configs/demo/teacher.pth.1.part', 'mmfd/weights/convert.1.part',
          'tools/__pycache__/train.cpython-311.pyc',
          'work_dirs/fd/epoch_1.pth')


def build(kind, tree, folder):
    """Build a wheel or sdist as pip does, without an environment of its own.

    Returns:
        Path: the file that was built.
    """
    code = ('from setuptools import build_meta; '
            f'print(build_meta.build_{kind}({str(folder)!r}))')
    done = subprocess.run([sys.executable, '-c', code],
                          cwd=tree,
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Wheel, sdist, wheel of the sdist, and the names that wheels must hold.

    They are built from a copy of the project with files that do not belong.
    """
    root = tmp_path_factory.mktemp('built')
    tree, ignore = root / 'tree', shutil.ignore_patterns('__pycache__')
    tree.mkdir()
    for part in PARTS:
        if os.path.isdir(part):
            shutil.copytree(part, tree / part, symlinks=True, ignore=ignore)
        else:
            shutil.copy(part, tree)
    shipped = {
        str(path.relative_to(tree))
        for folder in ('configs', 'tools')
        for path in (tree / folder).rglob('*') if path.is_file()
    }
    modules = {  # all folders of mmfd; .mim is a link to what is shipped
        str(path.relative_to(tree))
        for path in (tree / 'mmfd').rglob('*.py') if '.mim' not in path.parts
    }
    for name in LITTER:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    sdist = build('sdist', tree, root)
    shutil.unpack_archive(sdist, root / 'unpacked')
    unpacked = root / 'unpacked' / sdist.name.removesuffix('.tar.gz')
    return dict(
        sdist=sdist,
        wheel=build('wheel', tree, root),
        wheel_of_sdist=build('wheel', unpacked, root / 'unpacked'),
        names=modules | {
            f'{package}/.mim/{name}'
            for package in ('mmfd', '+mmfd')
            for name in {*shipped, 'model-index.yml'}
        })


def contents(wheel):
    """Checksum of every file, and whether it is executable."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            info.filename: (info.CRC, bool(info.external_attr >> 16 & 0o100))
            for info in archive.infolist()
        }


def test_wheel_holds_modules_configs_and_tools_and_nothing_else(built):
    names = {*contents(built['wheel'])}
    assert {n for n in names if '.dist-info/' not in n} == built['names']


def test_wheel_of_the_sdist_is_the_wheel_of_the_tree(built):
    assert contents(built['wheel_of_sdist']) == contents(built['wheel'])


def test_sdist_holds_the_modules_but_neither_tests_nor_litter(built):
    with tarfile.open(built['sdist']) as archive:
        names = [member.name for member in archive if member.isfile()]
    assert not [n for n in names if '/tests/' in n or n.endswith(LITTER)]
    modules = {n for n in built['names'] if '.mim' not in n}
    assert modules <= {n.partition('/')[2] for n in names}


def test_wheel_brings_the_command(built):
    with zipfile.ZipFile(built['wheel']) as archive:
        [name] = [n for n in archive.namelist() if 'entry_points' in n]
        text = archive.read(name).decode()
    assert text.split() == [
        '[console_scripts]', 'mmfd', '=', 'mmfd.commands.console:main'
    ]


def test_shell_scripts_stay_executable(built):
    scripts = [
        executable
        for name, (_, executable) in contents(built['wheel']).items()
        if name.endswith('.sh')
    ]
    assert scripts and all(scripts)


def test_mim_finds_every_config_by_its_name_alone():
    names = Counter(
        path.name for folder in ('configs', 'tools')
        for path in Path(folder).rglob('*.py'))
    leaves = [
        path.name for path in Path('configs').glob('*/*.py')
        if path.parent.name != '_base_'
    ]
    assert leaves and all(names[leaf] == 1 for leaf in leaves)


def test_configs_elsewhere_build_on_ours(tmp_path):
    config, resolved = tmp_path / 'mine.py', tmp_path / 'resolved.py'
    config.write_text("_base_ = __import__('mmfd').__path__[0] + "
                      "'/.mim/configs/demo/simclr_fd.py'\n")
    cfg = Config.fromfile(config)
    assert Path(
        cfg.model.teacher.checkpoint).samefile('configs/demo/teacher.pth')
    assert '_scope_' not in cfg.pretty_text  # no collate_fn would take it
    cfg.dump(resolved)
    assert Config.fromfile(resolved).to_dict() == cfg.to_dict()


def test_modules_are_still_found_by_their_former_names():
    from mmfd import ops, shapes
    from mmfd.data import toy_images
    from mmfd.hosts import mmcv_ops
    assert shapes.write is toy_images.write
    assert ops.install is mmcv_ops.install


@pytest.mark.parametrize('name', ['mmfd.ops', 'mmfd.hosts.mmcv_ops'])
def test_program_runs_with_mmcvs_ops_under_both_names(name, tmp_path,
                                                      monkeypatch, capsys):
    program = tmp_path / 'program.py'
    program.write_text('import sys, mmcv._ext; print(*sys.argv[1:])')
    monkeypatch.setattr(sys, 'argv', [name, str(program), '--out', 'x'])
    for module in 'mmfd.ops', 'mmfd.hosts.mmcv_ops':
        monkeypatch.delitem(sys.modules, module, raising=False)
    runpy.run_module(name, run_name='__main__')
    assert capsys.readouterr().out == '--out x\n'


@pytest.mark.full
def test_mim_trains_and_tests_from_the_wheel_in_an_empty_folder(
        built, tmp_path):
    env, empty = tmp_path / 'env', tmp_path / 'empty'
    empty.mkdir()
    python = env / 'bin' / 'python'
    environ = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}

    def run(*command):
        done = subprocess.run(
            command, cwd=empty, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        return done.stdout + done.stderr

    run(sys.executable, '-m', 'venv', '--without-pip', env)
    run(sys.executable, '-m', 'pip', '--python', python, 'install',
        '--no-deps', '--no-index', built['wheel'])
    # What mmfd needs comes from this environment, but mmfd itself does not: a
    # .pth file in a folder that a .pth file adds is not read, so an editable
    # installation of mmfd stays hidden.
    ask = 'import mmfd; print(mmfd.__path__[0])'
    own = Path(run(python, '-c', ask).strip())
    (own.parent / 'here.pth').write_text(sysconfig.get_paths()['purelib'])
    assert own.is_relative_to(env) and run(python, '-c', ask) == f'{own}\n'

    run(
        python, '-c', 'from mmfd import shapes; '
        'shapes.write("data/shapes", dict(train=64, val=30))')
    config = 'configs/demo/simclr_fd.py'
    log = run(python, '-m', 'mim', 'train', 'mmfd', config, '--cfg-options',
              'train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    assert 'Training finished successfully' in log
    assert f'{env}/lib' in log
    assert not any(f'{os.getcwd()}/{x}' in log for x in ('mmfd', 'configs'))
    [trained] = re.findall('^iteration [0-9,]*: (.*)$', log, re.M)
    log = run(python, '-m', 'mim', 'test', 'mmfd', config, '--checkpoint',
              'work_dirs/simclr_fd/epoch_1.pth')
    assert 'Testing finished successfully' in log
    [tested] = re.findall('^test: (.*)$', log, re.M)
    assert tested == trained


@pytest.mark.parametrize('python, message', [
    ('exit 1', 'needs ./python3.9 with venv: apt install python3.9-venv'),
    ('case "$1$2" in *ensurepip) ;; -V) echo Python 3.9;; *) exit 1;; esac',
     'needs Python 3.10 to 3.13 and not Python 3.9: make PYTHON=python3.12'),
])
def test_make_says_what_pip_cannot_bring_before_it_makes_anything(
        tmp_path, python, message):
    for name in 'Makefile', 'setup.cfg', 'pyproject.toml':
        shutil.copy(name, tmp_path)
    (tmp_path / 'python3.9').write_text(f'#!/bin/sh\n{python}\n')
    (tmp_path / 'python3.9').chmod(0o755)
    done = subprocess.run(['make', 'install', 'PYTHON=./python3.9'],
                          cwd=tmp_path,
                          capture_output=True,
                          text=True)
    assert done.returncode and message in done.stderr
    assert not (tmp_path / '.venv').exists()
