"""Clips to look at and to hear: which ones, read by random access, drawn without matplotlib.

>>> examples, remark = choose(facts, per_class=3, corpus=None)
>>> gallery(examples, spec)
'<div class="examples">...'
"""

import dataclasses
import pathlib
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from kws_model import example
from kws_model.card_html import Html, data_uri, tag
from kws_model.data_facts import SILENCE, Facts
from kws_model.dataset_info import DatasetInfo
from kws_model.feature_spec import FeatureSpec
from kws_model.manifest_table import NOT_NAMED, Ints

# What keeps the page under 3 MB: about 8 kB a picture, and the recordings as base64.
MAX_EXAMPLES, WAV_BYTES, ALL_WAVS_BYTES = 120, 200_000, 1_000_000
PICTURE_COLUMNS, PICTURE_ROWS, PICTURE_COLORS = 120, 96, 48
_COLUMNS = ("id", "path", "label", "speaker", "split", "shard", "offset", "content_xxh3")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One clip to look at, and to hear if its recording is there."""

    id: str
    label: str
    speaker: str
    split: str
    feature: NDArray[Any]  # [*spec.shape]
    wav: bytes | None


def choose(facts: Facts, *, per_class: int, corpus: str | None) -> tuple[list[Example], str]:
    """The first clips of each label in the manifest, whose order is a hash's, and a remark.

    Raises:
      ValueError: a record is damaged, or not the one that the manifest names.
    """
    rows = _first_rows(facts, count=per_class)
    chosen = facts.manifest.take(rows, _COLUMNS).to_pylist()
    examples, heard, missing = [], 0, ""
    for row in chosen:
        path = find_recording(row["path"], facts, corpus)
        most = min(WAV_BYTES, ALL_WAVS_BYTES - heard)
        # Silence was cut from a recording of noise.
        wav = None if row["label"] == SILENCE else read_wav(path, row["content_xxh3"], most=most)
        heard += len(wav or b"")
        missing = missing or ("" if path.is_file() else str(path))
        examples.append(_read(facts.info, row, wav))
    remark = ""
    if missing:
        remark = f"Recordings can't be heard: {missing} is not there; give --corpus."
    elif any(clip.wav is None and clip.label != SILENCE for clip in examples):
        remark = (
            "Not every recording can be heard: the page stays small, and holds WAV files alone."
        )
    return examples, remark


def _first_rows(facts: Facts, *, count: int) -> Ints:
    """Every label's first row that was made, then every label's second ..., `MAX_EXAMPLES` of all.

    The order matters where not all can be shown or heard.
    """
    codes, names = facts.manifest.names("label")
    copies = facts.manifest.table["copy"].to_numpy() > 0
    rows = np.flatnonzero(facts.manifest.made & (codes != NOT_NAMED) & ~copies)
    order = np.argsort(codes[rows], kind="stable")
    rows, starts = rows[order], np.searchsorted(codes[rows[order]], range(len(names)))
    rank = np.arange(len(rows)) - starts[codes[rows]]
    rows, rank = rows[rank < count], rank[rank < count]
    return rows[np.argsort(rank, kind="stable")][:MAX_EXAMPLES]


def _read(info: DatasetInfo, row: dict[str, Any], wav: bytes | None) -> Example:
    record = example.read_example(info.folder, shard=row["shard"], offset=row["offset"])
    if record["id"] != row["id"].encode():
        raise ValueError(
            f"the record at byte {row['offset']} of {info.folder / row['shard']} is not "
            f"{row['id']}, as the manifest says: run kws prepare --overwrite"
        )
    return Example(
        id=row["id"],
        label=row["label"],
        speaker=row["speaker"],
        split=row["split"],
        feature=example.feature_array(record, info.spec),
        wav=wav,
    )


def find_recording(path: str, facts: Facts, corpus: str | None) -> pathlib.Path:
    """Where a recording should be; `corpus` takes the place of the folder it was found in."""
    if corpus is None:
        return pathlib.Path(path)
    source = pathlib.Path(facts.info.preparation.get("source", ""))
    for root in (source, source.parent):  # a table's paths are relative to its folder
        if pathlib.Path(path).is_relative_to(root):
            return pathlib.Path(corpus) / pathlib.Path(path).relative_to(root)
    return pathlib.Path(corpus) / pathlib.Path(path).name


def read_wav(path: pathlib.Path, content_xxh3: bytes | None, *, most: int) -> bytes | None:
    """A WAV file's bytes, if it is there, no larger than `most` and still what was prepared."""
    try:
        if not path.is_file() or path.stat().st_size > most:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    is_wav = content[:4] == b"RIFF" and content[8:12] == b"WAVE"
    return content if is_wav and xxhash.xxh3_128_digest(content) == content_xxh3 else None


# ----------------------------------------------------------------------------------- what is shown


