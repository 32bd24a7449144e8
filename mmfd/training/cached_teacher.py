"""Targets of small sets, kept on disk: a teacher that answers from memory.

A target is found by the pixels that it was made of. So none can be given to
another crop, a flipped one included; and crops that are new every time find
nothing, which `StoredViews` is for.
"""
import hashlib
import json
import logging
import os
import random
import zlib
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage
from uuid import uuid4

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mmfd.errors import Refused
from mmfd.registry import MODELS, TRANSFORMS
from mmfd.teacher import Teacher

# What gives the same pixels for the same image every time
STEADY = ('LoadImage', 'StoredViews', 'Resize', 'ResizeEdge', 'CenterCrop',
          'PackInputs')
CHECKED = 4  # entries that are computed again at the start
TOLERANCE = 0.05  # of their size, root mean square: rounding, another batch
SCALE = 16  # int8: white targets in steps of 1/16, to almost 8
OWN = ('folder', 'store', 'spare')  # keys beside those of the teacher


@TRANSFORMS.register_module()
class StoredViews:
    """Let random transforms show `views` faces of an image, and no others.

    Which one is drawn anew each time; what it is follows from its number and
    the image's file name, by replaying the seeds of all generators.
    """

    def __init__(self, transforms, views):
        self.pipeline = Compose(transforms)
        self.views = views

    def __call__(self, results):
        name = os.path.basename(results['img_path'])
        view = np.random.randint(self.views)
        digest = hashlib.blake2b(
            f'{view} {name}'.encode(errors='surrogateescape'), digest_size=4)
        with _seeded(int.from_bytes(digest.digest(), 'big')):
            return self.pipeline(results)


