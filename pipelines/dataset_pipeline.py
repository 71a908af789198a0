"""The whole pipeline on one screen: names are shuffled, tensors never are."""

from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, AsSingleton

from pipelines import account, corpus, names, read_ahead
from pipelines import job as placing
from pipelines.corpus import Recording
from pipelines.job import Counts, Job
from pipelines.resume import ShardSummary
from pipelines.shard_plan import EXCLUDED, Plan, ShardKey
from pipelines.shards import write_shard

COUNTERS = "recordings"  # namespace of Beam's counters: made, rejected_<reason>, ...


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Adds the job's stages to a pipeline. The graph is the same whatever the corpus."""
    recordings = (
        pipeline
        | "Input" >> beam.Create([job.source])
        | "ListPlaced" >> beam.FlatMap(list_placed, job)  # bytes: packed Recordings
    )
    if job.drop_duplicates:
        recordings = recordings | "DropDuplicates" >> DropDuplicates()
    noises = recordings | "Noises" >> beam.FlatMap(noises_of)  # bytes
    plan = AsSingleton(
        recordings
        | "CountBatch" >> beam.FlatMap(count_batch)  # ((split, word), recordings)
        | "CountWords" >> beam.CombinePerKey(sum)
        | "ListCounts" >> beam.combiners.ToList()
        | "MakePlan" >> beam.Map(make_plan, AsList(noises), job)  # Plan
    )
    once = pipeline | "Once" >> beam.Create([None])
    _ = (
        (
            recordings | "RecordsOf" >> beam.FlatMap(keyed_records, job, plan),
            once | "EveryShard" >> beam.FlatMap(lambda _, plan: empty_shards(plan), plan),
            once | "Silences" >> beam.FlatMap(lambda _, job, plan: silences(job, plan), job, plan),
        )
        | "Flatten" >> beam.Flatten()  # (ShardKey, bytes)
        | "GroupByShard" >> beam.GroupByKey()  # some 20 bytes a clip cross the network here
        | "WriteShard" >> beam.Map(write_keyed_shard, job, plan)  # ShardSummary
        | "ListSummaries" >> beam.combiners.ToList()
        | "WriteMetadata" >> beam.Map(finish, job, plan)
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
    """Keys recordings by content and segment; what is not used, or unreadable, by its id."""
    for recording in names.unpack(packed):
        key = f"id/{recording.id}/{recording.path}"
        if recording.split != EXCLUDED and (checksum := read_ahead.checksum(recording.path)):
            key = f"{checksum}/{recording.start_s}/{recording.end_s}"
        yield key, names.pack([recording])


def keep_first(keyed: tuple[str, Iterable[bytes]]) -> bytes:
    """The first recording by id as it is, the others excluded as duplicates of it."""
    first, *others = sorted(recording for packed in keyed[1] for recording in names.unpack(packed))
    duplicates = (other._replace(split=EXCLUDED, exclusion="duplicate") for other in others)
    return names.pack([first, *duplicates])


def list_placed(source: str, job: Job) -> Iterator[bytes]:
    """Every recording of the source, with its split, packed."""
    return names.batches(placing.place(r, job) for r in corpus.list_recordings(source))


def count_batch(packed: bytes) -> Iterator[tuple[tuple[str, str], int]]:
    """Recordings per split and word."""
    yield from Counter(map(placing.split_and_word, names.unpack(packed))).items()


def noises_of(packed: bytes) -> Iterator[bytes]:
    """The recordings of background noise, packed."""
    found = [r for r in names.unpack(packed) if r.exclusion == "background_noise"]
    return names.batches(found)


def make_plan(counts: Counts, noises: list[bytes], job: Job) -> Plan:
    """The plan, left in the output folder too, where the driver's progress bar reads the total."""
    found = [noise for packed in noises for noise in names.unpack(packed)]
    plan = placing.plan_dataset(counts, found, job)
    account.write_plan(job.output, plan)
    return plan


def keyed_records(packed: bytes, job: Job, plan: Plan) -> Iterator[tuple[ShardKey, bytes]]:
    """The records of a batch, copies included, packed by the shards they fall into."""
    recordings = names.unpack(packed)
    return by_shard(keyed for r in recordings for keyed in placing.records_of(r, job, plan))


def silences(job: Job, plan: Plan) -> Iterator[tuple[ShardKey, bytes]]:
    """The clips of silence, likewise."""
    return by_shard(placing.silences(job, plan))


def by_shard(
    records: Iterable[tuple[ShardKey, Recording]],
) -> Iterator[tuple[ShardKey, bytes]]:
    """Packs records by their key."""
    groups: dict[ShardKey, list[Recording]] = {}
    for key, record in records:
        groups.setdefault(key, []).append(record)
    return ((key, names.pack(group)) for key, group in groups.items())


def empty_shards(plan: Plan) -> Iterator[tuple[ShardKey, bytes]]:
    """Each shard's key: one that no recording falls into must be written all the same."""
    nothing = names.pack([])
    return ((key, nothing) for key in plan.shard_keys())


def write_keyed_shard(
    keyed: tuple[ShardKey, Iterable[bytes]], job: Job, plan: Plan
) -> ShardSummary:
    """`shards.write_shard` of a grouped element, counted."""
    key, values = keyed
    recordings = [recording for packed in values for recording in names.unpack(packed)]
    summary = write_shard(key, recordings, job=job, plan=plan)
    Metrics.counter(COUNTERS, "made").inc(summary.made.total())
    for status in ("rejected", "excluded", "generated"):
        for reason, count in getattr(summary, status).items():
            Metrics.counter(COUNTERS, f"{status}_{reason}").inc(count)
    return summary


def finish(summaries: list[ShardSummary], job: Job, plan: Plan) -> None:
    """Reconciles the account and writes the metadata, `dataset_info.json` last."""
    total = account.reconcile(summaries, plan, max_failure_fraction=job.max_failure_fraction)
    account.write_metadata(job, plan, summaries, total=total)
