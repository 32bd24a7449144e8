"""Where private names of the host libraries may be used."""
import ast
from pathlib import Path

from helpers.imports import imported

# Methods that mmfd overrides and therefore calls too: `lookup.check_methods`
# refuses a host without them. And the documented methods of a namedtuple.
OVERRIDDEN = {
    '_apply', '_freeze_stages', '_save_checkpoint_with_step', '_replace',
    '_asdict'
}


def private_names(path):
    """Every name with a leading `_` that a file takes from another object."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id == 'self'
            if node.attr.startswith('_') and not own:
                yield node.attr
    for name in imported(path):
        yield from (p for p in name.split('.') if p.startswith('_'))


def test_private_names_of_the_host_libraries_are_used_in_hosts_alone():
    paths = [
        path for folder in ('mmfd', 'tools', 'demo')
        for path in Path(folder).rglob('*.py')
        if not {'hosts', '.mim'} & {*path.parts}
    ]
    assert len(paths) > 50
    assert not [(str(path), name) for path in paths
                for name in private_names(path)
                if name not in OVERRIDDEN and not name.endswith('__')]
