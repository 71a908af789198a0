"""One record: encode it (no TensorFlow), decode it (no TensorFlow) and parse a batch (TensorFlow).

A record is a serialized `tf.train.Example` with five features: `id`, `speaker`, `word` (bytes),
`label` (int64) and, under the spec's feature name, the raw little-endian bytes of the feature;
with clips of natural lengths a sixth, `num_frames` (int64).
The wire format is written by hand: building a protobuf of 25,000 floats in Python costs 3 ms,
this 4 us. Entries are sorted by key, as in protobuf's deterministic serialization.

>>> pieces = encode(clip_id="go/1", speaker="s", word="go", label=3, name="mfcc", value=b"xy")
>>> decode(b"".join(pieces))
{'id': b'go/1', 'label': 3, 'mfcc': b'xy', 'speaker': b's', 'word': b'go'}
"""

from __future__ import annotations

import functools
import math
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from kws_model import tfrecord
from kws_model.feature_spec import FeatureSpec

if TYPE_CHECKING:
    import tensorflow as tf

# Field numbers and wire type 2 (length-delimited), from tensorflow/core/example/*.proto.
_FIELD_1 = (
    b"\x0a"  # Example.features, Features.feature, entry key, BytesList.value, Int64List.value
)
_FIELD_2 = b"\x12"  # entry value
_INT64_LIST = b"\x1a"  # Feature.int64_list; Feature.bytes_list is field 1


def encode(
    *,
    clip_id: str,
    speaker: str,
    word: str,
    label: int,
    name: str,
    value: bytes,
    num_frames: int | None = None,
) -> list[bytes]:
    """Serializes one example.

    Args:
      clip_id: the recording's unique name.
      speaker: who speaks; empty if unknown.
      word: the class's name.
      label: the class's index, not negative.
      name: the feature's name, such as `log_spectrogram`.
      value: the feature's bytes (`FeatureSpec.stored_dtype`, C order), or any buffer of bytes.
      num_frames: its length in time, for clips of natural lengths; else it is not stored.

    Returns:
      Pieces whose concatenation is the example; the last but a few is `value` itself, not copied.
    """
    entries: list[tuple[str, list[bytes]]] = [
        ("id", _bytes_entry("id", clip_id.encode())),
        ("label", _int_entry("label", label)),
        (name, _bytes_entry(name, value)),
        ("speaker", _bytes_entry("speaker", speaker.encode())),
        ("word", _bytes_entry("word", word.encode())),
    ]
    if num_frames is not None:
        entries.append(("num_frames", _int_entry("num_frames", num_frames)))
    pieces = [piece for _, entry in sorted(entries, key=lambda entry: entry[0]) for piece in entry]
    return [_FIELD_1 + _varint(sum(map(len, pieces))), *pieces]


def _int_entry(key: str, number: int) -> list[bytes]:
    value = _varint(number)
    packed = _FIELD_1 + _varint(len(value)) + value
    feature = _INT64_LIST + _varint(len(packed)) + packed
    return [_entry_prefix(key, len(feature)), feature]


def _bytes_entry(key: str, value: bytes) -> list[bytes]:
    return [_bytes_prefix(key, len(value)), value]


@functools.lru_cache(maxsize=4096)
def _bytes_prefix(key: str, length: int) -> bytes:
    """All that precedes a bytes value of `length` in its map entry."""
    value = _FIELD_1 + _varint(length)  # BytesList.value
    feature = _FIELD_1 + _varint(len(value) + length) + value  # Feature.bytes_list
    return _entry_prefix(key, len(feature) + length) + feature


@functools.lru_cache(maxsize=4096)
def _entry_prefix(key: str, feature_length: int) -> bytes:
    """All that precedes the Feature of `feature_length` bytes in its map entry."""
    name = key.encode()
    entry = _FIELD_1 + _varint(len(name)) + name + _FIELD_2 + _varint(feature_length)
    return _FIELD_1 + _varint(len(entry) + feature_length) + entry


