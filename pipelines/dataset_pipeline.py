"""The whole pipeline on one screen: names are shuffled, tensors never are."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from kws_model.feature_spec import FeatureSpec
from pipelines import account, corpus
from pipelines.corpus import Recording
from pipelines.shard_plan import EXCLUDED, Plan, ShardKey, Sizing, make_plan, order_key
from pipelines.shards import ShardJob, ShardSummary, write_shard
from pipelines.splits import SplitRule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """All that shapes a dataset."""

    source: str
    split_rule: SplitRule
    sizing: Sizing
    shard: ShardJob
    max_failure_fraction: float


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Adds the job's stages to a pipeline. The graph is the same whatever the corpus."""
    recordings = (
        pipeline
        | "Input" >> beam.Create([job.source])
        | "ListRecordings" >> beam.FlatMap(corpus.list_recordings)
        | "AssignSplit" >> beam.Map(assign_split, job)  # Recording
    )
    plan = (
        recordings
        | "SplitAndLabel" >> beam.Map(split_and_label)
        | "CountLabels" >> beam.combiners.Count.PerElement()  # ((split, label), clips)
        | "ListCounts" >> beam.combiners.ToList()
        | "MakePlan" >> beam.Map(plan_dataset, job)  # Plan, one
    )
    every_shard = plan | "EveryShard" >> beam.FlatMap(empty_shards)
    _ = (
        (
            recordings | "AssignShard" >> beam.Map(assign_shard, job.shard.seed, AsSingleton(plan)),
            every_shard,
        )
        | "Flatten" >> beam.Flatten()  # (ShardKey, Recording fields or None)
        | "GroupByShard" >> beam.GroupByKey()  # about 100 bytes a clip cross the network here
        | "WriteShard" >> beam.Map(write_named_shard, job.shard, AsSingleton(plan))  # ShardSummary
        | "ListSummaries" >> beam.combiners.ToList()
        | "WriteMetadata" >> beam.Map(finish, job, AsSingleton(plan))
    )


def assign_split(recording: Recording, job: Job) -> Recording:
    """Places a recording in its split, or in `excluded`, with the reason."""
    if not recording.exclusion:
        split = job.split_rule.of(recording, root=job.source, seed=job.shard.seed)
        if split:
            return recording._replace(split=split)
        recording = recording._replace(exclusion="no_split")
    return recording._replace(split=EXCLUDED)


def split_and_label(recording: Recording) -> tuple[str, str]:
    """What is counted to make the plan."""
    return recording.split, recording.label


def plan_dataset(counts: list[tuple[tuple[str, str], int]], job: Job) -> Plan:
    """The plan, left in the output folder too, where the driver's progress bar reads the total."""
    plan = make_plan(counts, sizing=job.sizing, clip_bytes=record_bytes(job.shard.spec))
    account.write_plan(job.shard.output, plan)
    return plan


def record_bytes(spec: FeatureSpec) -> int:
    """Size of one record, about: the feature, and some 130 bytes of names, tags and checksums."""
    return spec.num_bytes + 130


def empty_shards(plan: Plan) -> Iterator[tuple[ShardKey, None]]:
    """Each shard's key: one that no recording falls into must be written all the same."""
    yield from ((key, None) for key in plan.shard_keys())


def assign_shard(recording: Recording, seed: int, plan: Plan) -> tuple[ShardKey, tuple]:
    """Keys a recording by its shard; a plain tuple, which Beam encodes without pickling."""
    return plan.shard_of(recording.split, order_key(recording.id, seed)), tuple(recording)


def write_named_shard(
    keyed: tuple[ShardKey, Iterable[tuple | None]], job: ShardJob, plan: Plan
) -> ShardSummary:
    """`shards.write_shard` of a grouped element."""
    key, values = keyed
    return write_shard(key, [Recording(*v) for v in values if v is not None], job=job, plan=plan)


def finish(summaries: list[ShardSummary], job: Job, plan: Plan) -> None:
    """Reconciles the account and writes the metadata, `dataset_info.json` last."""
    shard = job.shard
    total = account.reconcile(summaries, plan, max_failure_fraction=job.max_failure_fraction)
    preparation = {
        "source": job.source,
        "seed": shard.seed,
        "splits": dataclasses.asdict(job.split_rule),
        "shards": dataclasses.asdict(job.sizing),
        "max_seconds": shard.max_seconds,
    }
    account.write_metadata(shard, plan, summaries, total=total, preparation=preparation)
