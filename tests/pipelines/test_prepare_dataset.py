"""The whole command, as users run it: in processes of its own."""

import ctypes
import hashlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
import zlib

import pandas as pd
import pytest

from kws_model.dataset_info import DatasetInfo
from pipelines import account
from tests.pipelines.recordings import tone, wav_bytes, write_corpus

FEATURES = ("--feature", "log_mel")


def command(*flags: object) -> list[str]:
    return [sys.executable, "-m", "kws_model.cli", "prepare", *map(str, flags)]


def kws_prepare(*flags: object, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*flags), capture_output=True, text=True, check=False, timeout=120, **kwargs
    )


def fails(*flags: object, status: int, **kwargs) -> str:
    """The one line that a failing command says."""
    done = kws_prepare(*flags, **kwargs)
    assert done.returncode == status, done.stderr
    *notes, line = done.stderr.splitlines()
    assert all(" -> " in note for note in notes), done.stderr  # where it runs, nothing else
    return line


def digests(folder: pathlib.Path, pattern: str = "**/*") -> dict[str, str]:
    files = (path for path in folder.glob(pattern) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> pathlib.Path:
    """40 clips, a background noise, and a broken recording in a hundredth or less of them."""
    folder = write_corpus(
        tmp_path_factory.mktemp("corpus"), words=("go", "stop", "up"), speakers=34
    )
    (folder / "_background_noise_").mkdir()
    (folder / "_background_noise_" / "hum.wav").write_bytes(wav_bytes(tone("hum")))
    (folder / "up" / "bad_nohash_0.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def dataset(corpus, tmp_path_factory) -> pathlib.Path:
    output = tmp_path_factory.mktemp("datasets") / "sc"
    done = kws_prepare("--input", corpus, "--output", output, *FEATURES)
    assert done.returncode == 0, done.stderr
    (output.parent / "summary.txt").write_text(done.stdout)
    return output


def test_every_recording_found_is_in_the_manifest_and_the_counts_reconcile(corpus, dataset):
    rows = pd.read_parquet(dataset / "manifest")
    found = {str(path.relative_to(corpus)) for path in corpus.rglob("*.wav")}
    assert set(rows["id"]) == found
    assert len(rows) == len(found) == 104
    assert rows["status"].value_counts().to_dict() == {"made": 102, "rejected": 1, "excluded": 1}
    assert dict(zip(rows["id"], rows["reason"], strict=True))["up/bad_nohash_0.wav"] == "empty"
    told = DatasetInfo.read(dataset).account
    assert told["found"] == 104
    assert told["rejected"] == {"empty": 1}
    assert told["excluded"] == {"background_noise": 1}
    made = rows[rows["status"] == "made"].groupby(["split", "label"]).size()
    counted = {(s, w): n for s, words in told["splits"].items() for w, n in words.items()}
    assert made.to_dict() == counted


def test_the_summary_says_what_became_of_the_recordings(dataset):
    summary = (dataset.parent / "summary.txt").read_text()
    assert "102 clips of 104 recordings" in summary
    assert "rejected: 1 empty" in summary
    assert "excluded: 1 background_noise" in summary


def test_nothing_but_the_dataset_is_left_in_the_folder(dataset):
    names = {path.name.split("-")[0] for path in dataset.iterdir()}
    metadata = {"dataset_info.json", "features.json", "feature_spec.json", "preparation.json"}
    assert names == {"kws", "manifest", "label.labels.txt", *metadata}


def test_a_speaker_never_crosses_a_split(dataset):
    rows = pd.read_parquet(dataset / "manifest").query("status == 'made'")
    assert rows.groupby("speaker")["split"].nunique().max() == 1
    assert set(rows["split"]) == {"train", "validation", "test"}


@pytest.mark.parametrize("feature", ["log_spectrogram", "log_mel", "mfcc"])
def test_bytes_are_the_same_for_any_workers_and_any_order_of_names(corpus, tmp_path, feature):
    """A table that names the same files backwards stands for a listing in another order."""
    paths = sorted(str(path.relative_to(corpus)) for path in corpus.rglob("*_nohash_*.wav"))
    lines = [f"{path},{path.partition('/')[0]}" for path in reversed(paths)]
    table = corpus / "backwards.csv"
    table.write_text("\n".join(["path,label", *lines]))
    flags = ("--feature", feature, "--num_shards", 5)
    runs = {
        "one": (corpus, "--direct_num_workers=1"),
        "two": (corpus, "--direct_num_workers=2"),
        "backwards": (table, "--direct_num_workers=2"),
        "beams_own": (corpus, "--direct_running_mode=multi_threading"),
    }
    made = {}
    for name, (source, flag) in runs.items():
        output = tmp_path / name
        done = kws_prepare("--input", source, "--output", output, *flags, "--", flag)
        assert done.returncode == 0, done.stderr
        made[name] = digests(output, "kws-*")
    table.unlink()
    assert len(made["one"]) > 5
    assert made["one"] == made["two"] == made["backwards"] == made["beams_own"]


def test_seed_and_settings_change_the_bytes(corpus, dataset, tmp_path):
    for name, flag in (("seed", ("--seed", 1)), ("spec", ("--num_mel_bins", 32))):
        output = tmp_path / name
        assert kws_prepare("--input", corpus, "--output", output, *FEATURES, *flag).returncode == 0
        assert digests(output, "kws-*") != digests(dataset, "kws-*")


def test_a_finished_dataset_is_changed_only_when_asked(corpus, dataset, tmp_path):
    output = tmp_path / "sc"
    flags = ("--input", corpus, "--output", output, *FEATURES)
    assert kws_prepare(*flags, "--num_shards", 7).returncode == 0
    before = digests(output)
    line = fails(*flags, status=1)
    assert "holds a finished dataset, and 1 of 4 shards would change: pass --overwrite" in line
    assert digests(output) == before
    assert kws_prepare(*flags, "--overwrite").returncode == 0
    assert digests(output) == digests(dataset)  # no shard of seven is left


def test_an_unchanged_dataset_is_left_alone_without_starting_a_job(corpus, dataset):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    for flags in ((), ("--overwrite",)):
        done = kws_prepare("--input", corpus, "--output", dataset, *FEATURES, *flags)
        assert done.returncode == 0
        assert "is up to date: no shard would change" in done.stdout
        assert done.stderr == ""
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_an_unfinished_dataset_is_completed(corpus, dataset, tmp_path):
    output = tmp_path / "sc"
    output.mkdir()
    (output / account.LOCK).touch()  # what every job that did not end leaves
    (output / "kws-train.tfrecord-00000-of-00001").write_bytes(b"half of a shard")
    (output / "kws-train.tfrecord-00003-of-00099.unfinished-0a").write_bytes(b"junk")
    assert kws_prepare("--input", corpus, "--output", output, *FEATURES).returncode == 0
    assert digests(output, "kws-*") == digests(dataset, "kws-*")


def obey_permissions() -> None:
    """Takes from root what lets it read and write anything: CAP_DAC_OVERRIDE, _READ_SEARCH."""
    libc, drop_capability = ctypes.CDLL(None), 24  # PR_CAPBSET_DROP
    for capability in (1, 2):
        libc.prctl(drop_capability, capability, 0, 0, 0)


@pytest.mark.parametrize(
    ("flags", "status", "line"),
    [
        (("--input", "{empty}"), 1, "holds no recordings: expected WORD/NAME.wav"),
        (("--input", "{empty}/nowhere"), 1, "does not exist: give the folder"),
        (("--input", "{corpus}", "--windw_ms", "30"), 2, "Unrecognized options: --windw_ms"),
        (("--input", "{corpus}", "--window_ms", "33.33"), 2, "must be a whole, positive number"),
        (("--input", "{corpus}", "--split", "lists"), 1, "needs validation_list.txt"),
        (("--input", "{corpus}", "--", "--runnr=x"), 2, "did you mean --runner?"),
        (("--input", "s3://bucket/corpus"), 1, "is a URL: give a folder"),
        (("--input", "{corpus}", "--name", "No Good"), 2, "--name must be lower-case letters"),
    ],
)
def test_bad_input_is_one_clear_line(corpus, tmp_path, flags, status, line):
    empty = tmp_path / "empty"
    empty.mkdir()
    output = tmp_path / "out"
    filled = [flag.format(empty=empty, corpus=corpus) for flag in flags]
    assert line in fails("--output", output, *filled, status=status)
    assert not output.exists()


@pytest.mark.parametrize("what", ["input", "output"])
def test_a_folder_without_permission_is_one_clear_line(tmp_path, what):
    corpus = write_corpus(tmp_path / "corpus", speakers=2)
    locked = corpus / "go" if what == "input" else tmp_path / "locked"
    locked.mkdir(exist_ok=True)
    output = tmp_path / "out" if what == "input" else locked / "out"
    locked.chmod(0)
    try:
        line = fails("--input", corpus, "--output", output, status=1, preexec_fn=obey_permissions)
    finally:
        locked.chmod(0o755)
    assert line == f"kws prepare: {locked if what == 'input' else output}: Permission denied"


def test_a_full_disk_is_one_clear_line_and_leaves_no_half_file(corpus, tmp_path):
    """A limit on file sizes stands for a disk that is full: both fail a write in a worker."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    output = tmp_path / "out"
    line = fails("--input", corpus, "--output", output, status=1, preexec_fn=limit)
    assert "File too large" in line
    assert not list(output.rglob("*unfinished*"))
    assert not (output / "dataset_info.json").exists()


@pytest.fixture
def endless(tmp_path) -> list[object]:
    """Flags of a job that takes minutes: one recording under 300,000 names."""
    (tmp_path / "a.wav").write_bytes(wav_bytes(tone("a")))
    rows = "".join(f"a.wav,go,{number}\n" for number in range(300_000))
    (tmp_path / "table.csv").write_text("path,label,id\n" + rows)
    return ["--input", tmp_path / "table.csv", "--output", tmp_path / "out", "--shard_mb", 20]


def start_and_wait_for_shards(
    flags: list[object], output: pathlib.Path, shards: int = 1
) -> subprocess.Popen:
    process = subprocess.Popen(
        command(*flags), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 90
    while len(list(output.glob("kws-*[0-9]"))) < shards:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def children(pid: int) -> list[int]:
    """All descendants of a process, from /proc."""
    parents = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(status.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def is_running(pid: int) -> bool:
    try:
        return bool(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())  # empty: a zombie
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ctrl_c_ends_the_job_at_once_and_leaves_nothing_half_written(endless, tmp_path):
    process = start_and_wait_for_shards(endless, tmp_path / "out")
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: the whole group
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "kws prepare: interrupted"
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").rglob("*unfinished*"))
    assert not (tmp_path / "out" / "dataset_info.json").exists()
    deadline = time.monotonic() + 10
    while left := [pid for pid in workers if is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_a_worker_that_is_killed_fails_the_job_instead_of_hanging_it(endless, tmp_path):
    process = start_and_wait_for_shards(endless, tmp_path / "out")
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "a worker process died (signal 9" in errors.splitlines()[-1]
    assert not list((tmp_path / "out").rglob("*unfinished*"))
    assert not (tmp_path / "out" / "dataset_info.json").exists()


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory) -> tuple[list[object], dict[str, str]]:
    """Flags of a job of 60 shards, and the digests of what it makes when nothing happens."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    flags = ["--input", corpus, "--feature", "log_mel", "--num_shards", 60, "--copies", 8]
    flags += ["--max_failure_fraction", 0.05]
    assert kws_prepare(*flags, "--output", output).returncode == 0
    return flags, digests(output)


@pytest.mark.parametrize("shards", [1, 20, 45])
@pytest.mark.parametrize("victim", ["driver", "everyone"])
def test_a_job_killed_at_any_moment_is_completed_to_the_same_bytes(
    undisturbed, tmp_path, shards, victim
):
    flags, expected = undisturbed
    output = tmp_path / "out"
    process = start_and_wait_for_shards([*flags, "--output", output], output, shards)
    if victim == "everyone":
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    assert not (output / "dataset_info.json").exists()
    kept = {path: path.stat().st_ino for path in output.glob("manifest/part-*.parquet")}
    done = kws_prepare(*flags, "--output", output)
    assert done.returncode == 0, done.stderr
    assert digests(output) == expected
    assert all(path.stat().st_ino == inode for path, inode in kept.items())  # only what was missing


def test_one_changed_recording_changes_one_shard(undisturbed, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", speakers=20)
    output = tmp_path / "out"
    flags = ("--input", corpus, "--output", output, *FEATURES, "--num_shards", 8)
    assert kws_prepare(*flags).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in output.glob("kws-*")}
    clip = corpus / "go" / f"{zlib.crc32(bytes([0])):08x}_nohash_0.wav"
    clip.write_bytes(wav_bytes(tone("another")))
    line = fails(*flags, status=1)
    assert f"and 1 of {len(before)} shards would change" in line
    assert kws_prepare(*flags, "--overwrite").returncode == 0
    changed = [path for path, mtime in before.items() if path.stat().st_mtime_ns != mtime]
    assert len(changed) == 1


def test_the_twelve_classes_of_the_literature_are_one_command(corpus, tmp_path):
    output = tmp_path / "out"
    flags = ("--wanted_words", "up", "go", "--unknown_percent", 20, "--silence_percent", 25)
    done = kws_prepare("--input", corpus, "--output", output, *FEATURES, *flags)
    assert done.returncode == 0, done.stderr
    info = DatasetInfo.read(output)
    assert info.labels == ("_silence_", "_unknown_", "up", "go")
    rows = pd.read_parquet(output / "manifest")
    told = info.account
    assert told["found"] + told["generated"]["silence"] == len(rows)
    made = rows[rows["status"] == "made"]
    assert set(made.query("label == '_unknown_'")["word"]) == {"stop"}
    assert len(made.query("label == '_silence_'")) == told["generated"]["silence"] > 0
    assert told["excluded"]["not_sampled"] == len(rows.query("reason == 'not_sampled'"))


def test_a_changed_noise_changes_the_copies_made_with_it(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", speakers=12)
    noise = corpus / "_background_noise_" / "hum.wav"
    noise.parent.mkdir()
    noise.write_bytes(wav_bytes(tone("hum", num_samples=40_000)))
    flags = ("--input", corpus, *FEATURES, "--copies", 1, "--output")
    assert kws_prepare(*flags, tmp_path / "out").returncode == 0
    noise.write_bytes(wav_bytes(tone("another", num_samples=50_000)))
    assert kws_prepare(*flags, tmp_path / "out", "--overwrite").returncode == 0
    assert kws_prepare(*flags, tmp_path / "fresh").returncode == 0
    assert digests(tmp_path / "out", "kws-*") == digests(tmp_path / "fresh", "kws-*")


def test_noise_that_cannot_be_read_is_blamed_itself(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", speakers=3)
    (corpus / "_background_noise_").mkdir()
    (corpus / "_background_noise_" / "junk.wav").write_bytes(b"junk")
    flags = ("--input", corpus, "--output", tmp_path / "out", *FEATURES, "--silence_percent", 90)
    line = fails(*flags, status=1)
    assert "_background_noise_/junk.wav can't be used" in line


@pytest.mark.parametrize(
    ("flags", "status"),
    [(("--wanted_words", "gogo"), 1), (("--num_mel_bins", 200), 2), (("--shard_mb", "inf"), 2)],
)
def test_a_mistake_leaves_a_finished_dataset_finished(corpus, dataset, flags, status):
    before = digests(dataset)
    fails("--input", corpus, "--output", dataset, *FEATURES, "--overwrite", *flags, status=status)
    assert digests(dataset) == before


def test_another_name_replaces_the_shards_of_the_old_one(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", speakers=5)
    flags = ("--input", corpus, "--output", tmp_path / "out", *FEATURES)
    assert kws_prepare(*flags).returncode == 0
    assert kws_prepare(*flags, "--name", "other", "--overwrite").returncode == 0
    names = {path.name.split("-")[0] for path in (tmp_path / "out").glob("*.tfrecord-*")}
    assert names == {"other"}


def test_duplicates_are_dropped_and_the_first_id_wins(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", speakers=10)
    first, second = sorted((corpus / "go").iterdir())[:2]
    second.write_bytes(first.read_bytes())
    output = tmp_path / "out"
    flags = ("--input", corpus, "--output", output, *FEATURES, "--drop_duplicates")
    assert kws_prepare(*flags).returncode == 0
    rows = pd.read_parquet(output / "manifest").set_index("id")
    assert rows.loc[f"go/{first.name}", "status"] == "made"
    dropped = rows.loc[f"go/{second.name}"]
    assert (dropped["status"], dropped["reason"]) == ("excluded", "duplicate")
    again = kws_prepare(*flags)
    assert (again.returncode, "is up to date" in again.stdout) == (0, True)


def test_the_options_that_shaped_a_dataset_are_in_it(dataset, corpus):
    preparation = json.loads((dataset / "preparation.json").read_text())["preparation"]
    assert preparation["source"] == str(corpus)
    assert preparation["splits"] == {
        "split": "speaker_hash",
        "validation_percent": 10.0,
        "test_percent": 10.0,
    }
