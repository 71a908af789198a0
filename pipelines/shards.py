"""Write one shard and its part of the manifest: the only stage that touches sound.

One element of the job is one shard, so memory is a few recordings and no tensor ever leaves here.
"""

import contextlib
import dataclasses
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import xxhash  # XXH3 measured 0.5 us a clip, SHA-256 25.

from kws_model import example, tfrecord
from kws_model.dataset_info import Shard, shard_filename
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from pipelines import clip, manifest, read_ahead, wav
from pipelines.corpus import Recording
from pipelines.shard_plan import EXCLUDED, Plan, ShardKey, order_key

# Why a recording is rejected.
REASONS = {
    **wav.REASONS,
    **read_ahead.REASONS,
    "duplicate_id": "another recording, first by path, has the same id",
}

OFFENDERS_PER_REASON = 3
UNFINISHED = ".unfinished-"  # in the names of files that are not whole yet


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardJob:
    """What every shard is made with."""

    output: str
    name: str
    spec: FeatureSpec
    seed: int
    max_seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What one shard adds to the account: a kilobyte or so, whatever the shard holds.

    `made` counts clips by label, `rejected` and `excluded` by reason; `offenders` holds (reason,
    path, detail) of the first rejections of each reason. `shard` is None for excluded recordings.
    """

    shard: Shard | None
    made: Counter[str]
    rejected: Counter[str]
    excluded: Counter[str]
    offenders: tuple[tuple[str, str, str], ...]


def write_shard(
    key: ShardKey, recordings: Iterable[Recording], *, job: ShardJob, plan: Plan
) -> ShardSummary:
    """Makes one shard: reads, decodes, computes and appends its recordings in hash order.

    Both files appear whole, by a rename; made again, they have the same bytes.

    Args:
      key: which shard.
      recordings: those that fall into it, in any order.
      job: what it is made with.
      plan: how many shards there are, and the labels.

    Raises:
      OSError: a file can't be written (a full disk, say); nothing half-written is left.
    """
    split, index = key
    ordered = sorted(recordings, key=lambda r: (order_key(r.id, job.seed), r.id, r.path))
    shard = None
    if split == EXCLUDED:
        rows = [_row(recording, "excluded", recording.exclusion) for recording in ordered]
    else:
        count = plan.num_shards[split]
        filename = shard_filename(name=job.name, split=split, index=index, count=count)
        with whole_file(os.path.join(job.output, filename)) as file:
            writer = _ShardWriter(file, filename, job, plan)
            rows = list(writer.append(ordered))
        shard = writer.shard(split, index)
    with whole_file(os.path.join(job.output, manifest.part_filename(split, index))) as file:
        manifest.write_part(file, rows)
    return _summarize(shard, rows)


class _ShardWriter:
    """Appends recordings to one TFRecord file."""

    def __init__(self, file: BinaryIO, filename: str, job: ShardJob, plan: Plan) -> None:
        self._file, self._filename, self._job = file, filename, job
        self._label_index = {label: index for index, label in enumerate(plan.labels)}
        self._frontend = Frontend(job.spec)
        self._feature = np.empty(job.spec.shape, job.spec.stored_dtype)
        self._hash = xxhash.xxh3_128()
        self._num_bytes = self._num_records = 0

    def append(self, recordings: list[Recording]) -> Iterator[manifest.Row]:
        """Makes a record of each, in the order given, and yields its row."""
        contents = read_ahead.read_ahead([recording.path for recording in recordings])
        previous_id = None
        for recording, content in zip(recordings, contents, strict=True):
            try:
                if recording.id == previous_id:
                    raise wav.Rejected("duplicate_id", f"the id {recording.id} is not unique")
                previous_id = recording.id
                if isinstance(content, wav.Rejected):
                    raise content
                yield self._append(recording, content)
            except wav.Rejected as rejection:
                yield _row(recording, "rejected", rejection.reason, detail=rejection.detail)

    def _append(self, recording: Recording, content: bytes) -> manifest.Row:
        job, offset, index = self._job, self._num_bytes, self._num_records
        audio = wav.decode(content, max_seconds=job.max_seconds)
        made = clip.make_clip(audio, job.spec, start_s=recording.start_s, end_s=recording.end_s)
        self._frontend.one(made.waveform, self._feature)
        self._write(recording)
        return manifest.Row(
            *_names(recording),
            "made",
            shard=self._filename,
            record=index,
            offset=offset,
            length=self._num_bytes - offset,
            content_xxh3=xxhash.xxh3_128_digest(content),
            sample_rate_hz=audio.sample_rate_hz,
            num_channels=audio.samples.shape[1],
            container=audio.container,
            encoding=audio.encoding,
            num_samples=len(audio.samples),
            seconds=len(audio.samples) / audio.sample_rate_hz,
            truncated=audio.truncated,
            resampled=made.resampled,
            mixed_down=made.mixed_down,
            padded=made.padded,
            trimmed=made.trimmed,
            peak_dbfs=made.peak_dbfs,
            rms_dbfs=made.rms_dbfs,
        )

    def _write(self, recording: Recording) -> None:
        """Appends `self._feature` as the recording's record."""
        data = example.encode(
            clip_id=recording.id,
            speaker=recording.speaker,
            word=recording.label,
            label=self._label_index[recording.label],
            name=self._job.spec.feature,
            value=self._feature.tobytes(),
        )
        record = b"".join(tfrecord.frame(data))
        self._file.write(record)
        self._hash.update(record)
        self._num_bytes += len(record)
        self._num_records += 1

    def shard(self, split: str, index: int) -> Shard:
        """What has been written."""
        return Shard(
            split=split,
            index=index,
            filename=self._filename,
            num_examples=self._num_records,
            num_bytes=self._num_bytes,
            xxh3_128=self._hash.hexdigest(),
        )


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Yields a file to write under a temporary name, which is renamed if the block succeeds.

    The name is new for every attempt: a retried bundle may run beside one that is not dead yet.
    """
    temporary = f"{path}{UNFINISHED}{uuid.uuid4().hex}"
    try:
        with open(temporary, "xb", buffering=1 << 20) as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def _names(recording: Recording) -> tuple[str, str, str, str, str]:
    return recording.id, recording.path, recording.label, recording.speaker, recording.split


def _row(
    recording: Recording, status: str, reason: str, *, detail: str | None = None
) -> manifest.Row:
    return manifest.Row(*_names(recording), status, reason=reason, detail=detail)


def _summarize(shard: Shard | None, rows: list[manifest.Row]) -> ShardSummary:
    rejected = [row for row in rows if row.status == "rejected"]
    counts: Counter[str] = Counter()
    offenders = []
    for row in rejected:
        counts[row.reason or ""] += 1
        if counts[row.reason or ""] <= OFFENDERS_PER_REASON:
            offenders.append((row.reason or "", row.path, row.detail or ""))
    return ShardSummary(
        shard=shard,
        made=Counter(row.label for row in rows if row.status == "made"),
        rejected=counts,
        excluded=Counter(row.reason or "" for row in rows if row.status == "excluded"),
        offenders=tuple(offenders),
    )