@contextmanager
def _seeded(seed):
    """All generators at a seed, and then where they were."""
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
    """A `Teacher` that computes a target once and then reads it.

    Whole images only, or `StoredViews` of them. The first entries that are
    found are computed again and compared. A disk that is full or cannot be
    written to is told once; what is not there is computed.

    Args:
        folder (str): of one teacher's targets, in one precision.
        store (str): `bfloat16`, or `int8` for white targets: 1/16 steps, cut
            at 8 standard deviations.
        spare (float): GiB of the disk that are left free.
        **teacher: of `Teacher`.

    Raises:
        Refused: if the folder is another teacher's, or an entry is not
            what this teacher computes.
    """

    def __init__(self, folder, store='bfloat16', spare=2., **teacher):
        super().__init__(**teacher)
        if store not in ('bfloat16', 'int8'):
            raise Refused(f"store={store!r}: set it to 'bfloat16' or "
                          "'int8'")
        if store == 'int8' and teacher['neck']['type'] != 'mmfd.WhiteningNeck':
            raise Refused(
                f"store='int8' has steps for white targets, and the neck is "
                f"{teacher['neck']['type']}: set store='bfloat16'")
        if teacher.get('drop_path_rate'):
            raise Refused('a teacher with drop_path_rate answers anew each '
                          'time: set it to 0, or take mmfd.Teacher')
        self.folder, self.store, self.spare = Path(folder), store, spare
        self.config = teacher
        self.whose, self.writes, self.checked = None, True, 0

    def _open(self):
        """Take the folder, or refuse that of another teacher."""
        mine = json.loads(json.dumps(self.identity(), default=str))
        label = self.folder / 'teacher.json'
        if not label.exists() and is_main_process():
            self._keep(label, json.dumps(mine, indent=1).encode())
        if label.exists():
            theirs = json.loads(label.read_text())
            changed = [key for key in mine if theirs.get(key) != mine[key]]
            if changed:
                raise Refused(
                    f'the cache {self.folder} is of another teacher: '
                    f'{_difference(changed[0], theirs, mine)}. Set '
                    'model.teacher.folder to another folder, or remove it')
        self.whose = json.dumps(mine, sort_keys=True)

    def identity(self):
        """What the targets depend on, beside the pixels."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in self.backbone.state_dict().items():
            digest.update(name.encode())
            values = tensor.detach().cpu().reshape(-1).view(torch.uint8)
            digest.update(values.numpy().data)
        return dict(
            checkpoint=os.path.basename(self.config['checkpoint']),
            weights=digest.hexdigest(),
            backbone=self.config['backbone'],
            normalize=self.config['normalize'],
            neck=self.config['neck'],
            img_size=self.img_size,
            store=self.store)

    @torch.no_grad()
    def forward(self, pixels):
        """Pixels (B, 3, H, W) RGB 0-255 to the target (B, L, C)."""
        if self.whose is None:
            self._open()
        keys = self._keys(pixels)
        found = [self._read(key) for key in keys]
        missing = [i for i, entry in enumerate(found) if entry is None]
        if self.checked < CHECKED and len(missing) < len(keys):
            missing = range(len(keys))  # the self-test
        if not missing:
            return torch.stack(found).to(pixels.device)
        fresh = super().forward(pixels[list(missing)])
        for i, target in zip(missing, fresh.cpu()):
            if found[i] is None:
                self._write(keys[i], target)
            else:
                self._compare(keys[i], found[i], target)
            found[i] = target
        return torch.stack(found).to(pixels.device)

    def _keys(self, pixels):
        """Of each image: its bytes, its size, and how and who computes."""
        device = pixels.device.type
        half = (
            torch.get_autocast_dtype(device)
            if torch.is_autocast_enabled(device) else torch.float32)
        exact = pixels.to(torch.uint8)
        images = exact if torch.equal(exact.to(pixels.dtype),
                                      pixels) else pixels
        images = images.cpu().contiguous().numpy()
        tail = f'{images.shape[1:]} {half} {self.whose}'.encode()
        return [
            hashlib.blake2b(image.tobytes() + tail,
                            digest_size=16).hexdigest() for image in images
        ]

    def _path(self, key):
        return self.folder / key[:2] / key[2:]

    def _read(self, key):
        """(L, C) fp32; None if it is not there, or not whole."""
        try:
            data = self._path(key).read_bytes()
        except OSError:
            return None
        shape, values, checksum = data[:8], data[8:-4], data[-4:]
        if len(data) < 12 or zlib.crc32(values).to_bytes(4, 'big') != checksum:
            return None
        tokens = torch.frombuffer(
            bytearray(values), dtype=getattr(torch, self.store))
        tokens = tokens.view(*np.frombuffer(shape, '<u4').tolist()).float()
        return tokens / SCALE if self.store == 'int8' else tokens

    def _write(self, key, target):
        if not target.isfinite().all():
            return
        if self.store == 'int8':
            target = (target * SCALE).round().clamp(-127, 127)
        values = target.to(getattr(torch, self.store)).contiguous()
        values = values.view(torch.uint8).numpy().tobytes()
        shape = np.array(target.shape, '<u4').tobytes()
        checksum = zlib.crc32(values).to_bytes(4, 'big')
        self._keep(self._path(key), shape + values + checksum)

    def _keep(self, path, data):
        """Write a file, until the disk takes no more."""
        if not self.writes:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if disk_usage(self.folder).free < self.spare * 2**30:
                raise OSError(f'less than {self.spare:g} GiB are free')
            _write(path, data)
        except OSError as error:
            self.writes = False
            print_log(
                f'the cache {self.folder} takes no more targets: '
                f'{error.strerror or error}. Training goes on; the teacher '
                'computes what is not there', 'current', logging.WARNING)

    def _compare(self, key, found, target):
        """Refuse an entry that this teacher would not make."""
        self.checked += 1
        apart = (found - target).norm() / target.norm()
        if not apart <= TOLERANCE:
            raise Refused(
                f'entry {key} of the cache {self.folder} is not what its '
                f'teacher computes: they are {apart:.1%} apart, and rounding '
                f'makes no more than {TOLERANCE:.0%}. Remove the folder')


def _write(path, data):
    """Whole or not at all, whoever else writes it."""
    beside = path.with_name(f'{path.name}.{uuid4().hex}')
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _difference(key, theirs, mine):
    return f'its {key} is {theirs.get(key)!r}, here it is {mine[key]!r}'


def live(teacher):
    """The config of the teacher that a cache stands for."""
    kept = {key: teacher[key] for key in teacher if key not in OWN}
    if kept.get('type') == 'mmfd.CachedTeacher':
        kept['type'] = 'mmfd.Teacher'
    return type(teacher)(kept)


def check(cfg):
    """Refuse to cache the targets of crops that never come again.

    Raises:
        Refused: naming the transform.
    """
    teacher = cfg.model.get('teacher') or {}
    if teacher.get('type') != 'mmfd.CachedTeacher':
        return
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type.split('.')[-1] not in STEADY:
            raise Refused(
                f'mmfd.CachedTeacher keeps targets of pixels that come again, '
                f'and {step.type} may change them each time: put it into '
                'dict(type=\'mmfd.StoredViews\', views=..., transforms=[...]) '
                'of train_dataloader.dataset.pipeline, or set '
                'model.teacher.type=mmfd.Teacher')
