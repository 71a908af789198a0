"""The account: one Parquet row for each recording found, made, rejected or excluded.

>>> pandas.read_parquet("datasets/sc/manifest")["status"].value_counts()
"""

from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = "manifest"


class Row(NamedTuple):
    """What became of one recording. Null where it does not apply or was not reached."""

    id: str
    path: str
    label: str
    word: str
    speaker: str
    split: str
    status: str
    reason: str | None = None
    detail: str | None = None
    copy: int = 0
    shard: str | None = None
    record: int | None = None
    offset: int | None = None
    length: int | None = None
    content_xxh3: bytes | None = None
    sample_rate_hz: int | None = None
    num_channels: int | None = None
    container: str | None = None
    encoding: str | None = None
    num_samples: int | None = None
    seconds: float | None = None
    truncated: bool | None = None
    resampled: bool | None = None
    mixed_down: bool | None = None
    padded: bool | None = None
    trimmed: bool | None = None
    peak_dbfs: float | None = None
    rms_dbfs: float | None = None


_STRING, _BOOL, _FLOAT = pa.string(), pa.bool_(), pa.float32()
_DESCRIPTIONS = {
    "id": (_STRING, "name of the recording, unique in its split"),
    "path": (_STRING, "where it was found"),
    "label": (_STRING, "its class"),
    "word": (_STRING, "what is said"),
    "speaker": (_STRING, "who speaks; empty if unknown"),
    "split": (_STRING, "train, validation, test; or excluded"),
    "status": (_STRING, "made, rejected (it could not be read) or excluded (it was not wanted)"),
    "reason": (_STRING, "why it was rejected or excluded"),
    "detail": (_STRING, "the same in a sentence"),
    "copy": (pa.int32(), "0, or the number of an augmented copy"),
    "shard": (_STRING, "the TFRecord file that holds it"),
    "record": (pa.int32(), "its index in the shard, from 0"),
    "offset": (pa.int64(), "byte of the shard where its record starts"),
    "length": (pa.int32(), "bytes of its record, checksums included"),
    "content_xxh3": (pa.binary(16), "XXH3-128 of the file's bytes: equal for identical files"),
    "sample_rate_hz": (pa.int32(), "of the file"),
    "num_channels": (pa.int32(), "of the file"),
    "container": (_STRING, "WAV, FLAC, ... as libsndfile names them"),
    "encoding": (_STRING, "PCM_16, FLOAT, ... as libsndfile names them"),
    "num_samples": (pa.int64(), "samples per channel in the file"),
    "seconds": (pa.float64(), "the file's length"),
    "truncated": (_BOOL, "the file holds fewer samples than it declares"),
    "resampled": (_BOOL, "its sample rate was changed"),
    "mixed_down": (_BOOL, "its channels were averaged"),
    "padded": (_BOOL, "zeros were added at its end"),
    "trimmed": (_BOOL, "its end was cut off"),
    "peak_dbfs": (_FLOAT, "greatest magnitude before padding, dB relative to full scale"),
    "rms_dbfs": (_FLOAT, "root mean square before padding, dB relative to full scale"),
}
SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": description})
        for name, (kind, description) in _DESCRIPTIONS.items()
    ]
)
assert SCHEMA.names == list(Row._fields)


def part_filename(split: str, index: int) -> str:
    """The manifest part that goes with a shard."""
    return f"{FOLDER}/part-{split}-{index:05d}.parquet"


def write_part(file: BinaryIO, rows: list[Row], *, proof: dict[bytes, bytes] | None = None) -> None:
    """Writes rows as a Parquet file; the same rows are always the same bytes.

    `proof` goes into the file's own metadata, which costs no other file: see `pipelines.resume`.
    """
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(proof))
    pq.write_table(table, file, compression="zstd")


def is_whole(path: str) -> bool:
    """Whether every column of a part can be read."""
    try:
        pq.read_table(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def read_proof(path: str) -> dict[bytes, bytes]:
    """The `proof` of a part; empty if there is no such file, or it is not whole."""
    try:
        return dict(pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return {}
