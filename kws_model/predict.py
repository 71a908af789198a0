"""A trained model's answers for new recordings, decoded just as `kws prepare` decodes them.

$ kws predict --run_dir runs/sc9 go/004ae714_nohash_0.wav _background_noise_/running_tap.wav
recording                           word                 runner-ups
go/004ae714_nohash_0.wav            go            95.5%  down 4.5%, left 0.0%
_background_noise_/running_tap.wav  go            13.8%  eight 13.6%, left 12.2%  ...
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from kws_model import devices
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from kws_model.run import Run, Weights, write_text

if TYPE_CHECKING:
    import keras

BATCH_CLIPS = 64
MANY_FILES = 100  # from here on a terminal gets a progress bar
TABLES = (".csv", ".jsonl", ".parquet")
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `kws predict` listens to, and how it answers."""

    paths: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FILE_OR_DIR ...", help_behavior_hint=""),
    ]
    """Recordings, and folders of recordings."""
    run_dir: str
    """Folder of a run that kws train made."""
    top: int = 3
    """How many words are named for each recording, the likeliest first."""
    weights: Weights = "best"
    """Of the best epoch or the last."""
    output: str | None = None
    """Also write the answers to this table: a .csv, .jsonl or .parquet file."""
    overwrite: bool = False
    """Replace the file that output names."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("name at least one recording, or a folder of recordings")
        if self.top < 1:
            raise ValueError(f"--top must be at least 1; got {self.top}")
        if self.output is not None and not self.output.lower().endswith(TABLES):
            raise ValueError(f"--output must end with {', '.join(TABLES)}; got {self.output}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """A recording as the model hears it, or the reason why it can't.

    `waveform` is float32 [clip_samples]: of a longer recording (`trimmed`) the beginning, of a
    shorter one (`padded`) all, and zeros. `seconds` is the recording's own length.
    """

    path: str
    waveform: NDArray[np.float32] | None = None
    seconds: float | None = None
    padded: bool | None = None
    trimmed: bool | None = None
    reason: str | None = None
    detail: str | None = None


def run(options: Options) -> None:
    """Prints a line for each recording, and writes the table if one is wanted.

    Raises:
      ValueError: no run or no weights there; a folder without recordings; an output that exists; or
        not one recording could be read.
    """
    import tqdm

    run_ = Run.read(options.run_dir)
    run_.check_weights(options.weights)
    check_output(options)
    paths = list_recordings(options.paths)
    devices.start_tensorflow()
    model = run_.load_model(options.weights)
    width = min(60, max(map(len, paths)))
    print(f"{'recording':{width}s}  {'word':12s}         runner-ups")
    rows = []
    disable = None if len(paths) >= MANY_FILES else True  # None: only on a terminal
    with tqdm.tqdm(total=len(paths), unit=" clips", dynamic_ncols=True, disable=disable) as bar:
        for row in answers(model, run_, paths, top=options.top):
            bar.write(line(row, run_.spec, width=width))  # to stdout, around the bar
            bar.update()
            rows.append(row)
    if options.output is not None:
        write_table(pathlib.Path(options.output), rows)
    check_answers(rows)


def check_output(options: Options) -> None:
    """Raises ValueError if the table can't be written, before any work."""
    if options.output is None:
        return
    output = pathlib.Path(options.output)
    if output.exists() and not options.overwrite:
        raise ValueError(f"--output {output} exists: name another, or pass --overwrite")
    if not output.absolute().parent.is_dir():
        raise ValueError(f"--output {output}: there is no folder {output.absolute().parent}")


def list_recordings(paths: Iterable[str]) -> list[str]:
    """The files named, and all recordings below the folders named, by path.

    Raises:
      ValueError: there are none below a folder.
    """
    from pipelines import corpus

    listed: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            found = sorted(recording.path for recording in corpus.list_folder(path))
            if not found:
                suffixes = " ".join(corpus.AUDIO_SUFFIXES)
                raise ValueError(f"{path} holds no recordings (files that end with {suffixes})")
            listed += found
        else:
            listed.append(path)  # whatever its name; if it is missing, its line says so
    return listed


