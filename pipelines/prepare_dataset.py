"""Recordings to sharded TFRecords with splits: the command.

$ kws prepare --input speech_commands --output datasets/sc
datasets/sc: 5,000 clips of 5,006 recordings in 6.8 s (738 a second), 252.6 MB in 19 shards
...
$ kws prepare --input speech_commands --output datasets/sc -- --runner=FlinkRunner ...
"""

import contextlib
import dataclasses
import os
import re
import sys
import time
from typing import Annotated, Any

import tyro

from kws_model.dataset_info import SPLITS, DatasetInfo
from kws_model.feature_spec import FeatureSpec
from pipelines import corpus, local_workers, resume
from pipelines.classes import ClassRule
from pipelines.copies import CopyRule
from pipelines.job import Job, record_bytes
from pipelines.shard_plan import Sizing
from pipelines.splits import SplitRule, check_split_rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Turn recordings into sharded TFRecords. Beam's own options follow a bare --."""

    input: str
    """Folder whose sub-folders are words, or a table (CSV, JSON lines, Parquet; path, label)."""

    output: str
    """Folder of the dataset."""

    name: str = "kws"
    """First part of the shards' names."""

    features: FeatureSpec
    splits: SplitRule
    classes: ClassRule
    sizing: Sizing
    copies: CopyRule

    drop_duplicates: bool = False
    """Use only the first, by id, of recordings that are equal byte for byte."""

    seed: int = 0
    """Decides the order within a split, and all that is drawn: split, unknown, silence, copies."""

    max_seconds: float = 600.0
    """A longer recording is rejected."""

    max_failure_fraction: float = 0.01
    """The job fails if a greater fraction of the recordings is rejected."""

    overwrite: bool = False
    """Bring a finished dataset up to date; shards that would not change are kept."""

    verify: bool = False
    """Read the shards that are kept, and make those again whose checksum is wrong."""

    beam_options: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """What follows the bare -- on the command line."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"--name must be lower-case letters, digits and _; got {self.name!r}")
        if not self.max_seconds > 0 or not 0 <= self.max_failure_fraction <= 1:
            raise ValueError(
                "--max_seconds must be positive and --max_failure_fraction from 0 to 1; "
                f"got {self.max_seconds:g} and {self.max_failure_fraction:g}"
            )
        if self.features.feature in ("log_mel", "mfcc"):
            from kws_model import frontend  # for its check: a filter may hold no FFT bin

            frontend.mel_filterbank(self.features)
        if self.beam_options:
            from pipelines import beam_runner  # Beam takes 2 s to import: only if it must be.

            beam_runner.parse(self.beam_options)


def run(options: Options) -> None:
    """Prepares the dataset and prints what became of the recordings.

    Raises:
      ValueError: the input or the output can't be used, or too much of the input is unusable.
      OSError: a file can't be read or written.
    """
    check_paths(options)
    if is_up_to_date(options):
        print(f"{options.output} is up to date: no shard would change")
        return
    local_workers.preload()
    started = time.monotonic()
    prepare(options)
    seconds = time.monotonic() - started
    print(summary(DatasetInfo.read(options.output), seconds=seconds))


def check_paths(options: Options) -> None:
    """Refuses, before anything starts, an input or an output that can't work."""
    output = options.output
    corpus.check_source(options.input)
    check_split_rule(options.splits, options.input, is_table=corpus.is_table(options.input))
    if not output or "://" in output:
        raise ValueError(f"--output must be a folder that is mounted here; got {output!r}")
    if os.path.exists(output) and not os.path.isdir(output):
        raise ValueError(f"--output {output} is a file: give a folder")
    if os.path.realpath(output) == os.path.realpath(options.input):
        raise ValueError("--output is the corpus itself: give another folder")


def is_up_to_date(options: Options) -> bool:
    """Whether the output is finished and would be made the same.

    Raises:
      ValueError: it is finished, would not, and may not be changed.
    """
    if not os.path.exists(os.path.join(options.output, "dataset_info.json")):
        return False
    changed, shards = resume.count_changed_shards(make_job(options))
    with contextlib.suppress(ValueError):
        DatasetInfo.read(options.output)  # all there, and as long as recorded
        if not changed:
            return True
    if not options.overwrite:
        raise ValueError(
            f"{options.output} holds a finished dataset, and {changed} of {shards} shards would "
            "change: pass --overwrite to update it"
        )
    return False


def make_job(options: Options) -> Job:
    """The job that the options describe, with absolute paths: workers may stand elsewhere."""
    return Job(
        source=os.path.abspath(options.input),
        output=os.path.abspath(options.output),
        name=options.name,
        spec=options.features,
        split_rule=options.splits,
        class_rule=options.classes,
        copy_rule=options.copies,
        sizing=options.sizing,
        seed=options.seed,
        drop_duplicates=options.drop_duplicates,
        max_seconds=options.max_seconds,
        max_failure_fraction=options.max_failure_fraction,
        verify=options.verify,
    )


def prepare(options: Options) -> None:
    """Runs the pipeline. What it leaves is finished, or has no `dataset_info.json`."""
    from pipelines import account, beam_runner, progress

    job = make_job(options)
    where = beam_runner.parse(options.beam_options)
    print(f"{options.input} -> {options.output} with {where}", file=sys.stderr)
    with (
        account.only_writer(job.output),
        progress.bar(job.output, name=job.name, record_bytes=record_bytes(job.spec)),
        beam_runner.one_line_failures(),
    ):
        run_pipeline(job, where)


def run_pipeline(job: Job, where: Any) -> None:
    """Builds the pipeline, runs it on `where` (a `BeamRunner`) and waits."""
    import apache_beam as beam

    from pipelines import dataset_pipeline

    pipeline = beam.Pipeline(runner=where.runner(), options=where.options)
    dataset_pipeline.build(pipeline, job)
    pipeline.run().wait_until_finish()


def summary(info: DatasetInfo, *, seconds: float) -> str:
    """What became of the recordings: clips per split and label, rejections, rate and size."""
    account, splits = info.account, [split for split in SPLITS if split in info.account["splits"]]
    megabytes = sum(shard.num_bytes for shard in info.shards) / 1e6
    lines = [
        f"{info.folder}: {account['made']:,} clips of {account['found']:,} recordings in "
        f"{seconds:.1f} s ({account['made'] / seconds:,.0f} a second), "
        f"{megabytes:,.1f} MB in {len(info.shards)} shards",
        "",
        f"{'label':16s}" + "".join(f"{split:>12s}" for split in splits),
    ]
    for label in info.labels:
        counts = (account["splits"][split].get(label, 0) for split in splits)
        lines.append(f"{label:16s}" + "".join(f"{count:12,d}" for count in counts))
    totals = (sum(account["splits"][split].values()) for split in splits)
    lines.append(f"{'all':16s}" + "".join(f"{total:12,d}" for total in totals))
    for split in SPLITS:
        empty = [word for word in info.labels if not account["splits"].get(split, {}).get(word)]
        if empty:
            what = "clips" if len(empty) == len(info.labels) else f"clips of {', '.join(empty)}"
            lines.append(f"note: {split} has no {what}")
    for status in ("generated", "rejected", "excluded"):
        for reason, count in account[status].items():
            lines.append(f"{status}: {count:,} {reason}")
    return "\n".join(lines)


if __name__ == "__main__":
    from kws_model import cli

    cli.main(["prepare", *sys.argv[1:]])
