"""Which shards need not be made again: those that were finished from the very same things.

Every part of the manifest carries a proof: the fingerprint of all that shaped its shard, and the
shard's summary. A part is renamed into place after its shard, and one job at a time may write to a
folder, so a proof means a whole shard.
"""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import xxhash

from kws_model import frontend
from kws_model.dataset_info import Shard
from pipelines import manifest
from pipelines.corpus import Recording
from pipelines.job import (
    Job,
    as_duplicate,
    content_key,
    list_placed,
    plan_dataset,
    records_of,
    silences,
    split_and_word,
)
from pipelines.shard_plan import Plan, ShardKey

# Raise it when decoding, or what is stored beside the features, changes.
VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What one shard adds to the account: a kilobyte or so, whatever the shard holds.

    `made` counts clips by label, `rejected` and `excluded` by reason, `generated` what was not
    found but made (copies, silence); `offenders` holds (reason, path, detail) of the first
    rejections of each reason. `shard` is None for excluded recordings.
    """

    shard: Shard | None
    made: Counter[str]
    rejected: Counter[str]
    excluded: Counter[str]
    generated: Counter[str]
    offenders: tuple[tuple[str, str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values (`dataclasses.asdict` garbles a Counter)."""
        shard = dataclasses.asdict(self.shard) if self.shard else None
        return {**vars(self), "shard": shard}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ShardSummary":
        """Inverse of `to_dict`, after JSON."""
        shard, offenders = values.pop("shard"), values.pop("offenders")
        return cls(
            shard=Shard(**shard) if shard else None,
            offenders=tuple(tuple(offender) for offender in offenders),
            **{name: Counter(counts) for name, counts in values.items()},
        )


class Fingerprint:
    """All that shapes one shard, in 16 bytes, whatever the order that recordings come in."""

    def __init__(self, split: str, job: Job, plan: Plan) -> None:
        self._settings = settings_fingerprint(split, job, plan)
        self._sum = 0

    def add(self, recording: Recording) -> None:
        """Adds a recording: its names, and its file's size and time of change."""
        # A sum does not depend on the order, and counts what comes twice.
        fields = repr((*recording, *_size_and_time(recording.path)))
        self._sum += xxhash.xxh3_128_intdigest(fields.encode())

    def hexdigest(self) -> str:
        """32 hex digits."""
        return xxhash.xxh3_128_hexdigest(f"{self._settings}/{self._sum}".encode())


def settings_fingerprint(split: str, job: Job, plan: Plan) -> str:
    """What shapes every shard of a split alike: the spec, the plan, the seed and this code.

    Only what does: another number of mel bins leaves spectrograms as they are.
    """
    settings: dict[str, Any] = {
        "versions": (VERSION, frontend.VERSION),
        "spec": job.spec.shaping(),
        "seed": job.seed,
        "max_seconds": job.max_seconds,
        "labels": plan.labels,
        "num_shards": plan.num_shards[split],
        "name": job.name,
    }
    if split == "train" and job.copy_rule.copies:
        settings["copies"] = dataclasses.asdict(job.copy_rule)
        settings["noises"] = [(*noise, *_size_and_time(noise[1])) for noise in plan.noises]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _size_and_time(path: str) -> tuple[int, int]:
    """A file's bytes and time of change in ns; (-1, -1) if it is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def proof(fingerprint: str, summary: ShardSummary) -> dict[bytes, bytes]:
    """What a part of the manifest carries, for `finished` to find."""
    values = json.dumps(summary.to_dict(), sort_keys=True)
    return {b"kws_fingerprint": fingerprint.encode(), b"kws_summary": values.encode()}


def finished(key: ShardKey, fingerprint: str, job: Job) -> ShardSummary | None:
    """The summary of a shard that is finished and would be made the same; else None.

    With `job.verify` the shard's checksum is computed from its bytes, and the part read whole.
    """
    part = os.path.join(job.output, manifest.part_filename(*key))
    found = manifest.read_proof(part)
    if found.get(b"kws_fingerprint") != fingerprint.encode():
        return None
    if job.verify and not manifest.is_whole(part):
        return None
    summary = ShardSummary.from_dict(json.loads(found[b"kws_summary"]))
    return summary if summary.shard is None or _is_whole(summary.shard, job) else None


def _is_whole(shard: Shard, job: Job) -> bool:
    path = os.path.join(job.output, shard.filename)
    try:
        if os.path.getsize(path) != shard.num_bytes:
            return False
        return not job.verify or file_checksum(path) == shard.xxh3_128
    except OSError:
        return False


def file_checksum(path: str) -> str:
    """XXH3-128 of a file's bytes, in hex."""
    checksum = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            checksum.update(block)
    return checksum.hexdigest()


def count_changed_shards(job: Job) -> tuple[int, int]:
    """How many shards of a dataset would be made anew, and how many there are.

    Names are listed again for each purpose, and never held, so memory does not grow with them; nor
    is sound read, but to find duplicates.
    """
    firsts = first_of_each_content(job) if job.drop_duplicates else None
    counts = Counter(split_and_word(recording) for recording in _listed(job, firsts))
    noises = [r for r in list_placed(job) if r.exclusion == "background_noise"]
    plan = plan_dataset(counts.items(), noises, job)
    fingerprints = {key: Fingerprint(key[0], job, plan) for key in plan.shard_keys()}
    for recording in _listed(job, firsts):
        for key, record in records_of(recording, job, plan):
            fingerprints[key].add(record)
    for key, record in silences(job, plan):
        fingerprints[key].add(record)
    changed = [k for k, f in fingerprints.items() if finished(k, f.hexdigest(), job) is None]
    return len(changed), len(fingerprints)


def first_of_each_content(job: Job) -> dict[str, Recording]:
    """The recording that stands for each content, where duplicates are dropped."""
    firsts: dict[str, Recording] = {}
    for recording in list_placed(job):
        key = content_key(recording)
        firsts[key] = min(recording, firsts.get(key, recording))
    return firsts


def _listed(job: Job, firsts: dict[str, Recording] | None) -> Iterator[Recording]:
    """Every recording, placed; with `firsts`, those that have the same content excluded."""
    if firsts is None:
        yield from list_placed(job)
        return
    kept = set(firsts.values())
    for recording in list_placed(job):
        yield recording if recording in kept else as_duplicate(recording)
