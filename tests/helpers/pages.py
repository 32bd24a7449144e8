"""The pages of the documentation, and the commands and links in them."""
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path for pattern in ('*.md', 'docs/*.md', 'docs/notebooks/*.md',
                         'configs/*/README.md', 'configs/fd/*/README.md',
                         'benchmarks/README.md', 'evidence/README.md')
    for path in ROOT.glob(pattern))
# What a line of a command begins with, after variables
COMMANDS = ('python', 'tools/', 'mmfd', 'make', 'mim', 'pip', 'git', 'source',
            'apt', 'tar', 'mkdir', 'cd', 'tensorboard', 'pre-commit')
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.M | re.S)
INDENTED = re.compile(r'(?:^|\n\n)((?: {4}.*\n)+)')
LINK = re.compile(r'\]\(([^)\s]+)\)')


class Command(NamedTuple):
    place: str  # of its page
    line: str  # as a shell takes it, without a comment

    def __str__(self):
        return f'{self.place}: {self.line}'


def commands():
    """Every command that a page, or the docstring of a config, shows."""
    for path in PAGES:
        text = path.read_text()
        blocks = [
            block for kind, block in FENCE.findall(text)
            if kind in ('bash', '')
        ]
        blocks += INDENTED.findall(FENCE.sub('', text))
        yield from _commands_in(blocks, path)
    for path in sorted(ROOT.glob('configs/*/*.py')):
        docstring = path.read_text().split('"""')[1]
        yield from _commands_in(INDENTED.findall(docstring), path)


def python_blocks(path):
    """The Python of a page: one text for each fenced block."""
    return [
        block for kind, block in FENCE.findall(path.read_text())
        if kind == 'python'
    ]


def links(path):
    """(file, anchor) of every link of a page that is not to a web site."""
    text = FENCE.sub('', path.read_text())
    for link in LINK.findall(re.sub('`[^`\n]*`', '', text)):
        if not re.match(r'\w+:', link):
            name, _, anchor = link.partition('#')
            yield (path.parent / name if name else path), anchor


def anchors(path):
    """The anchors that a code host gives to the headings of a page."""
    headings = re.findall('^#+ (.+)$', FENCE.sub('', path.read_text()), re.M)
    return {
        re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
        for heading in headings
    }


def _commands_in(blocks, path):
    for block in blocks:
        for line in block.replace('\\\n', ' ').splitlines():
            line = line.partition(' #')[0].strip().removeprefix('$ ')
            words = [word for word in line.split() if '=' not in word]
            if words and words[0].startswith(COMMANDS):
                yield Command(str(path.relative_to(ROOT)), line)
