"""Write one shard and its part of the manifest: the only stage that touches sound.

One element of the job is one shard, so memory is a few recordings and no tensor ever leaves here.
"""

import contextlib
import math
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import xxhash  # XXH3 measured 0.5 us a clip, SHA-256 25.
from numpy.typing import NDArray

from kws_model import example, tfrecord
from kws_model.dataset_info import Shard, shard_filename
from kws_model.frontend import Frontend
from pipelines import classes, clip, copies, manifest, read_ahead, resume, wav
from pipelines.corpus import Recording
from pipelines.job import Job
from pipelines.resume import ShardSummary
from pipelines.shard_plan import EXCLUDED, Plan, ShardKey, order_key

# Why a recording is rejected.
REASONS = {
    **wav.REASONS,
    **read_ahead.REASONS,
    "duplicate_id": "another recording, first by path, has the same id",
}

OFFENDERS_PER_REASON = 3
UNFINISHED = ".unfinished-"  # in the names of files that are not whole yet


def write_shard(
    key: ShardKey, recordings: Iterable[Recording], *, job: Job, plan: Plan
) -> ShardSummary:
    """Makes one shard: reads, decodes, computes and appends its recordings in hash order.

    Both files appear whole, by a rename, the manifest's part last; made again, they have the same
    bytes. A shard that is finished already, from the very same things, is left as it is.

    Args:
      key: which shard.
      recordings: those that fall into it, in any order.
      job: what it is made with.
      plan: how many shards there are, and the labels.

    Raises:
      OSError: a file can't be written (a full disk, say); nothing half-written is left.
    """
    ordered = sorted(recordings, key=lambda r: (order_key(r.id, job.seed), r.id, r.path))
    fingerprint = resume.Fingerprint(key[0], job, plan)
    for recording in ordered:
        fingerprint.add(recording)
    if summary := resume.finished(key, fingerprint.hexdigest(), job):
        return summary
    shard, rows = (None, _excluded_rows(ordered))
    if key[0] != EXCLUDED:
        shard, rows = _write_records(key, ordered, job, plan)
    summary = _summarize(shard, rows)
    proof = resume.proof(fingerprint.hexdigest(), summary)
    with whole_file(os.path.join(job.output, manifest.part_filename(*key))) as file:
        manifest.write_part(file, rows, proof=proof)
    return summary


def _write_records(
    key: ShardKey, ordered: list[Recording], job: Job, plan: Plan
) -> tuple[Shard, list[manifest.Row]]:
    split, index = key
    count = plan.num_shards[split]
    filename = shard_filename(name=job.name, split=split, index=index, count=count)
    with whole_file(os.path.join(job.output, filename)) as file:
        writer = _ShardWriter(file, filename, job, plan)
        rows = list(writer.append(ordered))
    return writer.shard(split, index), rows


class _ShardWriter:
    """Appends recordings to one TFRecord file."""

    def __init__(self, file: BinaryIO, filename: str, job: Job, plan: Plan) -> None:
        self._file, self._filename, self._job, self._plan = file, filename, job, plan
        self._label_index = {label: index for index, label in enumerate(plan.labels)}
        self._frontend = Frontend(job.spec)
        is_fixed = job.spec.clip_ms is not None
        shortest = 1 if job.spec.feature == "waveform" else job.spec.frame_length
        self._least_samples = job.spec.clip_samples if is_fixed else shortest
        self._most_samples = job.spec.clip_samples if is_fixed else math.inf
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
        if recording.label == classes.SILENCE:
            waveform = classes.silence(recording, self._job.spec, seed=self._job.seed)
            return self._made(recording, waveform, **clip.levels(waveform))
        job, spec = self._job, self._job.spec
        audio = wav.decode(content, max_seconds=job.max_seconds)
        made = clip.make_clip(
            audio, spec.sample_rate_hz, start_s=recording.start_s, end_s=recording.end_s
        )
        waveform = self._waveform(recording, made.mono)
        return self._made(
            recording,
            waveform,
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
            padded=len(made.mono) < self._least_samples,
            trimmed=len(made.mono) > self._most_samples,
            **clip.levels(waveform if recording.copy else made.mono),
        )

    def _made(self, recording: Recording, waveform: clip.Float32, **facts: Any) -> manifest.Row:
        """Appends the record of a waveform and returns its row."""
        offset, index = self._num_bytes, self._num_records
        self._write(recording, self._frontend.one(waveform))
        return manifest.Row(
            *_names(recording),
            "made",
            copy=recording.copy,
            shard=self._filename,
            record=index,
            offset=offset,
            length=self._num_bytes - offset,
            **facts,
        )

    def _waveform(self, recording: Recording, mono: clip.Float32) -> clip.Float32:
        """The clip as its feature is computed from, float32 [samples]."""
        job, spec = self._job, self._job.spec
        if recording.copy:
            rule, noises = job.copy_rule, self._plan.noises
            mono = copies.augment(mono, recording, rule, seed=job.seed, spec=spec, noises=noises)
        return mono if spec.clip_ms is None else clip.fit(mono, spec.clip_samples)

    def _write(self, recording: Recording, feature: NDArray[np.generic]) -> None:
        """Appends the recording's record."""
        spec = self._job.spec
        data = example.encode(
            clip_id=recording.id,
            speaker=recording.speaker,
            word=recording.word,
            label=self._label_index[recording.label],
            name=spec.feature,
            value=feature.tobytes(),
            num_frames=len(feature) if spec.clip_ms is None else None,
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


def _names(recording: Recording) -> tuple[str, str, str, str, str, str]:
    names = recording.id, recording.path, recording.label, recording.word
    return (*names, recording.speaker, recording.split)


def _row(
    recording: Recording, status: str, reason: str, *, detail: str | None = None
) -> manifest.Row:
    return manifest.Row(
        *_names(recording), status, reason=reason, detail=detail, copy=recording.copy
    )


def _excluded_rows(recordings: list[Recording]) -> list[manifest.Row]:
    return [_row(recording, "excluded", recording.exclusion) for recording in recordings]


def _summarize(shard: Shard | None, rows: list[manifest.Row]) -> ShardSummary:
    rejected = [row for row in rows if row.status == "rejected"]
    counts: Counter[str] = Counter()
    offenders = []
    for row in rejected:
        counts[row.reason or ""] += 1
        if counts[row.reason or ""] <= OFFENDERS_PER_REASON:
            offenders.append((row.reason or "", row.path, row.detail or ""))
    generated = {
        "copies": sum(row.copy > 0 for row in rows),
        "silence": sum(row.label == classes.SILENCE for row in rows),
    }
    return ShardSummary(
        shard=shard,
        made=Counter(row.label for row in rows if row.status == "made"),
        rejected=counts,
        excluded=Counter(row.reason or "" for row in rows if row.status == "excluded"),
        generated=Counter({what: count for what, count in generated.items() if count}),
        offenders=tuple(offenders),
    )
