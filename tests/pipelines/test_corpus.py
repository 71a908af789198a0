import json
import os
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.corpus import Recording, check_source, list_recordings, speaker_of


def touch(folder: pathlib.Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return str(folder)


def test_words_are_the_folders_and_only_audio_files_are_recordings(tmp_path):
    source = touch(
        tmp_path,
        "go/0c40e715_nohash_0.wav",
        "go/deeper/take.FLAC",
        "stop/plain.wav",
        "go/._0c40e715_nohash_0.wav",
        "go/.hidden.wav",
        "go/notes.txt",
        ".git/go.wav",
        "LICENSE",
    )
    found = {recording.id: recording for recording in list_recordings(source)}
    assert set(found) == {"go/0c40e715_nohash_0.wav", "go/deeper/take.FLAC", "stop/plain.wav"}
    assert found["go/0c40e715_nohash_0.wav"] == Recording(
        id="go/0c40e715_nohash_0.wav",
        path=f"{source}/go/0c40e715_nohash_0.wav",
        label="go",
        speaker="0c40e715",
    )
    assert found["go/deeper/take.FLAC"].label == "go"
    assert found["stop/plain.wav"].speaker == ""


def test_recordings_that_are_no_words_are_found_and_excluded_with_a_reason(tmp_path):
    source = touch(
        tmp_path, "_background_noise_/tap.wav", "_old/spoken.wav", " go/b.wav", "loose.wav"
    )
    touch(tmp_path, "go/a.wav")
    reasons = {recording.id: recording.exclusion for recording in list_recordings(source)}
    assert reasons == {
        "_background_noise_/tap.wav": "background_noise",
        "_old/spoken.wav": "not_a_word",
        " go/b.wav": "bad_name",
        "loose.wav": "no_label",
        "go/a.wav": "",
    }


@pytest.mark.parametrize(
    ("path", "speaker"),
    [
        ("go/0c40e715_nohash_12.wav", "0c40e715"),
        ("go/a_b_nohash_0.wav", "a_b"),
        ("0c40e715_nohash_0/go.wav", ""),
        ("go/plain.wav", ""),
    ],
)
def test_the_speaker_is_what_precedes_nohash_in_the_file_name(path, speaker):
    assert speaker_of(path) == speaker


ROWS = [
    {"path": "a.wav", "label": "go", "id": "one", "speaker": "00176480", "split": "test"},
    {"path": "sub/b.wav", "label": "stop", "start_s": 1.5, "end_s": 2.5},
]


def write_table(path: pathlib.Path) -> str:
    columns = ("path", "label", "id", "speaker", "split", "start_s", "end_s")
    if path.suffix == ".csv":
        lines = [",".join(str(row.get(column, "")) for column in columns) for row in ROWS]
        path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    else:
        rows = [{column: row.get(column) for column in columns} for row in ROWS]
        pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_kind_of_table_gives_the_same_recordings(tmp_path, suffix):
    table = write_table(tmp_path / f"table{suffix}")
    assert list(list_recordings(table)) == [
        Recording("one", f"{tmp_path}/a.wav", "go", "00176480", "test"),
        Recording("sub/b.wav@1.5-2.5", f"{tmp_path}/sub/b.wav", "stop", "", "", 1.5, 2.5),
    ]


def test_absolute_paths_in_a_table_stay(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\n/elsewhere/a.wav,go\n")
    assert next(list_recordings(str(tmp_path / "t.csv"))).path == "/elsewhere/a.wav"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.wav\n", "no column label; it has: path"),
        ("path,label\n,go\n", "row 1: column 'path' is missing or empty"),
        ("path,label\na.wav,go\nb.wav, go\n", "row 2: label ' go' has spaces around it"),
        ("path,label\na.wav,_silence_\n", "row 1: label '_silence_' .*starts with _"),
        ("path,label,id\na.wav,go,x#1\n", "row 1: id 'x#1' ends as an augmented copy's does"),
        ("path,label\na\0.wav,go\n", "row 1: column 'path' holds .*, which is no text"),
        ("path,label\n" + "a" * 200_000 + ",go\n", "row 1: field larger than field limit"),
        ("path,label,start_s\na.wav,go,soon\n", "row 1: could not convert string to float"),
        ("path,label,start_s\na.wav,go,-1\n", "row 1: a time is -1"),
        ("path,label,start_s,end_s\na.wav,go,2,1\n", "row 1: start_s 2.0 is not before end_s 1.0"),
    ],
)
def test_a_wrong_table_is_refused_by_row_and_column(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        list(list_recordings(str(tmp_path / "t.csv")))


def test_a_row_without_a_label_is_excluded(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na.wav,\n")
    assert next(list_recordings(str(tmp_path / "t.csv"))).exclusion == "no_label"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "does not exist"),
        ("", "holds no recordings: expected WORD/NAME.wav"),
        ("file.txt", "is neither a folder nor a table"),
    ],
)
def test_an_input_that_cannot_be_used_is_refused_before_the_job(tmp_path, name, message):
    touch(tmp_path, "file.txt")
    with pytest.raises(ValueError, match=message):
        check_source(str(tmp_path / name))


def test_lines_of_json_that_are_no_rows_are_refused(tmp_path):
    for number, (text, message) in enumerate(
        [
            ('["a.wav", "go"]\n', "row 1: expected"),
            ('{"path": "a.wav", "lable": "go"}\n', "has no column label"),
            ('{"path": "a.wav",\n', "row 1: Expecting"),
            ('{"path": "\\ud800", "label": "go"}\n', "row 1: column 'path' holds"),
        ]
    ):
        table = tmp_path / f"{number}.jsonl"
        table.write_text(text)
        with pytest.raises(ValueError, match=message):
            list(list_recordings(str(table)))


def test_links_that_lead_in_circles_are_followed_once(tmp_path):
    source = touch(tmp_path, "a/x.wav", "c/y.wav")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "c")
    (tmp_path / "c" / "d").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self.wav").symlink_to(tmp_path / "a" / "self.wav")
    found = {recording.id for recording in list_recordings(source)}
    assert {"a/x.wav", "c/y.wav", "a/b/y.wav", "c/d/x.wav", "a/self.wav"} <= found
    assert len(found) < 10


def test_a_name_that_is_no_utf8_is_found_and_excluded(tmp_path):
    (tmp_path / "go").mkdir()
    with open(os.fsencode(str(tmp_path / "go")) + b"/\xff.wav", "wb"):
        pass
    (recording,) = list_recordings(str(tmp_path))
    assert (recording.id, recording.exclusion) == ("go/\\udcff.wav", "bad_name")
