"""`kws prepare` against the tutorials' Beam job and against a loop written by hand.

$ python -m tests.benchmarks.bench_prepare
...
engine / hand-written loop, clips a second: ... (...)
engine / textbook Beam job, its start-up not counted: ... (...)

The corpus is generated where there is none. All run on all cores, in rounds A B C A B C.

- *Engine*: all of a job but the start of Python: workers forked, files listed, planned, made,
  checked, `dataset_info.json` written. It runs in a process that has imported Beam, whose fork
  server is up; `kws prepare` as a whole runs in a fresh one.
- *Hand-written loop* (handwritten.py): the same functions, the same bytes (checked here), in a pool
  of processes forked from the same server. As a whole script, in a fresh process too.
- *Textbook* (textbook.py): at some 100 clips a second it can't be given the whole corpus. It runs
  on n and on 3n clips; the difference of the two times is what 2n clips cost without its start-up.
  That rate is compared with the engine's, in which ours is contained. With both start-ups: its time
  for the whole corpus, on the straight line through its two times, over that of the command.

A larger job makes start-up matter less: --repeats 4 links every clip four times, under four names.
"""

import contextlib
import dataclasses
import filecmp
import functools
import glob
import io
import os
import shutil
from collections.abc import Callable
from typing import Any

import tyro

from kws_model import cli
from pipelines import local_workers, prepare_dataset
from tests.benchmarks import measure
from tests.benchmarks.measure import Seconds

COMMAND, ENGINE = "kws prepare, whole command", "kws prepare, engine"
SCRIPT, LOOP = "hand-written, whole script", "hand-written, loop"
FEW, MANY = "textbook, whole, n clips", "textbook, whole, 3n clips"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to run, how often."""

    corpus: str = measure.CORPUS
    """Folder of the corpus; generated if there is none."""
    clips: int = 12_000
    """Clips to prepare."""
    repeats: int = 1
    """How often each of them is prepared, under other names."""
    rounds: int = 5
    """How often each contestant runs."""
    textbook_clips: int = 600
    """n, for the textbook job; 0 leaves it out."""


def main(options: Options) -> None:
    """Runs all and prints rates and ratios."""
    measure.print_machine()
    measure.make_corpus(options.corpus)
    output = os.path.join(measure.scratch(options.corpus), "output")
    warm_up(options.corpus, output)
    contestants, clips = lineup(options, output)
    seconds = measure.interleaved(
        contestants, rounds=options.rounds, before=functools.partial(clear, output)
    )
    shutil.rmtree(output)
    measure.print_rates(seconds, clips)
    print(f"ratios of clips a second, median (range) of {options.rounds} rounds:")
    measure.print_ratio("engine / hand-written loop", seconds[LOOP], seconds[ENGINE])
    measure.print_ratio("command / hand-written script", seconds[SCRIPT], seconds[COMMAND])
    if options.textbook_clips:
        print_textbook(seconds, clips)


def lineup(options: Options, output: str) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """The contestants, and the clips that each is given."""
    count = options.clips * options.repeats
    source = measure.links(options.corpus, clips=count)
    flags = ("--input", source, "--output", output)
    contestants: dict[str, Callable[[], Any]] = {
        COMMAND: functools.partial(measure.kws, "prepare", *flags),
        ENGINE: functools.partial(run_engine, source, output),
        SCRIPT: functools.partial(measure.run_module, "tests.benchmarks.handwritten", *flags),
        LOOP: functools.partial(run_loop, source, output),
    }
    clips = dict.fromkeys(contestants, count)
    if options.textbook_clips:
        for name, number in ((FEW, options.textbook_clips), (MANY, 3 * options.textbook_clips)):
            subset = measure.links(options.corpus, clips=number)
            files = ("--input", subset, "--output", os.path.join(output, "textbook"))
            contestants[name] = functools.partial(
                measure.run_module, "tests.benchmarks.textbook", *files
            )
            clips[name] = number
    return contestants, clips


def run_engine(source: str, output: str, *, workers: int = 0) -> None:
    """`kws prepare` without the start of Python and the imports; 0 workers are all cores."""
    flags = ["--input", source, "--output", output, "--", f"--direct_num_workers={workers}"]
    options = cli.parse(prepare_dataset.Options, flags, command="prepare")
    with contextlib.redirect_stderr(io.StringIO()):
        prepare_dataset.check_paths(options)
        prepare_dataset.prepare(options)


def run_loop(source: str, output: str) -> None:
    """The hand-written loop in this process."""
    from tests.benchmarks import handwritten

    handwritten.write_dataset(source, output, num_workers=measure.cores())


def warm_up(corpus: str, output: str) -> None:
    """Imports everything, here and in the fork server; checks that both make the same shards."""
    local_workers.preload()
    small, other = measure.links(corpus, clips=1_200), f"{output}-handwritten"
    for module in ("kws_model.cli", "tests.benchmarks.textbook"):
        measure.run_module(module, "--help")  # leaves its byte code for the rounds
    for folder, run in ((output, run_engine), (other, run_loop)):
        clear(folder)
        run(small, folder)
    names = [os.path.basename(path) for path in glob.glob(f"{output}/*.tfrecord-*")]
    same, *_ = filecmp.cmpfiles(output, other, names, shallow=False)
    if sorted(same) != sorted(names):
        raise RuntimeError("kws prepare and the hand-written loop make different shards")
    shutil.rmtree(other)


def clear(output: str) -> None:
    """Leaves no output and nothing for the disk to do."""
    shutil.rmtree(output, ignore_errors=True)
    os.makedirs(output)
    os.sync()


def print_textbook(seconds: Seconds, clips: dict[str, int]) -> None:
    """The ratios to the textbook job, without and with the start-ups."""
    few, many, count = clips[FEW], clips[MANY], clips[ENGINE]
    pairs = zip(seconds[FEW], seconds[MANY], strict=True)
    per_clip = [(t_many - t_few) / (many - few) for t_few, t_many in pairs]
    ours = [s / count for s in seconds[ENGINE]]
    whole = [
        t_few + (count - few) * marginal
        for t_few, marginal in zip(seconds[FEW], per_clip, strict=True)
    ]
    if min(per_clip) <= 0:
        print("3n clips took no longer than n: raise --textbook_clips, or wait for a quiet machine")
        return
    measure.print_ratio("engine / textbook, its start-up not counted", per_clip, ours)
    measure.print_ratio("command / textbook, both start-ups counted", whole, seconds[COMMAND])


if __name__ == "__main__":
    main(tyro.cli(Options, use_underscores=True))
