import os
from collections import Counter

import pytest

from kws_model.dataset_info import Shard
from pipelines import account
from pipelines.resume import ShardSummary
from pipelines.shard_plan import EXCLUDED, Plan


def plan(**found: int) -> Plan:
    splits = ("train", "validation", "test", EXCLUDED)
    return Plan(
        labels=("go",),
        num_words={},
        num_silences={},
        unknown_fraction={},
        num_found=sum(found.values()),
        noises=(),
        num_shards={split: int(split in found) for split in splits},
        num_clips={},
    )


def summary(
    split="train", *, made=0, rejected=None, excluded=None, generated=None, offenders=()
) -> ShardSummary:
    shard = Shard(split=split, index=0, filename="f", num_examples=made, num_bytes=0, xxh3_128="")
    return ShardSummary(
        shard=None if split == EXCLUDED else shard,
        made=Counter({"go": made}),
        rejected=Counter(rejected or {}),
        excluded=Counter(excluded or {}),
        generated=Counter(generated or {}),
        offenders=tuple(offenders),
    )


def test_the_account_reconciles():
    summaries = [
        summary("train", made=97, rejected={"empty": 1}),
        summary("test", made=11, generated={"silence": 2}),
        summary(EXCLUDED, excluded={"no_label": 3}),
    ]
    total = account.reconcile(
        summaries, plan(train=98, test=9, excluded=3), max_failure_fraction=0.01
    )
    assert total == {
        "found": 110,
        "generated": {"silence": 2},
        "made": 108,
        "rejected": {"empty": 1},
        "excluded": {"no_label": 3},
        "splits": {"train": {"go": 97}, "test": {"go": 11}},
    }


def test_a_lost_recording_is_never_passed_over():
    with pytest.raises(AssertionError, match=r"\(98, Counter"):
        account.reconcile([summary(made=97)], plan(train=98), max_failure_fraction=1)


def test_too_many_rejections_fail_the_job_and_name_the_worst():
    offenders = [("empty", "/b.wav", "no bytes"), ("not_audio", "/c.wav", "html")]
    summaries = [summary(made=90, rejected={"empty": 8, "not_audio": 2}, offenders=offenders)]
    with pytest.raises(
        ValueError,
        match=r"10 of 100 recordings can't be used, more than --max_failure_fraction 0.05: "
        r"empty 8, not_audio 2. For example /b.wav \(empty: no bytes\); /c.wav \(not_audio: html\)",
    ):
        account.reconcile(summaries, plan(train=100), max_failure_fraction=0.05)
    assert account.reconcile(summaries, plan(train=100), max_failure_fraction=0.1)["made"] == 90


def test_a_dataset_of_nothing_is_refused_whatever_is_allowed():
    with pytest.raises(ValueError, match="2 of 2 recordings can't be used"):
        account.reconcile(
            [summary(rejected={"empty": 2}, offenders=[("empty", "/a", "")])],
            plan(train=2),
            max_failure_fraction=1,
        )


def test_only_this_dataset_s_files_are_removed(tmp_path):
    ours = [
        "kws-train.tfrecord-00000-of-00002",
        "manifest/part-train-00001.parquet",
        "x-test.tfrecord-00000-of-00001",
    ]
    theirs = ["notes.txt", "all.tfrecord", "plan.json", "manifest/part-00000-a.snappy.parquet"]
    os.mkdir(tmp_path / "manifest")
    for name in (*ours, *theirs, "kws-train.tfrecord-00001-of-00002"):
        (tmp_path / name).touch()
    account.remove_files(str(tmp_path), keep={"kws-train.tfrecord-00001-of-00002"})
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {*theirs, "kws-train.tfrecord-00001-of-00002"}


def test_one_job_at_a_time_writes_to_a_folder(tmp_path):
    output = str(tmp_path / "out")
    with (
        account.only_writer(output),
        pytest.raises(ValueError, match="another kws prepare is writing"),
        account.only_writer(output),
    ):
        pass
    assert os.listdir(output) == ["manifest"]


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "plan.json").write_text("mine")
    (tmp_path / "a.unfinished-1").write_text("mine")
    with (
        pytest.raises(ValueError, match="holds something else than a dataset"),
        account.only_writer(str(tmp_path)),
    ):
        pass
    assert sorted(os.listdir(tmp_path)) == ["a.unfinished-1", "plan.json"]


def test_a_job_that_fails_leaves_its_mark_and_nothing_half_written(tmp_path):
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), account.only_writer(str(output)):
        (output / "kws-train.tfrecord-00000-of-00001.unfinished-0a").touch()
        (output / "kws-train.tfrecord-00000-of-00001").touch()
        raise KeyboardInterrupt
    left = {path.name for path in output.iterdir()}
    assert left == {account.LOCK, "manifest", "kws-train.tfrecord-00000-of-00001"}
    assert account.is_ours(str(output))
