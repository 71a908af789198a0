"""A folder or a table -> recordings: names and what is known of them, never their sound.

>>> next(list_recordings("speech_commands"))
Recording(id='bed/00176480_nohash_0.wav', path='speech_commands/bed/00176480_nohash_0.wav', ...)
"""

import csv
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    *(".flac", ".ogg", ".oga", ".opus", ".mp3"),
)
TABLE_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json", ".parquet")
COLUMNS = ("path", "label", "id", "speaker", "split", "start_s", "end_s")

# Why a recording is found but not used, as far as its name tells.
EXCLUDED = {
    "no_label": "it lies in no word's folder, or its label is empty",
    "background_noise": "it lies in _background_noise_",
    "not_a_word": "it lies in another folder that starts with _",
    "bad_name": "its name is not UTF-8, or its folder's has spaces around it or a line break in it",
    "no_split": "the table names no split for it",
    "duplicate": "another recording, first by id, has the same bytes (--drop_duplicates)",
}


class Recording(NamedTuple):
    """One recording, about 100 bytes: all that crosses the network.

    `label` is the class; `word` is what is said, once the two may differ. `start_s` and `end_s` are
    seconds from the file's beginning, None for its own ends. `exclusion` says why it is not used;
    `copy` is 0, or the number of an augmented copy.
    """

    id: str
    path: str
    label: str
    speaker: str = ""
    split: str = ""
    start_s: float | None = None
    end_s: float | None = None
    exclusion: str = ""
    word: str = ""
    copy: int = 0


def list_recordings(source: str) -> Iterator[Recording]:
    """Every recording of a folder (words are its sub-folders) or of a table.

    Raises:
      ValueError: there is no such folder or table, or a row of the table is wrong.
      OSError: it can't be read.
    """
    return read_table(source) if is_table(source) else list_folder(source)


def is_table(source: str) -> bool:
    """Whether an input names a table rather than a folder."""
    return source.lower().endswith(TABLE_SUFFIXES) and not os.path.isdir(source)


def check_source(source: str) -> None:
    """Raises ValueError or OSError, in the driver, for an input that the job could not use."""
    if "://" in source:
        raise ValueError(
            f"--input {source} is a URL: give a folder or a table that is mounted here"
        )
    if not os.path.exists(source):
        raise ValueError(f"--input {source} does not exist: give the folder that holds the words")
    if next(list_recordings(source), None) is None:
        suffixes = " ".join(AUDIO_SUFFIXES)
        raise ValueError(
            f"--input {source} holds no recordings: expected WORD/NAME.wav in it "
            f"(or another of {suffixes}), or a table with rows"
        )


def list_folder(folder: str) -> Iterator[Recording]:
    """The audio files below a folder; the first folder on the way is the word.

    Hidden files (`._*`, which macOS leaves, too) and files without an audio suffix are no
    recordings. A sub-folder that can't be read raises: silence would lose a word.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"{folder} is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)})")
    root = folder.rstrip("/") or "/"
    for name in _audio_files(root):
        word = name.partition("/")[0] if "/" in name else ""
        exclusion = _exclusion(word)
        if not name.isascii():
            shown = name.encode(errors="backslashreplace").decode()
            if shown != name:  # Python's stand-ins for bytes that are no UTF-8: no string elsewhere
                exclusion, name = "bad_name", shown
        yield Recording(
            id=name,
            path=f"{root}/{name}",
            label="" if exclusion else word,
            speaker=speaker_of(name),
            exclusion=exclusion,
        )


@functools.lru_cache(maxsize=4096)
def _exclusion(word: str) -> str:
    if not word:
        return "no_label"
    if word.startswith("_"):
        return "background_noise" if word == "_background_noise_" else "not_a_word"
    return "" if is_label(word) else "bad_name"


def is_label(word: str) -> bool:
    """Whether a word can name a class: one line, which label.labels.txt holds as it is."""
    return bool(word) and word == word.strip() and len(word.splitlines()) == 1


def _audio_files(
    root: str, below: str = "", above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Paths relative to `root` of the audio files in its sub-folder `below` (or in itself).

    `above` holds device and inode of the folders that lead here: a link to one would never end.
    """
    folders = []
    status = os.stat(os.path.join(root, below))
    if (status.st_dev, status.st_ino) in above:
        return
    above |= {(status.st_dev, status.st_ino)}
    with os.scandir(os.path.join(root, below)) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{below}/{entry.name}" if below else entry.name
            if _is_folder(entry):
                folders.append(name)
            elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:
                yield name
    for name in folders:
        yield from _audio_files(root, name, above)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say: reading it as a file will tell
        return False


