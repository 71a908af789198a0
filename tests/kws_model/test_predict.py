"""Predictions: the trained model's answer for any recording, and a reason where there is none."""

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import soxr

from kws_model import cli, predict
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from kws_model.run import Run
from tests.kws_model.test_export import (
    LABELS,
    answers_on_records,
    sound,
    train_run,
    wav_bytes,
    wavs_for,
)

SPEC = FeatureSpec(feature="mfcc")  # 98 x 13: the smallest picture
RATE_HZ = SPEC.sample_rate_hz


@pytest.fixture(scope="module")
def run_(tmp_path_factory) -> Run:
    return train_run(tmp_path_factory.mktemp("runs") / "mfcc", SPEC)


@pytest.fixture
def recordings(tmp_path) -> list[str]:
    """Nine recordings that fit, are too short, too long, loud, silent or of two channels."""
    paths = [tmp_path / f"{number}.wav" for number in range(9)]
    for path, content in zip(paths, wavs_for(SPEC), strict=True):
        path.write_bytes(content)
    return [str(path) for path in paths]


def rows_for(run_: Run, paths: list[str], top: int = 3) -> list[predict.Row]:
    return list(predict.answers(run_.load_model("best"), run_, paths, top=top))


def probabilities_of(row: predict.Row) -> list[float]:
    """In the labels' order."""
    by_word = {row["word" + suffix]: row["probability" + suffix] for suffix in ("", "_2", "_3")}
    return [by_word[label] for label in LABELS]


def kws_predict(run_: Run, *arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["predict", "--run_dir", str(run_.folder), *arguments])
    return exit_.value.code


# What is answered.


def test_the_answer_for_a_recording_is_the_models_answer_for_its_record(run_, recordings):
    rows = rows_for(run_, recordings)
    expected = answers_on_records(run_, wavs_for(SPEC))
    np.testing.assert_allclose([probabilities_of(row) for row in rows], expected, atol=1e-6)
    assert [row["word"] for row in rows[:3]] == list(LABELS)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_what_can_not_be_read_shifts_no_other_answer(run_, recordings, monkeypatch, batch):
    monkeypatch.setattr(predict, "BATCH_CLIPS", batch)
    mixed = ["no/1.wav", *recordings[:2], "no/2.wav", "no/3.wav", *recordings[2:], "no/4.wav"]
    rows = rows_for(run_, mixed)
    assert [row["path"] for row in rows] == mixed
    answered = [row for row in rows if row["reason"] is None]
    expected = answers_on_records(run_, wavs_for(SPEC))
    np.testing.assert_allclose([probabilities_of(row) for row in answered], expected, atol=1e-6)


def test_other_containers_rates_and_channels_are_decoded_as_for_a_dataset(run_, tmp_path):
    samples = np.stack([sound(1, 1.0, rate_hz=44100, seed=1)] * 2, axis=1).astype(np.float32)
    samples = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", samples, 44100)
    mono = soxr.resample((samples / 32768).mean(axis=1, dtype=np.float32), 44100, RATE_HZ)
    features = Frontend(SPEC)(mono.astype(np.float32)[None, : SPEC.clip_samples])
    expected = run_.load_model("best").predict_on_batch(features)[0]
    (row,) = rows_for(run_, [str(tmp_path / "a.flac")])
    np.testing.assert_allclose(probabilities_of(row), expected, atol=1e-3)


def test_the_likeliest_words_come_first(run_, recordings):
    for row in rows_for(run_, recordings):
        assert row["probability"] >= row["probability_2"] >= row["probability_3"]
        assert {row["word"], row["word_2"], row["word_3"]} == set(LABELS)


@pytest.mark.parametrize(("top", "named"), [(1, 1), (2, 2), (3, 3), (10, 3)])
def test_top_words_are_named_but_no_more_than_there_are(run_, recordings, top, named):
    for row in rows_for(run_, [recordings[0], "missing.wav"], top=top):
        assert sum(name.startswith("word") for name in row) == named


def test_equally_likely_words_keep_the_labels_order():
    heard = predict.Heard(path="x")
    row = predict.row_of(heard, np.array([0.25, 0.5, 0.25], np.float32), LABELS, top=3)
    assert [row["word"], row["word_2"], row["word_3"]] == ["low", "hiss", "über"]


# What is printed.


def test_a_line_for_each_recording_says_what_was_heard(run_, recordings, capsys):
    pathlib.Path(recordings[1]).write_bytes(b"")
    assert kws_predict(run_, *recordings[:2], recordings[5]) == 0
    out, err = capsys.readouterr()
    header, first, second, third = out.splitlines()
    assert header.split() == ["recording", "word", "runner-ups"]
    assert first.startswith(f"{recordings[0]}  hiss  ")
    assert first.count("%") == 3
    assert second.endswith("not read: empty, the file has no bytes")
    assert third.endswith("%  (the first 1000 of 1900 ms)")
    assert err == "1 of 3 recordings could not be read\n"


