"""The whole pipeline on one screen: names are shuffled, tensors never are."""

from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton

from pipelines import account, names
from pipelines import job as placing
from pipelines.corpus import Recording
from pipelines.job import Job
from pipelines.resume import ShardSummary
from pipelines.shard_plan import Plan, ShardKey
from pipelines.shards import write_shard

COUNTERS = "recordings"  # namespace of Beam's counters: made, rejected_<reason>, ...


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Adds the job's stages to a pipeline. The graph is the same whatever the corpus."""
    recordings = (
        pipeline
        | "Job" >> beam.Create([job])
        | "ListNames" >> beam.FlatMap(list_names)  # bytes: packed Recordings
    )
    if job.drop_duplicates:
        recordings = recordings | "DropDuplicates" >> DropDuplicates()
    plan = (
        recordings
        | "Survey" >> beam.FlatMap(survey)  # (None, (counts, noises)) of each batch
        | "GroupSurveys" >> beam.GroupByKey()
        | "MakePlan" >> beam.Map(make_plan, job)  # Plan, one
    )
    _ = (
        (
            recordings | "RecordsOf" >> beam.FlatMap(keyed_records, job, AsSingleton(plan)),
            plan | "Foreseen" >> beam.FlatMap(foreseen, job),
        )
        | "Flatten" >> beam.Flatten()  # (ShardKey, bytes)
        | "GroupByShard" >> beam.GroupByKey()  # some 15 bytes a clip cross the network here
        | "WriteShard" >> beam.Map(write_keyed_shard, job, AsSingleton(plan))  # (None, summary)
        | "GroupSummaries" >> beam.GroupByKey()
        | "WriteMetadata" >> beam.Map(finish, job, AsSingleton(plan))
    )


class DropDuplicates(beam.PTransform):
    """Excludes recordings whose bytes another one has, first by id; only hashes are shuffled."""

    def expand(self, recordings: beam.PCollection) -> beam.PCollection:
        """bytes -> bytes, packed Recordings both."""
        return (
            recordings
            | "SpreadReads" >> beam.Reshuffle()
            | "HashContent" >> beam.FlatMap(content_keys)  # (str, bytes)
            | "GroupByContent" >> beam.GroupByKey()
            | "KeepFirst" >> beam.Map(keep_first)
        )


def content_keys(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """Keys recordings by their content."""
    for recording in names.unpack(packed):
        yield placing.content_key(recording), names.pack([recording])


def keep_first(keyed: tuple[str, Iterable[bytes]]) -> bytes:
    """The first recording by id as it is, the others excluded as duplicates of it."""
    first, *others = sorted(recording for packed in keyed[1] for recording in names.unpack(packed))
    return names.pack([first, *map(placing.as_duplicate, others)])


def list_names(job: Job) -> Iterator[bytes]:
    """Every recording of the source, with its split, packed."""
    return names.batches(placing.list_placed(job))


def survey(packed: bytes) -> Iterator[tuple[None, tuple[Counter[tuple[str, str]], bytes]]]:
    """What the plan needs of a batch: recordings per split and word, and background noises."""
    recordings = names.unpack(packed)
    noises = [r for r in recordings if r.exclusion == "background_noise"]
    yield None, (Counter(map(placing.split_and_word, recordings)), names.pack(noises))


def make_plan(
    surveys: tuple[None, Iterable[tuple[Counter[tuple[str, str]], bytes]]], job: Job
) -> Plan:
    """The plan, left in the output folder too, where the driver's progress bar reads the total."""
    counts: Counter[tuple[str, str]] = Counter()
    noises = []
    for batch_counts, packed in surveys[1]:
        counts.update(batch_counts)
        noises += names.unpack(packed)
    plan = placing.plan_dataset(counts.items(), noises, job)
    account.begin(job, plan)
    return plan


def keyed_records(packed: bytes, job: Job, plan: Plan) -> Iterator[tuple[ShardKey, bytes]]:
    """The records of a batch, copies included, packed by the shards they fall into."""
    recordings = names.unpack(packed)
    return by_shard(keyed for r in recordings for keyed in placing.records_of(r, job, plan))


def foreseen(plan: Plan, job: Job) -> Iterator[tuple[ShardKey, bytes]]:
    """What no recording brings: the clips of silence, and nothing for each shard.

    A shard that no recording falls into must be written all the same.
    """
    nothing = names.pack([])
    yield from ((key, nothing) for key in plan.shard_keys())
    yield from by_shard(placing.silences(job, plan))


def by_shard(
    records: Iterable[tuple[ShardKey, Recording]],
) -> Iterator[tuple[ShardKey, bytes]]:
    """Packs records by their key."""
    groups: dict[ShardKey, list[Recording]] = {}
    for key, record in records:
        groups.setdefault(key, []).append(record)
    return ((key, names.pack(group)) for key, group in groups.items())


def write_keyed_shard(
    keyed: tuple[ShardKey, Iterable[bytes]], job: Job, plan: Plan
) -> tuple[None, ShardSummary]:
    """`shards.write_shard` of a grouped element, counted."""
    key, values = keyed
    recordings = [recording for packed in values for recording in names.unpack(packed)]
    summary = write_shard(key, recordings, job=job, plan=plan)
    Metrics.counter(COUNTERS, "made").inc(summary.made.total())
    for status in ("rejected", "excluded", "generated"):
        for reason, count in getattr(summary, status).items():
            Metrics.counter(COUNTERS, f"{status}_{reason}").inc(count)
    return None, summary


def finish(grouped: tuple[None, Iterable[ShardSummary]], job: Job, plan: Plan) -> None:
    """Reconciles the account and writes the metadata, `dataset_info.json` last."""
    summaries = list(grouped[1])
    total = account.reconcile(summaries, plan, max_failure_fraction=job.max_failure_fraction)
    account.write_metadata(job, plan, summaries, total=total)
