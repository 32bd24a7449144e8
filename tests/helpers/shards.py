"""The same images as files, in tar shards and in Parquet files."""
import io
import json
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image


def jpegs(count, seed=0, size=(12, 16)):
    """name -> bytes of small JPEGs of noise, in the order of their names."""
    rng = np.random.default_rng(seed)
    made = {}
    for i in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*size, 3),
                                     np.uint8)).save(file, 'JPEG')
        made[f'{i:06}.jpg'] = file.getvalue()
    return made


def write_folder(folder, images):
    folder.mkdir(parents=True)
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return folder


def write_tar(path, members, **settings):
    """Members: name -> bytes, or list of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = members.items() if isinstance(members, dict) else members
    with tarfile.open(path, 'w', **settings) as tar:
        for name, data in pairs:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_tars(folder, images, per_shard):
    names = [*images]
    for shard, start in enumerate(range(0, len(names), per_shard)):
        part = names[start:start + per_shard]
        write_tar(folder / f'{shard:04}.tar', {n: images[n] for n in part})
    return folder


def write_parquet(path, images, rows=7, labels=None, names=None):
    """A Parquet file as Hugging Face's `datasets` writes one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = dict(
        image=[dict(bytes=data, path=name) for name, data in images.items()])
    features = dict(image=dict(_type='Image'))
    if labels is not None:
        columns['label'] = labels
        features['label'] = dict(_type='ClassLabel', names=names)
    notes = json.dumps(dict(info=dict(features=features)))
    table = pyarrow.table(columns).replace_schema_metadata(
        dict(huggingface=notes))
    pyarrow.parquet.write_table(table, path, row_group_size=rows)
    return path


def write_parquets(folder, images, per_shard, rows=7):
    names = [*images]
    for shard, start in enumerate(range(0, len(names), per_shard)):
        part = {n: images[n] for n in names[start:start + per_shard]}
        write_parquet(folder / f'{shard:04}.parquet', part, rows)
    return folder
