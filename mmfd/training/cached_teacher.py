"""Cache the teacher's targets on disk, for small data sets.

The key of a target is a hash of the pixels it was computed from. So no target
can be given to another crop, not even to the flipped one. Random crops, which
are new every time, would never be found: `StoredViews` limits their number.
"""
import hashlib
import json
import os
import random
import zlib
from contextlib import contextmanager
from math import prod
from pathlib import Path
from shutil import disk_usage

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.dist import is_main_process

from mmfd.errors import Refused
from mmfd.files import OWN_FILE, make_own_folder, read_own, written_whole
from mmfd.hosts import log, system
from mmfd.registry import MODELS, TRANSFORMS, branches_of, place_of
from mmfd.targets.normalizers import LayerNorm
from mmfd.teacher import Teacher

# Transforms that give the same pixels for the same image every time
DETERMINISTIC = ('LoadImage', 'StoredViews', 'Resize', 'ResizeEdge',
                 'CenterCrop', 'PackInputs')
VERIFIED = 4  # entries that are computed again and compared, at the start
# Greatest relative error (root mean square) of an entry, which is rounded and
# was computed in another batch
TOLERANCE = 0.05
INT8_STEPS = 16  # per standard deviation, so int8 reaches almost 8 of them
# Settings that `Teacher` does not have
CACHE_SETTINGS = ('folder', 'store', 'spare', 'shared')


@TRANSFORMS.register_module()
class StoredViews:
    """Limit random transforms to `views` fixed results for each image.

    Each time, one of the views is chosen at random. Its content depends only
    on its number and the file name of the image: they seed all random
    generators while the transforms run.

    Args:
        transforms (list[dict]): the random transforms.
        views (int): results of an image.
    """

    def __init__(self, transforms, views):
        self.pipeline = Compose(transforms)
        self.views = views

    def __call__(self, results):
        name = os.path.basename(results['img_path'])
        view = np.random.randint(self.views)
        digest = hashlib.blake2b(
            f'{view} {name}'.encode(errors='surrogateescape'), digest_size=4)
        with seeded(int.from_bytes(digest.digest(), 'big')):
            return self.pipeline(results)


