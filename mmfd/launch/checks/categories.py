"""Check the categories of a COCO file, of which mmdet makes numbers.

A label is the place of its category in the file, among those that are classes
of the data set, whatever the order of the classes is.
"""
import json
import mmap
import os
import re

from mmfd.errors import Refused
from mmfd.weights.weight_files import first_few

LIST = re.compile(rb'"categories"\s*:\s*(?=\[)')
LONGEST = 16 << 20  # bytes of a list of categories


def check(dataset):
    """Check that each class has one category, in the order of the classes.

    Args:
        dataset (Dataset): of mmdet, with `cat_ids`.

    Raises:
        Refused: if a class has none or several, if two have one id, or if
            their order is another one.
    """
    names, ids = dataset.metainfo.get('classes') or (), dataset.cat_ids
    file = dataset.ann_file
    if len(ids) < len(names):
        raise Refused(f'{file} has categories for {len(ids)} of the '
                      f'{len(names)} classes ({first_few(names)}): set '
                      'metainfo.classes of every dataset to names of its '
                      'categories')
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise Refused(f'{file} has several categories of the id {twice[0]}: '
                      'give each category, and its boxes, an id of its own')
    if names and len(ids) > len(names):
        raise Refused(f'{file} has {len(ids)} categories for {len(names)} '
                      f'classes ({first_few(names)}), so several have one '
                      'name: give each category a name of its own, or the '
                      'boxes of both one category')
    ordered = [c['name'] for c in _categories(file) if c['id'] in {*ids}]
    if ordered != [*names] and {*ordered} == {*names}:
        raise Refused(
            f'{file} has the categories {first_few(ordered)}, and the classes '
            f'are {first_few(names)}; labels follow the order of the file: '
            'write its categories in the order of the classes, or set '
            'metainfo.classes of every dataset to the order of the file')


def _categories(path):
    """The categories of a COCO file: dicts; [] if they are not found.

    Such files have a gigabyte, which is not parsed once more.
    """
    if not os.path.isfile(path):
        return []
    with open(path, 'rb') as file, mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        places = [match.end() for match in LIST.finditer(data)]
        text = data[places[0]:places[0] + LONGEST] if len(places) == 1 else b''
    try:
        found, _ = json.JSONDecoder().raw_decode(text.decode(errors='ignore'))
    except ValueError:
        return []
    return [c for c in found if isinstance(c, dict) and {'id', 'name'} <= {*c}]
