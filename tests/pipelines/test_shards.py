import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import xxhash

from kws_model import example, tfrecord
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from pipelines import shards
from pipelines.corpus import Recording
from pipelines.job import Job
from pipelines.shard_plan import EXCLUDED, Plan, order_key
from pipelines.shards import whole_file, write_shard
from tests.pipelines.recordings import tone, wav_bytes

SPEC = FeatureSpec(feature="log_mel", dtype="float32")


def plan(**num_shards: int) -> Plan:
    return Plan(
        labels=("go", "stop"),
        num_words={},
        num_silences={},
        unknown_fraction={},
        num_found=0,
        noises=(),
        num_shards=num_shards,
        num_clips={},
    )


def job(output: pathlib.Path) -> Job:
    (output / "manifest").mkdir(parents=True, exist_ok=True)
    return Job(source="", output=str(output), name="kws", spec=SPEC, seed=7, max_seconds=60)


def recording(folder: pathlib.Path, name: str, content: bytes | None, **fields) -> Recording:
    path = folder / name.replace("/", "_")
    if content is not None:
        path.write_bytes(content)
    word = name.partition("/")[0]
    values = {"label": word, "word": word, "split": "train", **fields}
    return Recording(id=name, path=str(path), **values)


@pytest.fixture
def clips(tmp_path) -> list[Recording]:
    names = [f"{word}/{number}.wav" for word in ("go", "stop") for number in range(5)]
    return [recording(tmp_path, name, wav_bytes(tone(name)), speaker="ann") for name in names]


def manifest_rows(output: pathlib.Path, part: str = "train-00000") -> list[dict]:
    return pq.read_table(output / "manifest" / f"part-{part}.parquet").to_pylist()


def test_a_shard_holds_exactly_these_records_in_hash_order(tmp_path, clips):
    summary = write_shard(("train", 0), clips, job=job(tmp_path), plan=plan(train=1))
    path = tmp_path / "kws-train.tfrecord-00000-of-00001"
    records = [example.decode(record) for record in tfrecord.read_records(str(path))]
    ordered = sorted(clips, key=lambda clip: order_key(clip.id, 7))
    assert [record["id"].decode() for record in records] == [clip.id for clip in ordered]
    frontend = Frontend(SPEC)
    for record, clip in zip(records, ordered, strict=True):
        waveform = tone(clip.id).astype(np.float32)[None] / 32768
        assert record == {
            "id": clip.id.encode(),
            "label": ["go", "stop"].index(clip.label),
            "log_mel": frontend(waveform).tobytes(),
            "speaker": b"ann",
            "word": clip.label.encode(),
        }
    assert summary.made == {"go": 5, "stop": 5}
    assert summary.shard is not None
    assert summary.shard.num_examples == 10
    assert summary.shard.num_bytes == path.stat().st_size
    assert summary.shard.xxh3_128 == xxhash.xxh3_128_hexdigest(path.read_bytes())


