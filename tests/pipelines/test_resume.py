"""A shard is made again when anything that shapes it changed, and only then."""

import dataclasses
import os
import pathlib

import pytest

from kws_model import frontend
from kws_model.feature_spec import FeatureSpec
from pipelines import resume
from pipelines.copies import CopyRule
from pipelines.corpus import Recording
from pipelines.job import Job
from pipelines.resume import Fingerprint, count_changed_shards, finished
from pipelines.shard_plan import Plan
from pipelines.shards import write_shard
from tests.pipelines.recordings import tone, wav_bytes

KEY = ("train", 0)
PLAN = Plan(
    labels=("go",),
    num_words={},
    num_silences={},
    unknown_fraction={},
    num_found=3,
    noises=(),
    num_shards={"train": 1},
    num_clips={},
)


@pytest.fixture
def job(tmp_path) -> Job:
    (tmp_path / "out" / "manifest").mkdir(parents=True)
    spec = FeatureSpec(feature="mfcc")
    return Job(source=str(tmp_path), output=str(tmp_path / "out"), name="kws", spec=spec)


@pytest.fixture
def clips(tmp_path) -> list[Recording]:
    made = []
    for number in range(3):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(wav_bytes(tone(str(number))))
        made.append(Recording(f"go/{number}", str(path), "go", split="train", word="go"))
    return made


def fingerprint(clips: list[Recording], job: Job, plan: Plan = PLAN) -> str:
    total = Fingerprint("train", job, plan)
    for clip in clips:
        total.add(clip)
    return total.hexdigest()


def test_a_finished_shard_is_left_as_it_is_and_told_of_alike(job, clips):
    first = write_shard(KEY, clips, job=job, plan=PLAN)
    path = pathlib.Path(job.output, first.shard.filename)
    before = path.stat()
    assert write_shard(KEY, clips[::-1], job=job, plan=PLAN) == first
    assert path.stat() == before
    assert finished(KEY, fingerprint(clips, job), job) == first


def change_spec(job, clips):
    return dataclasses.replace(job, spec=FeatureSpec(feature="mfcc", num_mfcc=12)), clips


def change_seed(job, clips):
    return dataclasses.replace(job, seed=1), clips


def change_copies(job, clips):
    return dataclasses.replace(job, copy_rule=CopyRule(copies=1)), clips


def change_a_name(job, clips):
    return job, [clips[0]._replace(speaker="x"), *clips[1:]]


def add_a_recording(job, clips):
    return job, [*clips, clips[0]._replace(id="go/3")]


def take_one_away(job, clips):
    return job, clips[:-1]


def touch_a_file(job, clips):
    os.utime(clips[0].path, ns=(1, 1))
    return job, clips


def lengthen_a_file(job, clips):
    status = os.stat(clips[0].path)
    with open(clips[0].path, "ab") as file:
        file.write(b"xx")
    os.utime(clips[0].path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return job, clips


def remove_a_file(job, clips):
    os.remove(clips[0].path)
    return job, clips


@pytest.mark.parametrize(
    "change",
    [
        change_spec,
        change_seed,
        change_copies,
        change_a_name,
        add_a_recording,
        take_one_away,
        touch_a_file,
        lengthen_a_file,
        remove_a_file,
    ],
)
def test_whatever_shapes_a_shard_changes_its_fingerprint(job, clips, change):
    before = fingerprint(clips, job)
    assert before == fingerprint(clips[::-1], job)
    job, clips = change(job, clips)
    assert fingerprint(clips, job) != before


def test_new_code_makes_shards_anew(job, clips, monkeypatch):
    before = fingerprint(clips, job)
    monkeypatch.setattr(frontend, "VERSION", frontend.VERSION + 1)
    between = fingerprint(clips, job)
    monkeypatch.setattr(resume, "VERSION", resume.VERSION + 1)
    assert len({before, between, fingerprint(clips, job)}) == 3


def test_a_plan_of_other_labels_or_shards_makes_shards_anew(job, clips):
    other = dataclasses.replace(PLAN, num_shards={"train": 2})
    assert fingerprint(clips, job, other) != fingerprint(clips, job)
    other = dataclasses.replace(PLAN, labels=("go", "up"))
    assert fingerprint(clips, job, other) != fingerprint(clips, job)


@pytest.mark.parametrize("damage", ["missing", "short", "no part", "half a part"])
def test_what_is_not_whole_is_never_taken_for_finished(job, clips, damage):
    first = write_shard(KEY, clips, job=job, plan=PLAN)
    path = pathlib.Path(job.output, first.shard.filename)
    part = pathlib.Path(job.output, "manifest", "part-train-00000.parquet")
    whole, whole_part = path.read_bytes(), part.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        path.write_bytes(whole[:-1])
    elif damage == "no part":
        part.unlink()
    else:
        part.write_bytes(whole_part[: len(whole_part) // 2])
    assert finished(KEY, fingerprint(clips, job), job) is None
    assert write_shard(KEY, clips, job=job, plan=PLAN) == first
    assert (path.read_bytes(), part.read_bytes()) == (whole, whole_part)


def test_verify_finds_a_flipped_bit_that_the_size_does_not_show(job, clips):
    first = write_shard(KEY, clips, job=job, plan=PLAN)
    path = pathlib.Path(job.output, first.shard.filename)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert finished(KEY, fingerprint(clips, job), job) == first
    write_shard(KEY, clips, job=dataclasses.replace(job, verify=True), plan=PLAN)
    assert path.read_bytes() == whole


def test_names_are_counted_as_changed_without_reading_a_sound(tmp_path):
    (tmp_path / "go").mkdir()
    (tmp_path / "go" / "a_nohash_0.wav").write_bytes(b"no sound")
    spec = FeatureSpec(feature="mfcc")
    job = Job(source=str(tmp_path), output=str(tmp_path / "out"), name="kws", spec=spec)
    assert count_changed_shards(job) == (1, 1)
