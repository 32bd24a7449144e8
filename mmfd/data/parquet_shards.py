"""Images in Parquet files, in the layout of Hugging Face's data sets.

A column holds the files of images as bytes, alone or as `bytes` of a struct. A
file is read by row groups, so those that were read last are kept.
"""
import json
import zlib
from collections import OrderedDict

import numpy as np

from mmfd.data import stores
from mmfd.data.decode import BrokenImage
from mmfd.data.shards import NO_LABEL, Kind, Listed
from mmfd.data.stored import StoredImage
from mmfd.errors import Refused

ROW = np.dtype([('label', '<i4'), ('sum', '<u4')])  # of its row group
# Names of columns, in this order, if several hold bytes or labels
IMAGES = ('image', 'img', 'jpg', 'jpeg', 'png', 'webp', 'image_bytes', 'bytes')
LABELS = ('label', 'labels', 'cls', 'fine_label')
BYTES = 'binary', 'large_binary', 'binary_view'  # pyarrow's names
KEPT = 1 << 28  # bytes of row groups that a process keeps at most

# (file, row group, its sum) -> images, the last one used behind
_kept = OrderedDict()


class ParquetImage(StoredImage):
    """An image in a Parquet file: row group, its `_sum_of`, row."""

    def content(self, check):
        group, known, row = self.place
        images = _read_group(self.file, group, known)
        if not images[row].is_valid:
            raise BrokenImage('its row has no bytes, perhaps a path alone')
        data = images[row].as_buffer()
        check(data.size)
        return data.to_pybytes()


def list_shard(path):
    """The images of a Parquet file, `Listed`. A row group is a unit.

    Raises:
        Refused: if pyarrow is missing, if no column, or no single one, holds
            images, or if the system does not let it be read.
    """
    arrow, parquet = _libraries()
    try:
        file = parquet.ParquetFile(stores.open_file(path))
        name = _label_column(file.schema_arrow)
        labels = file.read([name], use_threads=False)[name] if name else None
    except (arrow.ArrowException, OSError) as error:
        if getattr(error, 'errno', None):  # not of pyarrow, and may pass
            with stores.errors_refused(path):
                raise
        reason = str(error).partition('\n')[0]
        return Listed(
            np.empty(0, ROW), [], [f'it cannot be read: {reason}'], [])
    _image_column(path, file.schema_arrow)
    counts = [
        file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)
    ]
    rows = np.full(sum(counts), NO_LABEL, ROW['label']).astype(ROW)
    rows['sum'] = np.repeat(
        np.array([_sum_of(file, group) for group in range(len(counts))],
                 np.uint32), counts)
    numbers = {}
    if labels is not None:
        classes = _class_names(file.schema_arrow, name)
        for place, value in enumerate(labels.to_pylist()):
            if value is not None and value != -1:  # of a test set's images
                label = _label(value, classes)
                rows['label'][place] = numbers.setdefault(label, len(numbers))
    return Listed(rows, counts, [], [*numbers])


def _label(value, classes):
    """The name of a label, by its number where the file says names."""
    known = classes and value in range(len(classes))
    return classes[value] if known else str(value)


def _image(path, group, place, row):
    return ParquetImage(f'{path}/{group}/{place}', path, group,
                        int(row['sum']), place)


def _libraries():
    """pyarrow, and its module for Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Refused('Parquet files are read by pyarrow: pip install '
                      'pyarrow') from None
    return pyarrow, pyarrow.parquet


def _sum_of(file, group):
    """A number for where the columns of a row group are; None if it is gone.

    Compressed images hardly ever take as many bytes as others.
    """
    if group >= file.num_row_groups:
        return None
    rows = file.metadata.row_group(group)
    columns = [rows.column(i) for i in range(rows.num_columns)]
    places = [(c.data_page_offset, c.total_compressed_size) for c in columns]
    return zlib.crc32(f'{rows.num_rows} {places}'.encode())


def _read_group(path, group, known):
    """The images of a row group, as an array of pyarrow.

    Raises:
        BrokenImage: if it is not the one of this sum.
    """
    key = path, group, known
    if key not in _kept:
        arrow, parquet = _libraries()
        file = parquet.ParquetFile(stores.open_file(path, keep=True))
        if _sum_of(file, group) != known:
            raise BrokenImage(f'{path} has changed since it was listed')
        name, *inner = _image_column(path, file.schema_arrow)
        table = file.read_row_group(
            group, columns=['.'.join([name, *inner])], use_threads=False)
        images = table.flatten()['.'.join([name, *inner])]
        # of any kind of bytes, and of more than 2 GB
        _kept[key] = images.cast(arrow.large_binary()).combine_chunks()
        while len(_kept) > 1 and sum(a.nbytes for a in _kept.values()) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _image_column(path, schema):
    """The names that lead to the bytes of images.

    Raises:
        Refused: if none does, or more than one.
    """
    arrow, _ = _libraries()

    def is_bytes(kind):
        values = kind.value_type if arrow.types.is_dictionary(kind) else kind
        return str(values) in BYTES

    found = {}
    for field in schema:
        if is_bytes(field.type):
            found[field.name] = (field.name, )
        elif arrow.types.is_struct(field.type):
            inner = field.type.get_field_index('bytes')
            if inner >= 0 and is_bytes(field.type.field(inner).type):
                found[field.name] = field.name, 'bytes'
    named = [name for name in IMAGES if name in found]
    if named or len(found) == 1:
        return found[(named or [*found])[0]]
    raise Refused(f'{path}: ' +
                  (f'{", ".join(found)} hold bytes' if found else
                   f'no column holds bytes, only {", ".join(schema.names)}') +
                  '; call the one with images image')


def _label_column(schema):
    """The column with one label an image, a number or text; None without."""
    arrow, _ = _libraries()
    return next((name for name in LABELS if name in schema.names
                 and not arrow.types.is_nested(schema.field(name).type)), None)


def _class_names(schema, column):
    """Names of classes by number, as Hugging Face's `datasets` writes them."""
    notes = (schema.metadata or {}).get(b'huggingface', b'{}')
    try:
        return json.loads(notes)['info']['features'][column]['names']
    except (ValueError, LookupError, TypeError):
        return None


KIND = Kind('.parquet', ROW, list_shard, _image)