def test_bytes_do_not_depend_on_the_order_of_arrival(tmp_path, clips):
    for output, arrived in ((tmp_path / "a", clips), (tmp_path / "b", clips[::-1])):
        write_shard(("train", 0), arrived, job=job(output), plan=plan(train=1))
    for name in ("kws-train.tfrecord-00000-of-00001", "manifest/part-train-00000.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_manifest_finds_each_record_again(tmp_path, clips):
    write_shard(("train", 0), clips, job=job(tmp_path), plan=plan(train=1))
    rows = manifest_rows(tmp_path)
    assert [row["record"] for row in rows] == list(range(10))
    with open(tmp_path / rows[0]["shard"], "rb") as file:
        for row in reversed(rows):
            record = tfrecord.read_record(file, offset=row["offset"])
            assert example.decode(record)["id"].decode() == row["id"]
            assert len(record) + 16 == row["length"]


def test_the_manifest_tells_what_a_recording_was_and_what_was_done_to_it(tmp_path):
    stereo = np.stack([tone("left", num_samples=4000)] * 2, axis=1)
    clip = recording(tmp_path, "go/x.wav", wav_bytes(stereo, sample_rate_hz=8000))
    write_shard(("train", 0), [clip], job=job(tmp_path), plan=plan(train=1))
    (row,) = manifest_rows(tmp_path)
    told = {
        "status": "made",
        "reason": None,
        "sample_rate_hz": 8000,
        "num_channels": 2,
        "encoding": "PCM_16",
        "container": "WAV",
        "num_samples": 4000,
        "seconds": 0.5,
        "truncated": False,
        "resampled": True,
        "mixed_down": True,
        "padded": True,
        "trimmed": False,
        "content_xxh3": xxhash.xxh3_128_digest(pathlib.Path(clip.path).read_bytes()),
    }
    assert {name: row[name] for name in told} == told
    assert -20 < row["rms_dbfs"] < row["peak_dbfs"] < 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing"),
        (b"", "empty"),
        (b"<html>not a recording</html>" * 9, "not_audio"),
        (wav_bytes(tone("x"))[:30], "truncated_header"),
        (wav_bytes(tone("x", num_samples=0)), "no_samples"),
        (wav_bytes(np.zeros(61 * 16_000, np.int16)), "too_long"),
    ],
)
def test_a_recording_that_cannot_be_used_is_a_row_with_a_reason(tmp_path, clips, content, reason):
    bad = recording(tmp_path, "go/bad.wav", content)
    summary = write_shard(("train", 0), [*clips, bad], job=job(tmp_path), plan=plan(train=1))
    assert summary.rejected == {reason: 1}
    assert summary.made.total() == 10
    ((first_reason, path, detail),) = summary.offenders
    assert (first_reason, path) == (reason, bad.path)
    (row,) = [row for row in manifest_rows(tmp_path) if row["status"] == "rejected"]
    assert (row["id"], row["reason"], row["detail"]) == ("go/bad.wav", reason, detail)
    assert row["shard"] is None
    assert reason in shards.REASONS


def test_of_recordings_with_one_id_the_first_by_path_is_made(tmp_path):
    twins = [
        recording(tmp_path, name, wav_bytes(tone(name)))._replace(id="twin")
        for name in ("go/b.wav", "go/a.wav")
    ]
    summary = write_shard(("train", 0), twins, job=job(tmp_path), plan=plan(train=1))
    assert summary.rejected == {"duplicate_id": 1}
    status = {pathlib.Path(row["path"]).name: row["status"] for row in manifest_rows(tmp_path)}
    assert status == {"go_a.wav": "made", "go_b.wav": "rejected"}


def test_a_shard_that_no_recording_falls_into_is_an_empty_file(tmp_path):
    summary = write_shard(("test", 2), [], job=job(tmp_path), plan=plan(test=3))
    assert (tmp_path / "kws-test.tfrecord-00002-of-00003").read_bytes() == b""
    assert manifest_rows(tmp_path, "test-00002") == []
    assert summary.shard is not None
    assert summary.shard.num_examples == 0


def test_excluded_recordings_are_rows_and_no_records(tmp_path):
    noise = Recording("n", "/n.wav", "", split=EXCLUDED, exclusion="background_noise")
    summary = write_shard((EXCLUDED, 0), [noise], job=job(tmp_path), plan=plan(excluded=1))
    assert summary.shard is None
    assert summary.excluded == {"background_noise": 1}
    (row,) = manifest_rows(tmp_path, "excluded-00000")
    assert (row["status"], row["reason"], row["split"]) == (
        "excluded",
        "background_noise",
        EXCLUDED,
    )
    assert not list(tmp_path.glob("*.tfrecord*"))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(str(path)) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert path.read_bytes() == b"old"
    with whole_file(str(path)) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_workers_need_neither_tensorflow_nor_the_trainer():
    script = (
        "import sys, pipelines.dataset_pipeline, pipelines.prepare_dataset; "
        "print({'tensorflow', 'keras'} & {name.split('.')[0] for name in sys.modules})"
    )
    python = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert python.stdout.strip() == "set()"
