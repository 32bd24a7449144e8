"""Published weights from the caches of the hubs, or through the network.

The libraries' own code looks and downloads, into their own caches. With
`HF_HUB_OFFLINE=1` nothing is downloaded.
"""
import os
from pathlib import Path
from urllib.parse import urlparse

import torch

from mmfd.errors import Refused
from mmfd.hosts.lookup import find
from mmfd.networks.huggingface_files import CARD, CONFIG, PROCESSOR
from mmfd.weights.weight_files import IN_FOLDER, INDEX, shard_names

OFFLINE = 'HF_HUB_OFFLINE is set'
BRING_FILE = 'Bring that file, and name it after the network, as NAME=FILE'
BRING_FOLDER = ('Bring the files of that repository in a folder, and name '
                'this, as hf:FOLDER')
# What a folder of the hub has beside its weights
DESCRIPTIONS = CONFIG, PROCESSOR, CARD


def file_of(repository, names=IN_FOLDER):
    """A weights file of a repository of the Hugging Face hub.

    Args:
        repository (str): `timm/vit_small_patch14_dinov2.lvd142m`.
        names (Sequence[str]): of which the first that there is is taken.

    Returns:
        str: its path in the hub's cache.

    Raises:
        Refused: if it is not in the cache and cannot be downloaded.
    """
    for name in names:
        path = _download(repository, name)
        if path:
            if name.endswith(INDEX):
                for shard in shard_names(Path(path)):
                    _download(repository, shard)
            return path
    raise Refused(f'{repository} on the Hugging Face hub has none of '
                  f'{", ".join(names)}')


def folder_of(repository):
    """The folder of a repository in the hub's cache, with its description.

    Its weights are not downloaded.

    Raises:
        Refused: if it is not in the cache and cannot be downloaded.
    """
    paths = [
        _download(repository, name, bring=BRING_FOLDER)
        for name in DESCRIPTIONS
    ]
    if not paths[0]:
        raise Refused(f'{repository} on the Hugging Face hub has no '
                      f'{CONFIG}: its network is not of transformers')
    return str(Path(paths[0]).parent)


def _download(repository, name, bring=BRING_FILE):
    """Path of a file in the cache; None if the repository has none."""
    hub = find('huggingface_hub')
    if hub is None:
        raise Refused(f'{repository} needs: pip install huggingface_hub')
    errors = hub.errors
    repository, _, revision = repository.partition('@')
    try:
        return hub.hf_hub_download(repository, name, revision=revision or None)
    except errors.LocalEntryNotFoundError as error:
        if name in (CONFIG, IN_FOLDER[0]):
            reason = OFFLINE if hub.constants.HF_HUB_OFFLINE else error
            raise _offline(f'{name} of {repository}, on the Hugging Face hub,',
                           reason, bring) from error
        return None
    except errors.EntryNotFoundError:
        return None
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise _offline(f'{name} of {repository}, on the Hugging Face hub,',
                       error, bring) from error


def file_at(url):
    """A file that PyTorch's hub has at an address: its path in the cache.

    Raises:
        Refused: if it is not in the cache and cannot be downloaded.
    """
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    path = folder / os.path.basename(urlparse(url).path)
    if path.is_file():
        return str(path)
    if os.environ.get('HF_HUB_OFFLINE',
                      '0').upper() in ('1', 'ON', 'YES', 'TRUE'):
        raise _offline(url, OFFLINE)
    prefix = torch.hub.HASH_REGEX.search(path.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), prefix and prefix[1], progress=False)
    except (OSError, RuntimeError) as error:
        raise _offline(url, error) from error
    return str(path)


def _offline(what, error, bring=BRING_FILE):
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return Refused(f'{what} is not in the cache and cannot be downloaded: '
                   f'{reason.rstrip(".")}. {bring}')
