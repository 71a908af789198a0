"""A dataset's data card: what is in it, what was mended, what leaks.

$ kws inspect --dataset datasets/sc9
kws, log_spectrogram float16 98 x 257, fingerprint 69049d824d63bd11
5,006 found = 5,000 made + 0 rejected + 6 excluded, 252.6 MB in 19 shards
...
written to datasets/sc9/data_card.html

The page is one file that loads nothing; the same dataset is always the same page. To read any
record yourself: `example.read_example(dataset, shard=row.shard, offset=row.offset)`.
"""

import contextlib
import dataclasses
import os
import pathlib
import sys
import textwrap
from collections.abc import Iterator

import numpy as np

from kws_model import card_examples, data_card, data_facts
from kws_model.data_card import Finding
from kws_model.data_facts import Facts
from kws_model.dataset_info import DatasetInfo
from kws_model.manifest_table import Ints

NAMES_SHOWN = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `kws inspect` shows."""

    dataset: str
    """Folder of a dataset that kws prepare made."""
    output: str | None = None
    """The page; by default data_card.html in the dataset's folder."""
    corpus: str | None = None
    """Folder of the recordings, if they are no longer where kws prepare found them."""
    examples_per_class: int = 3
    """Clips of each label to look at and listen to."""

    def __post_init__(self) -> None:
        if self.examples_per_class < 0:
            raise ValueError(
                f"--examples_per_class must not be negative; got {self.examples_per_class}"
            )
        if self.corpus is not None and not os.path.isdir(self.corpus):
            raise ValueError(f"--corpus {self.corpus} is not a folder")


def run(options: Options) -> None:
    """Writes the page and prints a summary.

    Raises:
      ValueError: the dataset is missing, unfinished or damaged, or the page can't be written.
    """
    info = DatasetInfo.read(options.dataset)
    output = pathlib.Path(options.output or info.folder / "data_card.html")
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder: name a file in it")
    facts = data_facts.gather(info)
    found = findings(facts)
    examples, remark = card_examples.choose(
        facts, per_class=options.examples_per_class, corpus=options.corpus
    )
    write(output, data_card.page(facts, examples, findings=found, remark=remark))
    print(summary(facts, found))
    print(f"written to {output}")


