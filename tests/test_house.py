"""Imports between the rooms of mmfd point one way."""
from pathlib import Path

from helpers.imports import imported

# From what changes rarely to what changes often: a row may import the rows
# above it and itself, but not a neighbour of its row
ORDER = [
    {'__init__', 'former_names'},
    {'errors'},
    {'hosts'},
    {'registry', 'files'},
    {'fast'},
    {'weights'},
    {'networks', 'data'},
    {'pixels', 'necks', 'head', 'teacher'},
    {'distillation'},
    {'training'},
    {'planning'},
    {'launch'},
    {'analysis'},
]
ROW = {room: row for row, rooms in enumerate(ORDER) for room in rooms}


def rooms():
    """(room, path) of every file of mmfd."""
    for path in sorted(Path('mmfd').rglob('*.py')):
        if '.mim' not in path.parts:
            yield path.relative_to('mmfd').parts[0].removesuffix('.py'), path


def test_imports_between_rooms_point_one_way():
    backward = []
    for room, path in rooms():
        if room == 'former_names':  # forwards to wherever a module is now
            continue
        for name in imported(path):
            library, _, rest = name.partition('.')
            other = rest.partition('.')[0] if library == 'mmfd' else room
            if other in ROW and other != room and ROW[other] >= ROW[room]:
                backward.append(f'{path}: {name}')
    assert not backward


def test_every_room_has_its_place_in_the_order():
    assert {room for room, _ in rooms()} == ROW.keys()


def test_no_room_imports_a_segmentation_or_detection_library():
    hosts = {path for room, path in rooms() if room == 'hosts'}
    assert not [(path, name) for _, path in rooms() for name in imported(path)
                if name.startswith(('mmseg', 'mmdet')) and path not in hosts]


def test_mmfd_itself_imports_nothing():
    assert [*imported(Path('mmfd/__init__.py'))] == []


def test_the_top_of_mmfd_is_the_method():
    assert len([*Path('mmfd').glob('*.py')]) <= 10
