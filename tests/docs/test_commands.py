"""Every command in the documentation is one that its program understands."""
import argparse
import re
import runpy
import shlex
import sys
from importlib.util import find_spec

import pytest
from helpers.pages import ROOT, commands

from mmfd.launch.config_options import override, read_config

COMMANDS = sorted(set(commands()))
CONSOLE = 'mmfd/__main__.py'
SCRIPTS = {  # how many arguments a script takes before those of its tool
    'tools/dist_train.sh': ('tools/train.py', 'config processes'),
    'tools/dist_test.sh': ('tools/test.py', 'config checkpoint processes'),
    'tools/slurm_train.sh': ('tools/train.py', 'partition job config'),
}


class Parsed(Exception):
    """Raised with what the parser of a program returned."""


def parse(program, arguments, monkeypatch):
    """What a program's own parser makes of arguments; it runs no further."""
    real = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, args=None, namespace=None):
        parsed = real(parser, args, namespace)
        if parser.prog == 'mmfd':  # it goes on to the parser of its command
            return parsed
        raise Parsed(parsed)

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_and_stop)
    monkeypatch.setattr(sys, 'argv', [program, *arguments])
    if program != CONSOLE:
        monkeypatch.syspath_prepend(str((ROOT / program).parent))
    with pytest.raises((Parsed, SystemExit)) as ended:
        runpy.run_path(str(ROOT / program), run_name='__main__')
    return ended.value


def words_of(line):
    """The words of each command in a line, without variables before it."""
    for part in re.split(r'&&|\|', line):
        words = shlex.split(re.sub(r'\[([^]]*)\]', r'\1', part))
        while words and re.match(r'\w+=', words[0]):
            words.pop(0)
        yield words


def tool_of(words):
    """(program, arguments) of a command that runs one of ours; else None."""
    if words[0] in SCRIPTS:
        program, names = SCRIPTS[words[0]]
        given = dict(zip(names.split(), words[1:]))
        assert given.get('processes', '1').isdigit()
        kept = [given[x] for x in ('config', 'checkpoint') if x in given]
        return program, kept + words[1 + len(given):]
    if words[0] == 'mmfd' and words[1].isalpha():
        return CONSOLE, words[1:]
    if words[0] == 'python' and words[1].endswith('.py'):
        path = words[1].removeprefix('/path/to/mmfd/')
        if not path.startswith('$'):  # of another library
            return path, words[2:]
    return None


def tools_shown():
    """A case for each command that differs: program and arguments."""
    shown = {}
    for command in COMMANDS:
        for words in words_of(command.line):
            if tool := tool_of(words):
                shown.setdefault(
                    str(tool), pytest.param(*tool, id=str(command)))
    return shown.values()


@pytest.mark.parametrize('program, arguments', tools_shown())
def test_tool_understands_the_arguments_shown(program, arguments, monkeypatch):
    ended = parse(program, arguments, monkeypatch)
    assert isinstance(ended, Parsed), f'exit status {ended.code}'
    args = vars(ended.args[0])
    if str(args.get('config', '')).startswith('configs/'):
        assert (ROOT / args['config']).exists()
        if args.get('cfg_options'):
            override(read_config(ROOT / args['config']), args['cfg_options'])


def test_targets_shown_are_in_the_makefile():
    makefile = (ROOT / 'Makefile').read_text()
    shown = {
        word
        for command in COMMANDS
        for words in words_of(command.line) if words[0] == 'make'
        for word in words[1:]
        if not word.startswith('-') and '=' not in word and not word.isdigit()
    }
    assert len(shown) > 5
    assert not [x for x in shown if not re.search(f'^{x}:', makefile, re.M)]


def test_modules_and_tests_shown_exist():
    count = 0
    for command in COMMANDS:
        for words in words_of(command.line):
            if words[:2] != ['python', '-m']:
                continue
            assert find_spec(words[2]) or words[2] in ('build', ), command
            for word in words[3:]:
                if word.startswith('tests/'):
                    count += 1
                    assert (ROOT / word).exists(), command
    assert count > 5