def speaker_of(path: str) -> str:
    """The speaker in a name of Speech Commands, such as 0c40e715_nohash_0.wav; else empty."""
    match = re.match(r"(.+?)_nohash_", os.path.basename(path))
    return match[1] if match else ""


def read_table(table: str) -> Iterator[Recording]:
    """The rows of a CSV, JSON lines or Parquet table with the columns of `COLUMNS`.

    `path` and `label` are required; paths are relative to the table's folder. Without an `id`, the
    path is one, with the segment's times if there are any.
    """
    folder = os.path.dirname(os.path.abspath(table))
    number = 0  # rows that were read and used
    try:
        for row in _rows(table):
            yield _recording(row, folder)
            number += 1
    except (AttributeError, TypeError, ValueError, csv.Error) as error:
        if str(error).startswith(table):
            raise
        raise ValueError(f"{table}, row {number + 1}: {error}") from error


def _recording(row: dict[str, Any], folder: str) -> Recording:
    if not isinstance(row, dict):
        raise ValueError(f'expected {{"path": ..., "label": ...}}; got {str(row)[:60]!r}')
    values = {column: row.get(column) for column in COLUMNS}
    text = {name: "" if value is None else str(value) for name, value in values.items()}
    _check_text(text)
    start_s, end_s = _seconds(values["start_s"]), _seconds(values["end_s"])
    if start_s is not None and end_s is not None and not start_s < end_s:
        raise ValueError(f"start_s {start_s} is not before end_s {end_s}")
    segment = f"@{start_s or 0.0!r}-{'' if end_s is None else repr(end_s)}"
    return Recording(
        id=text["id"] or text["path"] + (segment if (start_s, end_s) != (None, None) else ""),
        path=os.path.join(folder, text["path"]),
        label=text["label"],
        speaker=text["speaker"] or speaker_of(text["path"]),
        split=text["split"],
        start_s=start_s,
        end_s=end_s,
        exclusion="" if text["label"] else "no_label",
    )


def _check_text(text: dict[str, str]) -> None:
    """Refuses what no folder, record or label file could hold."""
    if not text["path"]:
        raise ValueError("column 'path' is missing or empty")
    label = text["label"]
    if label and (not is_label(label) or label.startswith("_")):
        raise ValueError(
            f"label {label!r} has spaces around it or a line break in it, or starts with _, "
            "which only _silence_ and _unknown_ do"
        )
    if re.search(r"#\d+$", text["id"]):
        raise ValueError(f"id {text['id']!r} ends as an augmented copy's does: #1, #2, ...")
    for name, value in text.items():
        if "\0" in value or value != value.encode(errors="replace").decode():
            raise ValueError(f"column {name!r} holds {value[:60]!r}, which is no text")


def _seconds(value: Any) -> float | None:
    if value is None or value == "":
        return None
    seconds = float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"a time is {value}; it must be seconds from the start, not negative")
    return seconds


def _rows(table: str) -> Iterable[dict[str, Any]]:
    if table.lower().endswith(".parquet"):
        yield from _parquet_rows(table)
        return
    with open(table, newline="", encoding="utf-8-sig") as file:
        if table.lower().endswith(".csv"):
            # The csv module keeps text as text: a speaker 00176480 is no number.
            rows = csv.DictReader(file)
            _check_columns(table, rows.fieldnames or ())
            yield from rows
            return
        for number, line in enumerate(filter(str.strip, file)):
            row = json.loads(line)
            if number == 0 and isinstance(row, dict):
                _check_columns(table, row)
            yield row


def _parquet_rows(table: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet  # Only those who give a Parquet table wait for it.

    with pyarrow.parquet.ParquetFile(table) as parquet:
        _check_columns(table, parquet.schema_arrow.names)
        columns = [name for name in COLUMNS if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(columns=columns):
            yield from batch.to_pylist()


def _check_columns(table: str, columns: Iterable[str]) -> None:
    missing = {"path", "label"} - set(columns)
    if missing:
        raise ValueError(
            f"{table} has no column {' and no column '.join(sorted(missing))}; "
            f"it has: {', '.join(columns)}"
        )
