"""What the benchmarks share: a corpus of any size, interleaved rounds, ratios round by round."""

import importlib.metadata
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from pipelines import corpus, shard_plan

ROOT = pathlib.Path(__file__).parents[2]  # where `python -m` finds the packages
CORPUS = os.path.join(tempfile.gettempdir(), "kws-bench", "corpus")
PACKAGES = ("apache-beam", "numpy", "scipy", "tensorflow")

# Installed packages have their byte code beside them; where Python was told not to write any, each
# fresh process would compile Beam and TensorFlow anew (2 and 5 s here), which no user sees.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ.setdefault(
        "PYTHONPYCACHEPREFIX", os.path.join(tempfile.gettempdir(), f"kws-bench-{os.getuid()}")
    )

Seconds = dict[str, list[float]]  # one list per contestant, one value per round


def interleaved(
    contestants: dict[str, Callable[[], object]],
    *,
    rounds: int,
    before: Callable[[], None] = lambda: None,
) -> Seconds:
    """Seconds of each contestant in rounds A B C, A B C, ...; `before` each is not timed."""
    seconds: Seconds = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        for name, run in contestants.items():
            before()
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number}: {name}: {seconds[name][-1]:.2f} s", file=sys.stderr)
    return seconds


def print_rates(seconds: Seconds, clips: dict[str, int]) -> None:
    """A line for each contestant: its clips a second, best and worst round as well."""
    for name, times in seconds.items():
        rates = sorted(clips[name] / s for s in times)
        print(
            f"{name:42s} {clips[name]:7,d} clips  {statistics.median(rates):9,.0f} clips/s  "
            f"({rates[0]:,.0f}-{rates[-1]:,.0f})"
        )


def print_ratio(what: str, faster: Sequence[float], slower: Sequence[float]) -> None:
    """The median of the rounds' ratios `faster / slower`, and their range."""
    ratios = sorted(a / b for a, b in zip(faster, slower, strict=True))
    print(f"{what}: {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")


def print_machine() -> None:
    """Cores, load and versions: without them no number means anything."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"{_cpu()}, {cores()} cores used, load {os.getloadavg()[0]:.1f} at the start")
    print(f"Python {platform.python_version()}, {versions}")


def _cpu() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")


def cores() -> int:
    """Processors that this process may use, which is how many workers `kws prepare` takes."""
    return len(os.sched_getaffinity(0))


def kws(*arguments: str) -> None:
    """Runs one `kws` command in a fresh process."""
    run_module("kws_model.cli", *arguments)


def run_module(module: str, *arguments: str) -> None:
    """Runs `python -m module` in a fresh process; what it prints is shown only if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def make_corpus(folder: str) -> None:
    """Speaks a corpus of 12,000 clips (30 words) into `folder`, unless there is one."""
    if not os.path.isdir(folder):
        os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
        kws("synthesize", "--output", folder, "--clips_per_word", "400")


def links(folder: str, *, clips: int) -> str:
    """A folder of exactly so many clips of a corpus: hard links, repeated under other names.

    The clips are the first in hash order, so that any number of them has every word. It lies in
    `scratch(folder)` and is made once.
    """
    target = pathlib.Path(scratch(folder), f"links-{clips}")
    if target.is_dir():
        return str(target)
    found = [r for r in corpus.list_recordings(os.path.abspath(folder)) if not r.exclusion]
    found.sort(key=lambda recording: shard_plan.order_key(recording.id, 0))
    unfinished = target.with_name(f"{target.name}.unfinished")
    for number in range(clips):
        recording = found[number % len(found)]
        copy, word = number // len(found), unfinished / recording.label
        word.mkdir(parents=True, exist_ok=True)
        stem, suffix = os.path.splitext(os.path.basename(recording.path))
        os.link(recording.path, word / f"{stem}{f'x{copy}' if copy else ''}{suffix}")
    unfinished.rename(target)
    return str(target)


def scratch(folder: str) -> str:
    """Where what is made of a corpus goes: beside it, on the same disk."""
    path = f"{os.path.abspath(folder)}.bench"
    os.makedirs(path, exist_ok=True)
    return path
