"""The whole pipeline on one screen: names are shuffled, tensors never are."""

from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, AsSingleton

from pipelines import account, corpus, read_ahead
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
        | "ListRecordings" >> beam.FlatMap(corpus.list_recordings)
        | "Place" >> beam.Map(placing.place, job)  # Recording, with its split
    )
    if job.drop_duplicates:
        recordings = recordings | "DropDuplicates" >> DropDuplicates()
    plan = AsSingleton(
        recordings
        | "SplitAndWord" >> beam.Map(placing.split_and_word)
        | "CountWords" >> beam.combiners.Count.PerElement()  # ((split, word), clips)
        | "ListCounts" >> beam.combiners.ToList()
        | "MakePlan" >> beam.Map(make_plan, AsList(recordings | beam.Filter(is_noise)), job)  # Plan
    )
    seed = pipeline | "Once" >> beam.Create([None])
    _ = (
        (
            recordings | "RecordsOf" >> beam.FlatMap(keyed_records, job, plan),
            seed | "EveryShard" >> beam.FlatMap(lambda _, plan: empty_shards(plan), plan),
            seed | "Silences" >> beam.FlatMap(lambda _, job, plan: silences(job, plan), job, plan),
        )
        | "Flatten" >> beam.Flatten()  # (ShardKey, Recording's fields or None)
        | "GroupByShard" >> beam.GroupByKey()  # about 100 bytes a clip cross the network here
        | "WriteShard" >> beam.Map(write_keyed_shard, job, plan)  # ShardSummary
        | "ListSummaries" >> beam.combiners.ToList()
        | "WriteMetadata" >> beam.Map(finish, job, plan)
    )


class DropDuplicates(beam.PTransform):
    """Excludes recordings whose bytes another one has, first by id; only hashes are shuffled."""

    def expand(self, recordings: beam.PCollection) -> beam.PCollection:
        """Recording -> Recording."""
        return (
            recordings
            | "SpreadReads" >> beam.Reshuffle()
            | "HashContent" >> beam.Map(content_key)  # (str, Recording's fields)
            | "GroupByContent" >> beam.GroupByKey()
            | "KeepFirst" >> beam.FlatMap(keep_first)
        )


def content_key(recording: Recording) -> tuple[str, tuple]:
    """Keys a recording by its content and segment; what is not used, or unreadable, by its id."""
    if recording.split != EXCLUDED:
        checksum = read_ahead.checksum(recording.path)
        if checksum:
            return f"{checksum}/{recording.start_s}/{recording.end_s}", tuple(recording)
    return f"id/{recording.id}/{recording.path}", tuple(recording)


def keep_first(keyed: tuple[str, Iterable[tuple]]) -> Iterator[Recording]:
    """The first recording by id as it is, the others excluded as duplicates of it."""
    first, *others = sorted(Recording(*fields) for fields in keyed[1])
    yield first
    for recording in others:
        yield recording._replace(split=EXCLUDED, exclusion="duplicate")


def is_noise(recording: Recording) -> bool:
    """Whether a recording is one of background noise."""
    return recording.exclusion == "background_noise"


def make_plan(counts: Counts, noises: list[Recording], job: Job) -> Plan:
    """The plan, left in the output folder too, where the driver's progress bar reads the total."""
    plan = placing.plan_dataset(counts, noises, job)
    account.write_plan(job.output, plan)
    return plan


def keyed_records(recording: Recording, job: Job, plan: Plan) -> Iterator[tuple[ShardKey, tuple]]:
    """`job.records_of` as plain tuples, which Beam encodes without pickling."""
    return ((key, tuple(record)) for key, record in placing.records_of(recording, job, plan))


def silences(job: Job, plan: Plan) -> Iterator[tuple[ShardKey, tuple]]:
    """`job.silences`, likewise."""
    return ((key, tuple(record)) for key, record in placing.silences(job, plan))


def empty_shards(plan: Plan) -> Iterator[tuple[ShardKey, None]]:
    """Each shard's key: one that no recording falls into must be written all the same."""
    return ((key, None) for key in plan.shard_keys())


def write_keyed_shard(
    keyed: tuple[ShardKey, Iterable[tuple | None]], job: Job, plan: Plan
) -> ShardSummary:
    """`shards.write_shard` of a grouped element, counted."""
    key, values = keyed
    recordings = [Recording(*fields) for fields in values if fields is not None]
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
