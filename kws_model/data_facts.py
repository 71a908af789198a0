"""What a dataset's manifest says: counts, leaks, levels, repairs, each a few NumPy operations.

>>> gather(DatasetInfo.read("datasets/sc")).identical.num_groups
94
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kws_model.dataset_info import SPLITS, DatasetInfo
from kws_model.manifest_table import CURE, NOT_NAMED, Ints, Manifest, encode

FLAGS = {
    "truncated": "the file holds fewer samples than it declares",
    "resampled": "its sample rate was changed",
    "mixed_down": "its channels were averaged",
    "padded": "zeros were added at its end",
    "trimmed": "its end was cut off",
}
_FORMATS = ("sample_rate_hz", "num_channels", "container", "encoding")
_COUNTED = (
    *("label", "speaker", "split", "status", "reason", *_FORMATS, *FLAGS),
    *("copy", "content_xxh3", "seconds", "peak_dbfs", "rms_dbfs"),
)
SILENCE = "_silence_"  # the label of clips that kws prepare cuts from background noise
# A sample of 32767/32768 lies 0.0003 dB under full scale.
BEYOND_DBFS = 0.001
NOT_MADE = ("rejected", "excluded")
WORST, EXAMPLES_PER_REASON, FILES_PER_GROUP = 10, 3, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speakers:
    """Who speaks; the last axis of every array is the split."""

    distinct: Ints  # [splits]
    known_clips: Ints  # [splits]
    unknown_clips: Ints  # [splits]: of nobody knows whom
    num_crossing: int  # speakers in more than one split
    crossing_clips: Ints  # [splits]: theirs
    worst: tuple[tuple[str, Ints], ...]  # those with the most clips
    total: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Recordings with the same bytes."""

    files: tuple[dict[str, str], ...]  # path, label, split of the first few
    num_clips: int
    num_labels: int
    num_splits: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repeats:
    """Groups of clips from the same bytes; the worst first: across splits, labels, then large."""

    num_groups: int
    num_clips: int
    split_groups: int
    split_clips: int
    label_groups: int
    label_clips: int
    worst: tuple[Group, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reason:
    """Why recordings were rejected or excluded, and the first of them."""

    status: str
    reason: str
    count: int
    examples: tuple[dict[str, str | None], ...]  # path, detail


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a data card tells in numbers."""

    info: DatasetInfo
    manifest: Manifest
    splits: tuple[str, ...]
    clips: Ints  # [labels, splits]
    recorded: Ints  # [splits]: clips that are neither copies nor silence; what follows is of them
    generated: int  # the others, the rejected included
    reasons: tuple[Reason, ...]
    speakers: Speakers
    identical: Repeats  # files with other paths
    cut_up: Repeats  # clips of one path: segments, or a recording that is listed twice
    mended: dict[str, Ints]  # by flag: [splits]
    formats: dict[str, tuple[tuple[str, int], ...]]  # most frequent first
    seconds: NDArray[np.float64]
    peak_dbfs: NDArray[np.float32]  # -inf for silence
    rms_dbfs: NDArray[np.float32]
    loudest: tuple[dict[str, Any], ...]  # path, peak_dbfs of those beyond full scale

    @property
    def made(self) -> int:
        """Clips in the shards."""
        return int(self.clips.sum())

    def total(self, status: str) -> int:
        """Recordings that were rejected, or excluded."""
        return sum(reason.count for reason in self.reasons if reason.status == status)

    @property
    def found(self) -> int:
        """Every recording of the corpus."""
        return self.made + self.total("rejected") + self.total("excluded") - self.generated

    @property
    def silent(self) -> int:
        """Clips of digital silence."""
        return int(np.isneginf(self.peak_dbfs).sum())

    @property
    def full_scale(self) -> int:
        """Clips that reach 0 dBFS: they may be clipped."""
        return int((np.abs(self.peak_dbfs) <= BEYOND_DBFS).sum())

    @property
    def beyond(self) -> int:
        """Clips beyond 0 dBFS, which floating-point files can hold."""
        return int((self.peak_dbfs > BEYOND_DBFS).sum())


def gather(info: DatasetInfo) -> Facts:
    """Reads the manifest and counts.

    Raises:
      ValueError: a part of it is missing or damaged, or it is not this dataset's.
    """
    manifest = Manifest.read(info, _COUNTED)
    splits = tuple(split for split in SPLITS if any(s.split == split for s in info.shards))
    split_of = _split_codes(manifest, splits)
    clips = _count_clips(manifest, info, split_of, len(splits))
    reasons = _reasons(manifest)
    _reconcile(info, splits, clips, reasons)
    generated = _generated(manifest)
    recorded = manifest.made & ~generated
    split_of = np.where(recorded, split_of, NOT_NAMED)
    identical, cut_up = _repeats(manifest, split_of)
    mended = {
        flag: _per_split(pc.fill_null(manifest.table[flag], False).to_numpy(), split_of, splits)
        for flag in FLAGS
    }
    return Facts(
        info=info,
        manifest=manifest,
        splits=splits,
        clips=clips,
        recorded=_per_split(recorded, split_of, splits),
        generated=int(generated.sum()),
        reasons=reasons,
        speakers=_speakers(manifest, split_of, splits),
        identical=identical,
        cut_up=cut_up,
        mended=mended,
        formats={column: _formats(manifest, column, recorded) for column in _FORMATS},
        seconds=manifest.numbers("seconds", recorded),
        peak_dbfs=manifest.numbers("peak_dbfs", recorded),
        rms_dbfs=manifest.numbers("rms_dbfs", recorded),
        loudest=_loudest(manifest, recorded),
    )


def _generated(manifest: Manifest) -> NDArray[np.bool_]:
    """Rows that are no recording of the corpus: augmented copies, and clips of silence."""
    copies = pc.fill_null(manifest.table["copy"], 0).to_numpy() > 0
    return copies | manifest.where("label", SILENCE)


def _split_codes(manifest: Manifest, splits: tuple[str, ...]) -> Ints:
    """Index in `splits` of each row that was made, else `NOT_NAMED`."""
    codes, names = manifest.names("split")
    return np.where(manifest.made, _index(names, splits)[codes], NOT_NAMED)


def _per_split(flags: NDArray[np.bool_], split_of: Ints, splits: tuple[str, ...]) -> Ints:
    return np.bincount(split_of[flags & (split_of >= 0)], minlength=len(splits))


def _index(names: Sequence[str], known: Sequence[str]) -> Ints:
    """Where each name stands among those known; `NOT_NAMED`, the last, stays as it is."""
    position = {name: index for index, name in enumerate(known)}
    return np.array([*(position.get(name, NOT_NAMED) for name in names), NOT_NAMED])


def _crosstab(first: Ints, second: Ints, shape: tuple[int, int]) -> Ints:
    """How often each pair of codes occurs; pairs with a null are left out."""
    both = (first >= 0) & (second >= 0)
    pairs = first[both].astype(np.int64) * shape[1] + second[both]
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def _count_clips(manifest: Manifest, info: DatasetInfo, split_of: Ints, num_splits: int) -> Ints:
    """[labels, splits]"""
    codes, names = manifest.names("label")
    labels = _index(names, info.labels)[codes]
    return _crosstab(labels, split_of, (len(info.labels), num_splits))


def _reasons(manifest: Manifest) -> tuple[Reason, ...]:
    codes, names = manifest.names("reason")
    found = []
    for status in NOT_MADE:
        with_status = manifest.where("status", status)
        counts = np.bincount(codes[with_status & (codes >= 0)], minlength=len(names))
        for code in sorted(np.flatnonzero(counts), key=lambda code: (-counts[code], names[code])):
            rows = np.flatnonzero(with_status & (codes == code))[:EXAMPLES_PER_REASON]
            examples = tuple(manifest.take(rows, ("path", "detail")).to_pylist())
            reason = Reason(
                status=status, reason=names[code], count=int(counts[code]), examples=examples
            )
            found.append(reason)
    return tuple(found)


def _reconcile(
    info: DatasetInfo, splits: tuple[str, ...], clips: Ints, reasons: tuple[Reason, ...]
) -> None:
    """Raises ValueError if the manifest's rows are not the recordings that kws prepare counted."""
    ours = {
        **{
            (split, label): int(clips[row, column])
            for row, label in enumerate(info.labels)
            for column, split in enumerate(splits)
            if clips[row, column]
        },
        **{(reason.status, reason.reason): reason.count for reason in reasons},
    }
    account = info.account
    groups = {**account.get("splits", {}), **{s: account.get(s, {}) for s in NOT_MADE}}
    theirs = {
        (group, name): count for group in groups for name, count in groups[group].items() if count
    }
    if ours != theirs:
        raise ValueError(
            f"the manifest of {info.folder} has {sum(ours.values()):,} recordings and kws prepare "
            f"counted {sum(theirs.values()):,}, or they differ in split, label or reason: {CURE}"
        )


def _speakers(manifest: Manifest, split_of: Ints, splits: tuple[str, ...]) -> Speakers:
    codes, names = manifest.names("speaker")
    clips = _crosstab(codes, split_of, (len(names), len(splits)))  # [speakers, splits]
    named = np.array([bool(name) for name in names], bool)
    crossing = named & ((clips > 0).sum(axis=1) > 1)
    order = np.argsort(-clips[crossing].sum(axis=1), kind="stable")[:WORST]
    order = np.flatnonzero(crossing)[order]
    return Speakers(
        distinct=(clips[named] > 0).sum(axis=0),
        known_clips=clips[named].sum(axis=0),
        unknown_clips=_per_split(np.ones(len(codes), bool), split_of, splits)
        - clips[named].sum(axis=0),
        num_crossing=int(crossing.sum()),
        crossing_clips=clips[crossing].sum(axis=0),
        worst=tuple((names[code], clips[code]) for code in order),
        total=int((clips[named] > 0).any(axis=1).sum()),
    )


def _repeats(manifest: Manifest, split_of: Ints) -> tuple[Repeats, Repeats]:
    """Clips from the same bytes: those of several files, and those of one."""
    codes, _ = encode(manifest.table["content_xxh3"])
    codes = np.where(split_of >= 0, codes, NOT_NAMED)
    often = np.bincount(codes[codes >= 0], minlength=1) > 1
    rows = np.flatnonzero((codes >= 0) & often[codes])
    _, group = np.unique(codes[rows], return_inverse=True)
    paths, _ = encode(manifest.take(rows, ("path",))["path"])
    labels, _ = manifest.names("label")
    several = _distinct(group, paths) > 1
    chosen = (several[group], ~several[group])
    identical, cut_up = (
        _repeat(manifest, rows[mine], group[mine], labels[rows[mine]], split_of[rows[mine]])
        for mine in chosen
    )
    return identical, cut_up


def _distinct(group: Ints, values: Ints) -> Ints:
    """How many different values each group has."""
    width = int(values.max(initial=0)) + 1
    pairs = np.unique(group * width + values)
    return np.bincount(pairs // width)


def _repeat(manifest: Manifest, rows: Ints, group: Ints, labels: Ints, splits: Ints) -> Repeats:
    _, group = np.unique(group, return_inverse=True)
    size = np.bincount(group)
    num_labels, num_splits = _distinct(group, labels), _distinct(group, splits)
    # lexsort is stable, and its last key counts most.
    worst = np.lexsort((-size, -num_labels, -num_splits))[:WORST]
    return Repeats(
        num_groups=len(size),
        num_clips=len(rows),
        split_groups=int((num_splits > 1).sum()),
        split_clips=int(size[num_splits > 1].sum()),
        label_groups=int((num_labels > 1).sum()),
        label_clips=int(size[num_labels > 1].sum()),
        worst=tuple(
            Group(
                files=_files(manifest, rows[group == index]),
                num_clips=int(size[index]),
                num_labels=int(num_labels[index]),
                num_splits=int(num_splits[index]),
            )
            for index in worst
        ),
    )


def _files(manifest: Manifest, rows: Ints) -> tuple[dict[str, str], ...]:
    columns = ("path", "label", "split")
    return tuple(manifest.take(rows[:FILES_PER_GROUP], columns).to_pylist())


def _formats(
    manifest: Manifest, column: str, recorded: NDArray[np.bool_]
) -> tuple[tuple[str, int], ...]:
    counts = pc.value_counts(manifest.table[column].filter(pa.array(recorded)))
    pairs = [(str(item["values"]), int(item["counts"])) for item in counts.to_pylist()]
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _loudest(manifest: Manifest, recorded: NDArray[np.bool_]) -> tuple[dict[str, Any], ...]:
    peaks = pc.fill_null(manifest.table["peak_dbfs"], -np.inf).to_numpy()
    peaks = np.where(recorded, peaks, -np.inf)
    rows = np.argsort(-peaks, kind="stable")[:WORST]
    rows = rows[peaks[rows] > BEYOND_DBFS]
    return tuple(manifest.take(rows, ("path", "encoding", "peak_dbfs")).to_pylist())