@contextmanager
def seeded(seed):
    """Seed all random generators, and restore their states afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed), np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@MODELS.register_module()
class CachedTeacher(Teacher):
    """A `Teacher` that computes each target once and then reads it from disk.

    The pixels must return exactly: whole images, or `StoredViews` of them.
    A target is rounded when it is computed too, so a run that repeats some
    iterations is given the same ones. The first entries that are found are
    computed again and compared. If the disk is full or cannot be written to,
    the log says so once, and missing targets are computed. An entry of another
    shape, that is not finite or that somebody else has written is missing,
    too.

    Args:
        folder (str): where the targets of one teacher, in one precision, lie.
        store (str): `bfloat16`, or `int8` for whitened targets: in steps of
            1/16 standard deviation, clipped at 8.
        spare (float): GiB of the disk to leave free.
        shared (bool): use a folder that others can write to, and what they
            wrote: whoever can decides what the student learns.
        **teacher: arguments of `Teacher`.

    Raises:
        Refused: if the folder belongs to another teacher, others can write to
            it, or an entry is not what this teacher computes.
    """

    def __init__(self,
                 folder,
                 store='bfloat16',
                 spare=2.,
                 shared=False,
                 **teacher):
        super().__init__(**teacher)
        if store not in ('bfloat16', 'int8'):
            raise Refused(f"store={store!r}: set it to 'bfloat16' or "
                          "'int8'")
        normalizers = [
            part.normalize for part in self.neck.modules()
            if hasattr(part, 'normalize')
        ]
        white = [isinstance(each, LayerNorm) for each in normalizers]
        if store == 'int8' and not (white and all(white)):
            raise Refused(
                f"store='int8' is for whitened targets, and the neck is "
                f"{teacher['neck']['type']}: set store='bfloat16'")
        if not all(each.steady for each in normalizers):
            raise Refused(
                'teacher.neck.normalize goes on changing while the model '
                'trains, so a cached target would be of another time: compute '
                "its statistics once (mmfd statistics) and set "
                "'standardize', or use mmfd.Teacher")
        if teacher.get('drop_path_rate'):
            raise Refused(
                'a teacher with drop_path_rate gives another target each '
                'time: set it to 0, or use mmfd.Teacher')
        self.folder, self.store, self.spare = Path(folder), store, spare
        self.shared = shared
        self.config = teacher
        self.identity = None  # JSON of what the targets depend on
        self.writable, self.verified = True, 0
        self.shapes = {}  # of pixels (3, H, W) -> of their target (L, C)

    def _open(self):
        """Label the folder with this teacher, or refuse another one's."""
        self._check_folder()
        ours = json.loads(json.dumps(self._identity(), default=str))
        label = self.folder / 'teacher.json'
        theirs = _read_label(label, self.shared)
        if theirs is None and is_main_process():
            self._write_file(label, json.dumps(ours, indent=1).encode())
        if theirs is not None:
            for key in ours:
                if theirs.get(key) != ours[key]:
                    raise Refused(
                        f'the cache {self.folder} belongs to another teacher: '
                        f'its {key} is {theirs.get(key)!r}, here it is '
                        f'{ours[key]!r}. Set model.teacher.folder to another '
                        'folder, or remove this one')
        self.identity = json.dumps(ours, sort_keys=True)

    def _check_folder(self):
        """Refuse a folder in which others could put targets of their own."""
        if self.shared or not self.folder.exists():
            return
        if reason := system.other_writers(self.folder.stat()):
            raise Refused(
                f'the cache {self.folder} may hold what others wrote '
                f'({reason}), and so they would decide what the student '
                'learns: close it (chmod go-w), set model.teacher.shared=True '
                'if you trust all of them, as a group that shares its '
                'targets, or set model.teacher.folder to a folder of your '
                'own')

    def _identity(self):
        """What the targets depend on besides the pixels."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in (*self.backbone.state_dict().items(),
                             *self.neck.state_dict().items()):
            digest.update(name.encode())
            values = tensor.detach().cpu().reshape(-1).view(torch.uint8)
            digest.update(values.numpy().data)
        return dict(
            checkpoint=os.path.basename(self.config['checkpoint']),
            weights=digest.hexdigest(),
            backbone=self.config['backbone'],
            normalize=self.config.get('normalize')
            or self.backbone.facts.statistics(),
            neck=self.config['neck'],
            img_size=self.config.get('img_size'),
            store=self.store)

    @torch.no_grad()
    def forward(self, pixels):
        """Pixels (B, 3, H, W) RGB 0-255 to the target (B, L, C)."""
        if self.identity is None:
            self._open()
        keys = self._keys(pixels)
        size = pixels.shape[1:]
        targets = [self._read(key, self.shapes.get(size)) for key in keys]
        missing = [i for i, target in enumerate(targets) if target is None]
        if self.verified < VERIFIED or size not in self.shapes:
            missing = range(len(keys))  # compute all, to compare
        if not missing:
            return torch.stack(targets).to(pixels.device)
        computed = super().forward(pixels[list(missing)])
        self.shapes[size] = computed.shape[1:]
        for i, target in zip(missing, computed.cpu()):
            if targets[i] is None or targets[i].shape != target.shape:
                targets[i] = self._rounded(target)
                self._write(keys[i], targets[i])
            else:
                self._verify(keys[i], targets[i], target)
        return torch.stack(targets).to(pixels.device)

    def _keys(self, pixels):
        """Hash each image with its size, the precision and the teacher."""
        device = pixels.device.type
        dtype = (
            torch.get_autocast_dtype(device)
            if torch.is_autocast_enabled(device) else torch.float32)
        exact = pixels.to(torch.uint8)
        images = exact if torch.equal(exact.to(pixels.dtype),
                                      pixels) else pixels
        images = images.cpu().contiguous().numpy()
        tail = f'{images.shape[1:]} {dtype} {self.identity}'.encode()
        return [
            hashlib.blake2b(image.tobytes() + tail,
                            digest_size=16).hexdigest() for image in images
        ]

    def _path(self, key):
        return self.folder / key[:2] / key[2:]

    def _read(self, key, shape):
        """A target (L, C) in fp32; None if it is missing or not sound.

        Args:
            shape (torch.Size): that it must have, None if any.
        """
        data = read_own(self._path(key), self.shared) or b''
        header, values, checksum = data[:8], data[8:-4], data[-4:]
        if len(data) < 12 or zlib.crc32(values).to_bytes(4, 'big') != checksum:
            return None
        dtype = getattr(torch, self.store)
        found = np.frombuffer(header, '<u4').tolist()  # L, C
        if not 0 < prod(found) * dtype.itemsize == len(values):
            return None
        tokens = torch.frombuffer(
            bytearray(values), dtype=dtype).float().view(found)
        if shape not in (None, tokens.shape) or not tokens.isfinite().all():
            return None
        return tokens / INT8_STEPS if self.store == 'int8' else tokens

    def _rounded(self, target):
        """A target (L, C) as it is read, before it is written."""
        if self.store == 'int8':
            return (target * INT8_STEPS).round().clamp(-127, 127) / INT8_STEPS
        return target.to(getattr(torch, self.store)).float()

    def _write(self, key, target):
        if not target.isfinite().all():
            return
        if self.store == 'int8':
            target = target * INT8_STEPS
        values = target.to(getattr(torch, self.store)).contiguous()
        values = values.view(torch.uint8).numpy().tobytes()
        shape = np.array(target.shape, '<u4').tobytes()
        checksum = zlib.crc32(values).to_bytes(4, 'big')
        self._write_file(self._path(key), shape + values + checksum)

    def _write_file(self, path, data):
        """Write a file, until that fails for the first time."""
        if not self.writable:
            return
        try:
            self._make_folder(path.parent)
            if disk_usage(self.folder).free < self.spare * 2**30:
                raise OSError(f'less than {self.spare:g} GiB are free')
            # not durable: a damaged entry is recognised and computed again
            with written_whole(path, durable=False, mode=OWN_FILE) as part:
                part.write_bytes(data)
        except OSError as error:
            self.writable = False
            log.warn(
                f'no more targets are written to the cache {self.folder}: '
                f'{error.strerror or error}. Training continues; the teacher '
                'computes missing targets')

    def _make_folder(self, path):
        if self.shared:  # with the permissions that the group has chosen
            path.mkdir(parents=True, exist_ok=True)
        else:
            make_own_folder(path)

    def _verify(self, key, stored, target):
        """Refuse an entry that this teacher would not compute."""
        self.verified += 1
        error = (stored - target).norm() / target.norm()
        if not error <= TOLERANCE:
            raise Refused(
                f'entry {key} of the cache {self.folder} is not what its '
                f'teacher computes: the relative error is {error:.1%}, and '
                f'rounding explains at most {TOLERANCE:.0%}. Remove the '
                'folder')


def _read_label(path, shared):
    """What a cache says of its teacher; None if it has no readable label."""
    try:
        label = json.loads(read_own(path, shared) or b'')
    except (ValueError, RecursionError):
        return None
    return label if isinstance(label, dict) else None


def without_cache(teacher):
    """The config of the `Teacher` whose targets a teacher's config caches."""
    settings = {k: teacher[k] for k in teacher if k not in CACHE_SETTINGS}
    if settings.get('type') == 'mmfd.CachedTeacher':
        settings['type'] = 'mmfd.Teacher'
    return type(teacher)(settings)


def check_pipeline(cfg):
    """Refuse to cache targets of random crops, which never return.

    Args:
        cfg (Config): of a training run, with any teacher or none.

    Raises:
        Refused: names the transform.
    """
    cached = [
        place_of(name) for name, branch in branches_of(cfg.model).items()
        if (branch['teacher'] or {}).get('type') == 'mmfd.CachedTeacher'
    ]
    if not cached:
        return
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type.split('.')[-1] not in DETERMINISTIC:
            raise Refused(
                'mmfd.CachedTeacher needs the same pixels again and again, '
                f'and {step.type} may change them each time: put it into '
                'dict(type=\'mmfd.StoredViews\', views=..., transforms=[...]) '
                'of train_dataloader.dataset.pipeline, or set '
                f'{cached[0]}.teacher.type=mmfd.Teacher')