def _varint(number: int) -> bytes:
    """Protocol Buffers' base-128 varint of a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode(record: bytes) -> dict[str, bytes | int]:
    """Inverse of `encode`: every feature by name, bytes or int. Sorted by name.

    Raises:
      ValueError: the bytes are not a record that `encode` makes.
    """
    try:
        (features,) = _fields(record)
        entries = (dict(_numbered(entry)) for entry in _fields(features))
        return {entry[1].decode(): _feature_value(entry[2]) for entry in entries}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError("not a record of a kws dataset") from error


def _feature_value(feature: bytes) -> bytes | int:
    ((kind, value_list),) = _numbered(feature)
    (value,) = _fields(value_list)
    return _read_varint(value, 0)[0] if kind == 3 else value


def _fields(message: bytes) -> list[bytes]:
    return [value for _, value in _numbered(message)]


def _numbered(message: bytes) -> list[tuple[int, bytes]]:
    """(field number, bytes) of each length-delimited field."""
    fields, position = [], 0
    while position < len(message):
        tag = message[position]
        length, start = _read_varint(message, position + 1)
        position = start + length
        if tag & 7 != 2 or position > len(message):
            raise ValueError(f"no field ends at byte {position}")
        fields.append((tag >> 3, message[start:position]))
    return fields


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """The varint at `position` and the position after it."""
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position


def decode_feature(record: bytes, spec: FeatureSpec) -> np.ndarray:
    """The feature of one record, `spec.stored_dtype` [*spec.shape].

    Raises:
      ValueError: the record does not hold that feature in that size.
    """
    return feature_array(decode(record), spec)


def feature_array(example: dict[str, bytes | int], spec: FeatureSpec) -> np.ndarray:
    """The feature of a decoded record; see `decode_feature`."""
    value = example.get(spec.feature)
    size = len(value) if isinstance(value, bytes) else 0
    if spec.clip_ms is None:
        num_frames = example.get("num_frames")
        shape = (num_frames if isinstance(num_frames, int) else 0, *spec.inner_shape)
    else:
        shape = spec.shape
    expected = math.prod(shape) * spec.stored_dtype.itemsize
    if not isinstance(value, bytes) or size != expected or not size:
        raise ValueError(
            f"expected a record with {expected} bytes of {spec.feature}; it has {size}"
        )
    return np.frombuffer(value, spec.stored_dtype).reshape(shape)


def read_example(folder: str | pathlib.Path, *, shard: str, offset: int) -> dict[str, bytes | int]:
    """Reads any record of a dataset by its row in the manifest, its checksums verified.

    >>> row = pandas.read_parquet("datasets/sc/manifest").query("status == 'made'").iloc[0]
    >>> record = read_example("datasets/sc", shard=row.shard, offset=int(row.offset))

    Raises:
      ValueError: no whole record of a dataset starts there.
      OSError: there is no such shard.
    """
    path = pathlib.Path(folder) / shard
    with open(path, "rb") as file:
        try:
            return decode(tfrecord.read_record(file, offset=offset))
        except EOFError:
            raise ValueError(f"{path} has no record at byte {offset}: it ends there") from None


def parse_batch(records: tf.Tensor, spec: FeatureSpec) -> dict[str, tf.Tensor]:
    """Parses a batch of serialized examples inside tf.data: one call of each op for all of them.

    Args:
      records: string [batch].
      spec: what the dataset was prepared with.

    Returns:
      `id`, `speaker`, `word`: string [batch]; `label`: int64 [batch]; and the feature under its
      name, in its stored dtype, [batch, *spec.shape]. Clips of natural lengths are padded at their
      ends, with zeros, to the longest of the batch; `num_frames`, int64 [batch], tells their own.
    """
    import tensorflow as tf  # Beam workers import this module and have no TensorFlow.

    strings = ("id", "speaker", "word", spec.feature)
    integers = ("label",) if spec.clip_ms is not None else ("label", "num_frames")
    schema = {
        **{name: tf.io.FixedLenFeature([], tf.string) for name in strings},
        **{name: tf.io.FixedLenFeature([], tf.int64) for name in integers},
    }
    example = tf.io.parse_example(records, schema)
    values, dtype = example[spec.feature], tf.as_dtype(spec.stored_dtype)
    if spec.clip_ms is None:
        longest = tf.reduce_max(tf.strings.length(values))
        # Padding, with zeros, has no kernel for float16: integers of its size have.
        integer = tf.uint16 if dtype.size == 2 else tf.int32
        flat = tf.bitcast(tf.io.decode_raw(values, integer, fixed_length=longest), dtype)
        shape = [tf.shape(records)[0], -1, *spec.inner_shape]
    else:
        flat = tf.io.decode_raw(values, dtype)
        # Not -1: two records of half the size would become one clip.
        shape = [tf.shape(records)[0], *spec.shape]
    example[spec.feature] = tf.reshape(flat, shape)  # [batch, frames, bins]
    return example
