"""What became of every recording: fold the shards' summaries, reconcile, write the metadata."""

import contextlib
import dataclasses
import fcntl
import glob
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from kws_model import frontend
from kws_model.dataset_info import SPLITS, DatasetInfo
from pipelines import manifest, resume
from pipelines.job import Job
from pipelines.resume import ShardSummary
from pipelines.shard_plan import EXCLUDED, Plan
from pipelines.shards import UNFINISHED, whole_file

PLAN = f"plan.json{UNFINISHED}"  # in the output folder while a job runs
LOCK = ".kws_prepare_lock"  # likewise, and after a job that failed


def reconcile(
    summaries: list[ShardSummary], plan: Plan, *, max_failure_fraction: float
) -> dict[str, Any]:
    """The account of the whole dataset.

    Returns:
      `found`, `made`: clips; `generated`: clips that were not found but made, by kind; `rejected`,
      `excluded`: clips by reason; `splits`: for each split the clips of each label. What was found
      and generated is what was made, rejected and excluded.

    Raises:
      ValueError: nothing was made, or a greater fraction than allowed was rejected.
      AssertionError: recordings got lost; our mistake, whatever the input.
    """
    rejected = sum((summary.rejected for summary in summaries), Counter[str]())
    excluded = sum((summary.excluded for summary in summaries), Counter[str]())
    generated = sum((summary.generated for summary in summaries), Counter[str]())
    splits = {split: _made(summaries, split) for split in SPLITS if plan.num_shards[split]}
    found = plan.num_found
    made = sum(sum(labels.values()) for labels in splits.values())
    told = made + rejected.total() + excluded.total()
    assert found + generated.total() == told, (found, generated, made, rejected, excluded)
    if not made or rejected.total() > max_failure_fraction * (made + rejected.total()):
        raise ValueError(_failure(summaries, rejected, made, max_failure_fraction))
    return {
        "found": found,
        "generated": dict(sorted(generated.items())),
        "made": made,
        "rejected": dict(sorted(rejected.items())),
        "excluded": dict(sorted(excluded.items())),
        "splits": splits,
    }


def _made(summaries: list[ShardSummary], split: str) -> dict[str, int]:
    ours = [s.made for s in summaries if s.shard is not None and s.shard.split == split]
    return dict(sorted(sum(ours, Counter()).items()))


def _failure(
    summaries: list[ShardSummary], rejected: Counter[str], made: int, allowed: float
) -> str:
    tried = made + rejected.total()
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common())
    offenders = [offender for summary in summaries for offender in summary.offenders]
    first = {reason: (path, detail) for reason, path, detail in sorted(offenders, reverse=True)}
    worst = [reason for reason, _ in rejected.most_common(3)]
    shown = "; ".join(f"{first[reason][0]} ({reason}: {first[reason][1]})" for reason in worst)
    return (
        f"{rejected.total():,} of {tried:,} recordings can't be used, more than "
        f"--max_failure_fraction {allowed:g}: {reasons}. For example {shown}. Mend or remove them "
        "(the manifest names each), or allow more"
    )


@contextlib.contextmanager
def only_writer(output: str) -> Iterator[None]:
    """Holds a dataset's folder against another job on this machine; leaves nothing half-written.

    The lock's file also marks a folder whose dataset is unfinished as ours.

    Raises:
      ValueError: the folder holds something else, or another job writes to it.
    """
    if not is_ours(output):
        raise ValueError(
            f"--output {output} holds something else than a dataset: name another folder"
        )
    os.makedirs(os.path.join(output, manifest.FOLDER), exist_ok=True)
    with open(os.path.join(output, LOCK), "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another kws prepare is writing {output}: wait for it") from None
        remove_unfinished(output)
        try:
            yield
        finally:
            remove_unfinished(output)
        os.remove(lock.name)


def is_ours(output: str) -> bool:
    """Whether a folder is missing, empty, or holds a dataset, finished or not."""
    try:
        held = set(os.listdir(output))
    except FileNotFoundError:
        return True
    return not held or bool(held & {LOCK, "preparation.json"})


def begin(job: Job, plan: Plan) -> None:
    """Marks the dataset as unfinished, and leaves the plan where a local driver can see it."""
    for name in ("dataset_info.json", "data_card.html"):  # the card of `kws inspect` tells of it
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(job.output, name))
    with whole_file(os.path.join(job.output, PLAN)) as file:
        file.write(json.dumps(dataclasses.asdict(plan)).encode())


def read_plan(output: str) -> dict[str, Any] | None:
    """What `begin` left, None before it has."""
    try:
        with open(os.path.join(output, PLAN), encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return None


def write_metadata(
    job: Job,
    plan: Plan,
    summaries: list[ShardSummary],
    *,
    total: dict[str, Any],
) -> DatasetInfo:
    """Removes what earlier attempts left, then writes the metadata, `dataset_info.json` last."""
    preparation = {
        "source": job.source,
        "seed": job.seed,
        "splits": dataclasses.asdict(job.split_rule),
        "classes": dataclasses.asdict(job.class_rule),
        "copies": dataclasses.asdict(job.copy_rule),
        "sizing": dataclasses.asdict(job.sizing),
        "drop_duplicates": job.drop_duplicates,
        "max_seconds": job.max_seconds,
        "versions": {"frontend": frontend.VERSION, "records": resume.VERSION},
    }
    shards = [summary.shard for summary in summaries if summary.shard is not None]
    info = DatasetInfo(
        name=job.name,
        spec=job.spec,
        labels=plan.labels,
        shards=tuple(sorted(shards, key=lambda s: (SPLITS.index(s.split), s.index))),
        account=total,
        preparation=preparation,
    )
    parts = {manifest.part_filename(*key) for key in plan.shard_keys()}
    remove_files(job.output, keep=parts | {shard.filename for shard in info.shards})
    for filename, text in info.to_files().items():
        with whole_file(os.path.join(job.output, filename)) as file:
            file.write(text.encode())
    return info


def remove_files(output: str, *, keep: Collection[str]) -> None:
    """Removes shards and parts of the manifest, under any name, but those to keep."""
    splits = "|".join((*SPLITS, EXCLUDED))
    pattern = rf".+-({splits})\.tfrecord-\d{{5}}-of-\d{{5}}|part-({splits})-\d{{5}}\.parquet"
    for folder in ("", manifest.FOLDER):
        for name in os.listdir(os.path.join(output, folder)):
            path = os.path.join(folder, name)
            if re.fullmatch(pattern, name) and path not in keep:
                os.remove(os.path.join(output, path))


def remove_unfinished(output: str) -> None:
    """Removes temporary files, once no worker is left that writes them."""
    for pattern in (f"*{UNFINISHED}*", f"{manifest.FOLDER}/*{UNFINISHED}*"):
        for path in glob.glob(pattern, root_dir=output):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(output, path))
