"""All that shapes a dataset, and the pure functions that say where each recording goes."""

import dataclasses
from collections.abc import Iterable, Iterator

from kws_model.feature_spec import FeatureSpec
from pipelines import classes, copies, corpus, read_ahead
from pipelines.classes import ClassRule
from pipelines.copies import CopyRule
from pipelines.corpus import Recording
from pipelines.shard_plan import EXCLUDED, Plan, ShardKey, Sizing, make_plan, order_key
from pipelines.splits import SplitRule

Counts = Iterable[tuple[tuple[str, str], int]]  # ((split, word), recordings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a dataset is made from, how, and where."""

    source: str
    output: str
    name: str
    spec: FeatureSpec
    split_rule: SplitRule = dataclasses.field(default_factory=SplitRule)
    class_rule: ClassRule = dataclasses.field(default_factory=ClassRule)
    copy_rule: CopyRule = dataclasses.field(default_factory=CopyRule)
    sizing: Sizing = dataclasses.field(default_factory=Sizing)
    seed: int = 0
    drop_duplicates: bool = False
    max_seconds: float = 600.0
    max_failure_fraction: float = 0.01
    verify: bool = False


def list_placed(job: Job) -> Iterator[Recording]:
    """Every recording of the source, placed in its split or excluded with the reason."""
    return (place(recording, job) for recording in corpus.list_recordings(job.source))


def place(recording: Recording, job: Job) -> Recording:
    """Places a recording in its split, or in `excluded`, with the reason."""
    if not recording.exclusion:
        split = job.split_rule.of(recording, root=job.source, seed=job.seed)
        if split:
            return recording._replace(split=split)
        recording = recording._replace(exclusion="no_split")
    return recording._replace(split=EXCLUDED)


def content_key(recording: Recording) -> str:
    """What recordings share that are equal byte for byte, in the same segment.

    What is excluded, or can't be read, shares it with nothing.
    """
    if recording.split != EXCLUDED and (checksum := read_ahead.checksum(recording.path)):
        return f"{checksum}/{recording.start_s}/{recording.end_s}"
    return f"id/{recording.id}/{recording.path}"


def as_duplicate(recording: Recording) -> Recording:
    """The recording, excluded because another one has its content."""
    return recording._replace(split=EXCLUDED, exclusion="duplicate")


def split_and_word(recording: Recording) -> tuple[str, str]:
    """What is counted to make the plan."""
    return recording.split, recording.label


def plan_dataset(counts: Counts, noises: Iterable[Recording], job: Job) -> Plan:
    """The plan of the counted recordings; `noises` are those of `_background_noise_`."""
    shares = classes.share_out(counts, job.class_rule, noises=noises, source=job.source)
    return make_plan(
        shares,
        sizing=job.sizing,
        clip_bytes=record_bytes(job.spec),
        train_copies=job.copy_rule.copies,
    )


def record_bytes(spec: FeatureSpec) -> int:
    """Size of one record, about: the feature, and some 130 bytes of names, tags and checksums."""
    return spec.num_bytes + 130


def records_of(recording: Recording, job: Job, plan: Plan) -> Iterator[tuple[ShardKey, Recording]]:
    """The record of a recording, and those of its copies, keyed by the shards they fall into."""
    classed = classes.classify(recording, plan, seed=job.seed)
    for record in copies.with_copies(classed, job.copy_rule):
        yield plan.shard_of(record.split, order_key(record.id, job.seed)), record


def silences(job: Job, plan: Plan) -> Iterator[tuple[ShardKey, Recording]]:
    """The clips of silence that the plan foresees, keyed likewise."""
    for record in classes.silences(plan, seed=job.seed):
        yield plan.shard_of(record.split, order_key(record.id, job.seed)), record
