"""The files of a folder as the Hugging Face hub has them, read as data."""
import json
import re
from pathlib import Path

from mmfd import files
from mmfd.errors import Refused
from mmfd.weights import weight_files
from mmfd.weights.memory_budget import MemoryBudget

CONFIG, CARD = 'config.json', 'README.md'
PROCESSOR = 'preprocessor_config.json'


def read(folder):
    """What a folder says of its network.

    Args:
        folder (str): with `config.json`, and perhaps
            `preprocessor_config.json` and `README.md`.

    Returns:
        tuple: the config (dict), and facts (dict) beside it: `name`; `mean`
        and `std` (RGB, 0-255); `licence`.

    Raises:
        Refused: if there is no config, or a file is damaged.
    """
    folder = snapshot(folder)
    config = read_json(folder / CONFIG)
    said = dict(name=f'hf:{name_of(folder, config)}')
    if (folder / PROCESSOR).is_file():
        said.update(_statistics(folder / PROCESSOR))
    if (folder / CARD).is_file():
        said.update(_licence(folder / CARD))
    return config, said


def snapshot(folder):
    """The folder with the files; of the hub's cache, its one snapshot.

    Raises:
        Refused: if it has no `config.json`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Refused(f'there is no folder {folder}: give one with '
                      f'{CONFIG}, as the Hugging Face hub has it')
    inner = [*folder.glob('snapshots/*')]
    if len(inner) == 1:
        folder = inner[0]
    if not (folder / CONFIG).is_file():
        raise Refused(f'{folder} has no {CONFIG}, which says of which network '
                      'its weights are: download it to that folder')
    return folder


def read_json(path):
    """A file of JSON that is one dict.

    Raises:
        Refused: if it is not.
    """
    try:
        with files.os_errors_refused(f'{path} cannot be read',
                                     'grant the right to'):
            text = path.read_bytes()
        MemoryBudget(len(text)).spend_on_json(text)
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f'{path} is no JSON: {error}') from error
    if not isinstance(content, dict):
        raise Refused(f'{path} holds a {type(content).__name__} and no dict')
    return content


def name_of(folder, config):
    """Its name on the hub, or that of the folder."""
    cached = re.fullmatch(r'models--(.+)--(.+)', folder.parent.parent.name)
    if cached:
        return '/'.join(cached.groups())
    return config.get('_name_or_path') or folder.resolve().name


def weights_in(folder):
    """The weights file in a folder.

    Raises:
        Refused: if there is none.
    """
    return str(weight_files.resolve(snapshot(folder))[0])


def _statistics(path):
    """Mean and std in pixels 0-255, which a processor scales first.

    Raises:
        Refused: if they are not three numbers each, or a deviation or the
            scale is 0.
    """
    processor = read_json(path)
    mean, std = processor.get('image_mean'), processor.get('image_std')
    scale = processor.get('rescale_factor', 1 /
                          255) if processor.get('do_rescale', True) else 1
    if processor.get('do_normalize', True) is False:
        mean, std = [0] * 3, [1] * 3
    if not (mean and std):
        return {}
    try:
        said = dict(
            mean=[number / scale for number in mean],
            std=[number / scale for number in std])
        right = len(mean) == len(std) == 3 and min(said['std']) > 0
    except (TypeError, ZeroDivisionError):
        right = False
    if not right:
        raise Refused(f'{path} says image_mean={mean}, image_std={std} and '
                      f'rescale_factor={scale}: 3 numbers each are expected, '
                      'of RGB, and a standard deviation and a factor above 0')
    return said


def _licence(card):
    """The licence in the lines at the top of a model card."""
    found = re.search(r'\A---\n(?:.*\n)*?license: *(\S.*)\n',
                      card.read_text(errors='replace')[:10_000])
    return dict(licence=found[1].strip()) if found else {}
