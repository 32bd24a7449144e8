"""Imports between the rooms of mmfd point one way, as docs/design.md says.

A room is a folder of `mmfd/` or a file at its top.
"""
import re
from pathlib import Path

from helpers.imports import imported

DESIGN = Path('docs/design.md')
BESIDE = {'tools', 'demo', 'evidence'}  # not in mmfd/
UNORDERED = {'__init__', '__main__', 'former_names'}  # empty, or they forward


def order():
    """Room -> row in the list of design.md, the lowest first."""
    text = DESIGN.read_text().split('## Who imports whom\n')[1]
    rows = re.search(r'(?: {4}.+\n)+', text)[0].splitlines()
    return {
        room: row
        for row, names in enumerate(rows)
        for room in names.split()
    }


def files():
    """(room, path) of every file of mmfd."""
    for path in sorted(Path('mmfd').rglob('*.py')):
        if '.mim' not in path.parts:
            yield path.relative_to('mmfd').parts[0].removesuffix('.py'), path


def room_of(name):
    """The room of mmfd that an imported name is in, or None."""
    library, *rest = name.split('.')
    return rest[0] if library == 'mmfd' and rest else None


def test_imports_between_rooms_point_one_way():
    row, backward = order(), []
    for room, path in files():
        for name in imported(path):
            other = room_of(name)
            if room in UNORDERED or other == room or other not in row:
                continue
            if row[other] >= row[room]:  # a neighbour is refused, too
                backward.append(f'{path}: {name}')
    assert not backward


def test_every_room_has_its_place_in_the_order():
    assert {room for room, _ in files()} - UNORDERED == order().keys() - BESIDE


def test_table_of_rooms_names_all_folders_and_only_files_that_exist():
    table = re.findall(r'^\| `(?:mmfd/)?(\S+)` \| .* \| (.*) \|$',
                       DESIGN.read_text(), re.M)
    rooms = {
        Path('mmfd', name.removesuffix('*.py')): text
        for name, text in table
    }
    folders = {path.parent for _, path in files()}
    assert rooms.keys() == folders - {Path('mmfd/former_names')}
    named = [
        folder / f'{name}.py' for folder, text in rooms.items()
        for name in re.findall('`([a-z_]+)`', text)
    ]
    assert not [path for path in named if not path.is_file()]


def test_no_room_imports_a_segmentation_or_detection_library():
    assert not [(path, name) for room, path in files()
                for name in imported(path)
                if name.startswith(('mmseg', 'mmdet')) and room != 'hosts']


def test_mmfd_itself_imports_only_what_mmpretrain_needs_before_it():
    assert [*imported(Path('mmfd/__init__.py'))] == ['mmfd.hosts.multimodal']


def test_the_top_of_mmfd_is_the_method():
    assert len([*Path('mmfd').glob('*.py')]) <= 10


def test_no_test_imports_a_test():
    assert not [
        f'{path}: {name}' for path in sorted(Path('tests').rglob('*.py'))
        for name in imported(path)
        if any(part.startswith('test_')
               for part in name.split('.')[:-1]) or name.startswith(('test_',
                                                                     'tests.'))
    ]
