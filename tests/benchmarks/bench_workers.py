"""What a second worker brings: the engine of `kws prepare` on one process and on two.

$ python -m tests.benchmarks.bench_workers
...
engine, 2 workers / 1 worker: ... (...)

24,000 clips by default. One worker runs inside the driver, without gRPC; two are processes of their
own beside it.
"""

import dataclasses
import functools
import os
import shutil

import tyro

from tests.benchmarks import bench_prepare, measure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to run, how often."""

    corpus: str = measure.CORPUS
    """Folder of the corpus; generated if there is none."""
    clips: int = 24_000
    """Clips to prepare."""
    rounds: int = 5
    """How often each contestant runs."""


def main(options: Options) -> None:
    """Runs both in turn and prints the ratio."""
    measure.print_machine()
    measure.make_corpus(options.corpus)
    output = os.path.join(measure.scratch(options.corpus), "output")
    bench_prepare.warm_up(options.corpus, output)
    source = measure.links(options.corpus, clips=options.clips)
    names = {count: f"engine, {count} worker{'s' * (count > 1)}" for count in (1, 2)}
    contestants = {
        name: functools.partial(bench_prepare.run_engine, source, output, workers=count)
        for count, name in names.items()
    }
    seconds = measure.interleaved(
        contestants, rounds=options.rounds, before=functools.partial(bench_prepare.clear, output)
    )
    shutil.rmtree(output)
    measure.print_rates(seconds, dict.fromkeys(contestants, options.clips))
    measure.print_ratio("engine, 2 workers / 1 worker", seconds[names[1]], seconds[names[2]])


if __name__ == "__main__":
    main(tyro.cli(Options, use_underscores=True))