def test_the_command_fails_only_if_nothing_could_be_read(run_, recordings, capsys):
    assert kws_predict(run_, "none.wav", "nor_this.wav") == 1
    out, err = capsys.readouterr()
    assert out.count("not read: missing, there is no such file") == 2
    assert err == "kws predict: not one of 2 recordings could be read, for the reasons above\n"


def test_many_files_need_no_terminal(run_, recordings, monkeypatch, capsys):
    monkeypatch.setattr(predict, "MANY_FILES", 2)
    assert kws_predict(run_, *recordings) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + len(recordings)
    assert err == ""


# Which recordings.


def test_a_folder_is_all_recordings_below_it_by_path(tmp_path):
    for name in ("b/2.wav", "b/1.WAV", "a.mp3", "_noise_/x.flac", "b/c/3.ogg", "b/.x.wav", "t.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = predict.list_recordings([str(tmp_path), str(tmp_path / "t.txt"), "gone.wav"])
    names = ["_noise_/x.flac", "a.mp3", "b/1.WAV", "b/2.wav", "b/c/3.ogg", "t.txt"]
    assert found == [*(str(tmp_path / name) for name in names), "gone.wav"]


def test_a_folder_without_recordings_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds no recordings \(files that end with \.wav "):
        predict.list_recordings([str(tmp_path)])


def test_what_was_done_to_each_recording_is_told(recordings):
    heard = list(predict.hear(recordings, SPEC))
    assert [h.seconds for h in heard[:6]] == [1.0, 1.0, 1.0, 0.4, 0.7, 1.9]
    assert [h.padded for h in heard[:6]] == [False, False, False, True, True, False]
    assert [h.trimmed for h in heard[:6]] == [False, False, False, False, False, True]
    assert all(h.waveform.shape == (SPEC.clip_samples,) for h in heard)


# Tables.


def read_table(path: pathlib.Path) -> list[dict]:
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(text) for text in path.read_text().splitlines()]
    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("ending", predict.TABLES)
def test_a_table_holds_what_was_printed_and_more(run_, recordings, tmp_path, ending):
    table = tmp_path / f"answers{ending}"
    assert kws_predict(run_, *recordings, "missing.wav", "--output", str(table)) == 0
    rows, expected = read_table(table), rows_for(run_, [*recordings, "missing.wav"])
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        for name, value in wanted.items():
            if isinstance(value, float):
                assert float(row[name]) == pytest.approx(value, abs=1e-6)
            else:
                assert row[name] == (
                    str(value) if ending == ".csv" and value is not None else value
                )


@pytest.mark.parametrize("ending", predict.TABLES)
def test_a_table_is_written_although_nothing_could_be_read(run_, tmp_path, ending):
    table = tmp_path / f"answers{ending}"
    assert kws_predict(run_, "missing.wav", "--output", str(table)) == 1
    (row,) = read_table(table)
    assert (row["path"], row["word"], row["reason"]) == ("missing.wav", None, "missing")


def test_a_table_that_exists_is_only_replaced_when_asked(run_, recordings, tmp_path, capsys):
    table = tmp_path / "answers.csv"
    table.write_text("mine")
    assert kws_predict(run_, recordings[0], "--output", str(table)) == 1
    assert "answers.csv exists: name another, or pass --overwrite" in capsys.readouterr().err
    assert table.read_text() == "mine"
    assert kws_predict(run_, recordings[0], "--output", str(table), "--overwrite") == 0
    assert len(read_table(table)) == 1


def test_a_table_in_a_folder_that_is_not_there_is_refused_first(run_, recordings, tmp_path):
    options = predict.Options(
        paths=tuple(recordings), run_dir=str(run_.folder), output=str(tmp_path / "no" / "a.csv")
    )
    with pytest.raises(ValueError, match="there is no folder "):
        predict.run(options)


# Wrong usage, and what is imported.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name at least one recording, or a folder of recordings"),
        (("a.wav", "--top", "0"), "--top must be at least 1; got 0"),
        (("a.wav", "--output", "a.txt"), "--output must end with .csv, .jsonl, .parquet; got a"),
    ],
)
def test_wrong_usage_is_one_line(run_, capsys, arguments, message):
    assert kws_predict(run_, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_listening_imports_neither_beam_nor_tensorflow(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(np.zeros(RATE_HZ), rate_hz=RATE_HZ))
    program = (
        "import sys; from kws_model import feature_spec, predict; "
        "heard = list(predict.hear(predict.list_recordings(sys.argv[1:]), "
        "feature_spec.FeatureSpec())); "
        "print(heard[0].seconds, {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.check_output(command, text=True) == "1.0 set()\n"