def hear(paths: list[str], spec: FeatureSpec) -> Iterator[Heard]:
    """Reads and decodes recordings, in order."""
    # This package depends on no pipeline, so that Beam stays out of training and serving. But a
    # model must hear what it was trained on, and a second decoder would drift from the first; these
    # modules import neither Beam nor TensorFlow.
    from pipelines import clip, read_ahead, wav

    for path, content in zip(paths, read_ahead.read_ahead(paths), strict=True):
        try:
            if isinstance(content, wav.Rejected):
                raise content
            audio = wav.decode(content)
            mono = clip.make_clip(audio, spec.sample_rate_hz).mono
        except wav.Rejected as rejection:
            yield Heard(path=path, reason=rejection.reason, detail=rejection.detail)
            continue
        yield Heard(
            path=path,
            waveform=clip.fit(mono, spec.clip_samples),
            seconds=len(audio.samples) / audio.sample_rate_hz,
            padded=len(mono) < spec.clip_samples,
            trimmed=len(mono) > spec.clip_samples,
        )


def answers(model: keras.Model, run_: Run, paths: list[str], *, top: int) -> Iterator[Row]:
    """One row per recording, in order; see `row_of`."""
    recordings, frontend = hear(paths, run_.spec), Frontend(run_.spec)
    while batch := list(itertools.islice(recordings, BATCH_CLIPS)):
        clips = [heard.waveform for heard in batch if heard.waveform is not None]
        probabilities: Iterator[NDArray[np.float32]] = iter(())
        if clips:
            # As stored: rounded to the spec's dtype, as what the model was trained on.
            features = frontend(np.stack(clips))  # [clips, frames, bins]
            probabilities = iter(model.predict_on_batch(features))  # [clips, labels]
        for heard in batch:
            mine = None if heard.waveform is None else next(probabilities)
            yield row_of(heard, mine, run_.labels, top=top)


def row_of(
    heard: Heard, probabilities: NDArray[np.float32] | None, labels: tuple[str, ...], *, top: int
) -> Row:
    """A recording's row in the table; what is not known of it is None.

    `path`; `word` and `probability`, `word_2` and `probability_2` and so on; `seconds`, `padded`,
    `trimmed`; and of what can't be read `reason` and `detail`, as in a dataset's manifest.
    """
    if probabilities is None:
        named: list[tuple[str | None, float | None]] = [(None, None)] * min(top, len(labels))
    else:
        order = np.argsort(-probabilities, kind="stable")[:top]
        named = [(labels[index], float(probabilities[index])) for index in order]
    row: Row = {"path": heard.path}
    for rank, (word, probability) in enumerate(named, start=1):
        suffix = "" if rank == 1 else f"_{rank}"
        row |= {f"word{suffix}": word, f"probability{suffix}": probability}
    for name in ("seconds", "padded", "trimmed", "reason", "detail"):
        row[name] = getattr(heard, name)
    return row


def line(row: Row, spec: FeatureSpec, *, width: int) -> str:
    """A row as it is printed."""
    path = f"{row['path']:{width}s}"
    if row["reason"]:
        return f"{path}  {'-':12s}         not read: {row['reason']}, {row['detail']}"
    suffixes = [name.removeprefix("word") for name in row if name.startswith("word_")]
    runners_up = ", ".join(f"{row['word' + s]} {row['probability' + s]:.1%}" for s in suffixes)
    length = f"  (the first {spec.clip_ms:g} of {1000 * row['seconds']:.0f} ms)"
    note = length if row["trimmed"] else ""
    return f"{path}  {row['word']:12s} {row['probability']:6.1%}  {runners_up}{note}"


def write_table(path: pathlib.Path, rows: list[Row]) -> None:
    """Writes the rows as CSV, JSON lines or Parquet, by the path's ending; whole or not at all."""
    ending = path.suffix.lower()
    if ending == ".parquet":
        write_parquet(path, rows)
    elif ending == ".jsonl":
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, text.getvalue())


def write_parquet(path: pathlib.Path, rows: list[Row]) -> None:
    """Writes the rows as Parquet; a column's type is the same whatever could be read."""
    import pyarrow as pa
    import pyarrow.parquet

    types = {"probability": pa.float32(), "seconds": pa.float64()}
    types |= dict.fromkeys(("padded", "trimmed"), pa.bool_())
    schema = pa.schema((name, types.get(name.partition("_")[0], pa.string())) for name in rows[0])
    unfinished = path.with_name(f".{path.name}.unfinished")
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema), unfinished)
    os.replace(unfinished, path)


def check_answers(rows: list[Row]) -> None:
    """Says how many recordings could not be read; raises ValueError if none could."""
    failed = sum(row["reason"] is not None for row in rows)
    if failed == len(rows):
        raise ValueError(f"not one of {failed:,} recordings could be read, for the reasons above")
    if failed:
        print(f"{failed:,} of {len(rows):,} recordings could not be read", file=sys.stderr)


if __name__ == "__main__":
    from kws_model import cli

    cli.main(["predict", *sys.argv[1:]])