def gallery(examples: Sequence[Example], spec: FeatureSpec) -> Html:
    """Every example with its picture and its sound, label by label."""
    pictures = draw([clip.feature for clip in examples], spec)
    by_label: dict[str, list[Html]] = {}
    for clip, picture in zip(examples, pictures, strict=True):
        by_label.setdefault(clip.label, []).append(_figure(clip, picture))
    blocks = (
        tag("div", tag("h3", label), tag("div", *figures, cls="row"))
        for label, figures in sorted(by_label.items())
    )
    return tag("div", *blocks, cls="examples")


def legend(spec: FeatureSpec) -> str:
    """How to read the pictures."""
    length = "each clip its own length" if spec.clip_ms is None else f"{spec.clip_ms / 1000:g} s"
    seconds = f"Time runs to the right, {length}. "
    return (
        seconds
        + {
            "log_spectrogram": f"Frequency runs up, 0 to {spec.sample_rate_hz / 2000:g} kHz; "
            "bright is loud, on one scale for all. ",
            "log_mel": f"Mel bins run up, {spec.lower_hz:g} to {spec.upper_edge_hz:g} Hz; "
            "bright is loud, on one scale for all. ",
            "mfcc": "Coefficients run up from the 0th; each on one scale for all. ",
            "waveform": "One scale for all. ",
        }[spec.feature]
    )


def _figure(clip: Example, picture: Html) -> Html:
    sound = ""
    if clip.wav is not None:
        source = data_uri("audio/wav", clip.wav)
        sound = Html(f'<audio controls preload="metadata" src="{source}"></audio>')
    who = f"speaker {clip.speaker}" if clip.speaker else "no known speaker"
    caption = tag("figcaption", f"{clip.split}, {who}", Html("<br>"), tag("code", clip.id))
    return tag("figure", picture, sound, caption)


def draw(features: Sequence[NDArray[Any]], spec: FeatureSpec) -> list[Html]:
    """A picture of each: time to the right, frequency up, colours or heights alike for all."""
    if spec.feature == "waveform":
        highest = max(float(np.abs(feature.astype(np.float32)).max()) for feature in features)
        return [_line(feature / (highest or 1.0)) for feature in features]
    images = [_pool(np.nan_to_num(feature.astype(np.float32))).T[::-1] for feature in features]
    axis = 1 if spec.feature == "mfcc" else None  # coefficients differ in size by far
    every = np.concatenate(images, axis=1)  # [rows, columns of all clips, of any length]
    low, high = np.percentile(every, (1, 99.8), axis=axis, keepdims=True)
    scaled = (np.clip((image - low) / np.maximum(high - low, 1e-6), 0, 1) for image in images)
    codes = [np.rint(image * (PICTURE_COLORS - 1)).astype(np.uint8) for image in scaled]
    sharp = " sharp" if len(every) < 48 else ""
    return [
        Html(f'<img class="feature{sharp}" alt="" src="{data_uri("image/png", png(image))}">')
        for image in codes
    ]


def _pool(feature: NDArray[Any]) -> NDArray[Any]:
    """Means over neighbours, so that no picture is larger than it is shown."""
    for axis, most in enumerate((PICTURE_COLUMNS, PICTURE_ROWS)):
        size = feature.shape[axis]
        if size > most:
            starts = np.arange(most) * size // most
            sums = np.add.reduceat(feature, starts, axis=axis)
            counts = np.diff(np.append(starts, size))
            feature = sums / (counts[:, None] if axis == 0 else counts)
    return feature


def png(codes: NDArray[np.uint8]) -> bytes:
    """Codes [rows, columns] below `PICTURE_COLORS` as a PNG with a palette (RFC 2083)."""
    rows, columns = codes.shape
    palette = np.empty((PICTURE_COLORS, 3))
    for channel, values in enumerate(zip(*_MAGMA, strict=True)):
        at = np.linspace(0, len(_MAGMA) - 1, PICTURE_COLORS)
        palette[:, channel] = np.interp(at, range(len(_MAGMA)), values)
    lines = np.pad(codes, ((0, 0), (1, 0))).tobytes()  # each begins with its filter, 0 for none
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.round().astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    framed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


# matplotlib's magma at ninths: perceptually even, and black where it is silent.
_MAGMA = (
    (0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122),
    (229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191),
)  # fmt: skip


def _line(waveform: NDArray[Any]) -> Html:
    """The band between the least and the greatest sample of each column, as SVG."""
    starts = np.unique(np.arange(PICTURE_COLUMNS) * len(waveform) // PICTURE_COLUMNS)
    upper = 50 - 48 * np.maximum.reduceat(waveform, starts)
    lower = 50.5 - 48 * np.minimum.reduceat(waveform, starts)
    around = [*enumerate(upper), *reversed([*enumerate(lower)])]
    points = " ".join(f"{x},{y:.1f}" for x, y in around)
    return Html(
        f'<svg class="feature" viewBox="0 0 {len(starts) - 1} 100" preserveAspectRatio="none">'
        f'<polygon points="{points}"/></svg>'
    )
