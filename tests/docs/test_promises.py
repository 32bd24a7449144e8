"""Each promise names tests that are there."""
import ast
import re

from helpers.pages import ROOT

# Files of tests, one after another, and what chooses among their tests
NAMED = re.compile(r'((?:tests/[\w/]+/?test_\w+\.py[ `,]*)+)'
                   r'(?:-k ("[^"]+"|\w+))?')


def names_in(path):
    """The names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text())
    return [
        node.name for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')
    ]


def test_tests_that_promises_name_are_there():
    named = NAMED.findall((ROOT / 'docs/promises.md').read_text())
    assert len(named) > 30
    missing = []
    for files, chosen in named:
        names = [
            name for path in re.findall(r'tests/\S+?\.py', files)
            for name in names_in(path)
        ]
        words = {*re.findall(r'\w+', chosen)} - {'or', 'and', 'not'}
        missing += [(files, word) for word in words or {'test'}
                    if not any(word in name for name in names)]
    assert not missing