def write(path: pathlib.Path, text: str) -> None:
    """Writes the page, whole or not at all; raises ValueError if it can't."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, "utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise ValueError(
            f"{path} can't be written ({error.strerror}): name another file with --output"
        ) from error


# ---------------------------------------------------------------------------------------- findings


def findings(facts: Facts) -> list[Finding]:
    """What the reader must know, leaks first."""
    return [*_leaks(facts), *_notes(facts)]


def _leaks(facts: Facts) -> Iterator[Finding]:
    same, cut_up, speakers = facts.identical, facts.cut_up, facts.speakers
    if same.split_groups:
        yield Finding(
            f"{same.split_clips:,} clips in {_count(same.split_groups, 'group')} of byte-identical "
            "recordings are in more than one split: a model is tested on what it was trained on. "
            "Keep one of each: --drop_duplicates.",
            is_serious=True,
        )
    if same.label_groups:
        yield Finding(
            f"{same.label_clips:,} clips in {_count(same.label_groups, 'group')} of byte-identical "
            "recordings have different labels: one of them at most can be right.",
            is_serious=True,
        )
    if cut_up.split_groups:
        yield Finding(
            f"{_count(cut_up.split_groups, 'file')} with clips in more than one split "
            f"({cut_up.split_clips:,} clips): the same voice and room, or the very same sound.",
            is_serious=True,
        )
    if speakers.num_crossing:
        parts = (
            f"{part / max(whole, 1):.1%} of {split}"
            for split, part, whole in zip(
                facts.splits, speakers.crossing_clips, facts.recorded, strict=True
            )
        )
        yield Finding(
            f"{_count(speakers.num_crossing, 'speaker')} in more than one split, with "
            f"{', '.join(parts)}: voices are tested that were trained on. "
            "Split with --split speaker_hash.",
            is_serious=True,
        )


def _notes(facts: Facts) -> Iterator[Finding]:
    unknown, rejected = int(facts.speakers.unknown_clips.sum()), facts.total("rejected")
    if unknown:
        yield Finding(
            f"Unknown speakers: {_count(unknown, 'clip')} "
            f"({unknown / facts.recorded.sum():.1%}), whose voices may cross splits unseen."
        )
    for split, column in zip(facts.splits, facts.clips.T, strict=True):
        empty = [facts.info.labels[i] for i in np.flatnonzero(column == 0)]
        if empty:
            yield Finding(f"The {split} split has no clips of {_some(empty)}.")
    for split in ("validation", "test"):
        if split not in facts.splits:
            yield Finding(f"There is no {split} split.")
    if rejected:
        tried = rejected + facts.made
        yield Finding(
            f"Rejected: {rejected:,} of {tried:,} recordings ({rejected / tried:.1%}), "
            f"{_some([r.reason for r in facts.reasons if r.status == 'rejected'])}."
        )
    if facts.silent:
        yield Finding(f"Digital silence: {_count(facts.silent, 'clip')}.")
    if facts.beyond:
        highest = facts.peak_dbfs.max()
        yield Finding(f"Beyond 0 dBFS: {_count(facts.beyond, 'clip')}, up to {highest:+.1f} dBFS.")


def _some(names: list[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:NAMES_SHOWN])
    return shown + (f" and {len(names) - NAMES_SHOWN:,} more" if names[NAMES_SHOWN:] else "")


def summary(facts: Facts, found: list[Finding]) -> str:
    """The essentials as a small table, then what was found."""
    info, speakers = facts.info, facts.speakers
    lines = [
        f"{info.name}, {data_card.describe(info.spec)}, fingerprint {info.fingerprint}",
        f"{data_card.equation(facts)}, {data_card.megabytes(facts)} in {len(info.shards):,} shards",
        "",
        f"{'':24s}" + "".join(f"{split:>12s}" for split in facts.splits),
    ]
    rows: list[tuple[str, Ints]] = [
        ("clips", facts.clips.sum(axis=0)),
        ("labels", (facts.clips > 0).sum(axis=0)),
        ("fewest of a label", facts.clips.min(axis=0)),
        ("most of a label", facts.clips.max(axis=0)),
        ("known speakers", speakers.distinct),
        ("of unknown speakers", speakers.unknown_clips),
        *((flag.replace("_", " "), counts) for flag, counts in facts.mended.items() if any(counts)),
    ]
    lines += [f"{name:24s}" + "".join(f"{count:12,d}" for count in row) for name, row in rows]
    lines += ["", _levels(facts)]
    lines += [f"{r.status}: {r.count:,} {r.reason}" for r in facts.reasons]
    lines += [_wrapped("WARNING" if f.is_serious else "note", f.text) for f in found]
    return "\n".join(lines)


def _wrapped(kind: str, text: str) -> str:
    indent = " " * 9
    return textwrap.fill(f"{kind:9s}{text}", 100, subsequent_indent=indent, break_long_words=False)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _levels(facts: Facts) -> str:
    seconds, identical = facts.seconds, facts.identical
    if not len(seconds):
        return "no clip is a recording"
    return (
        f"lengths {seconds.min():.3g} to {seconds.max():.3g} s, median {np.median(seconds):.3g} s; "
        f"{facts.silent:,} silent, {facts.full_scale:,} at 0 dBFS, {facts.beyond:,} beyond\n"
        f"identical recordings: {_count(identical.num_clips, 'clip')} in "
        f"{_count(identical.num_groups, 'group')}"
    )


if __name__ == "__main__":
    from kws_model import cli

    cli.main(["inspect", *sys.argv[1:]])
