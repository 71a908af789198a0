"""Peak memory of `kws prepare` on a small corpus and on one ten times as large.

$ python -m tests.benchmarks.bench_memory
...
peak of all processes together, 20,000 clips / 2,000 clips: ... (...)

Every 50 ms the proportional set size (memory, with shared pages divided among those who share them)
of the command and all its descendants is summed; the peak of that sum is what the machine needs.
Beside it stands the largest resident set of a single process. The page cache is not counted. A peak
shorter than 50 ms may be missed. Linux alone: it reads /proc.
"""

import collections
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import time

import tyro

from tests.benchmarks import measure

INTERVAL_S = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to run, how often."""

    corpus: str = measure.CORPUS
    """Folder of the corpus; generated if there is none. Its clips are linked as often as needed."""
    clips: int = 2_000
    """Clips of the small corpus."""
    factor: int = 10
    """How many times as many clips the large one has."""
    rounds: int = 3
    """How often each is prepared."""


@dataclasses.dataclass
class Peak:
    """Megabytes: of all processes together, and of the largest."""

    together: float = 0.0
    largest: float = 0.0
    processes: int = 0


def main(options: Options) -> None:
    """Prepares both in turn and prints the peaks and their ratio."""
    measure.print_machine()
    measure.make_corpus(options.corpus)
    sizes = (options.clips, options.clips * options.factor)
    peaks: dict[int, list[Peak]] = {size: [] for size in sizes}
    for _ in range(options.rounds):
        for size in sizes:
            peaks[size].append(prepare(options.corpus, clips=size))
            peak = peaks[size][-1]
            print(
                f"{size:7,d} clips: {peak.together:6.0f} MB in {peak.processes} processes at most, "
                f"{peak.largest:4.0f} MB the largest"
            )
    small, large = (peaks[size] for size in sizes)
    what = f"{sizes[1]:,} clips / {sizes[0]:,} clips"
    measure.print_ratio(
        f"peak of all processes together, {what}",
        [peak.together for peak in large],
        [peak.together for peak in small],
    )
    measure.print_ratio(
        f"peak of the largest process, {what}",
        [peak.largest for peak in large],
        [peak.largest for peak in small],
    )


def prepare(corpus: str, *, clips: int) -> Peak:
    """Runs `kws prepare` on so many clips and watches its memory."""
    source = measure.links(corpus, clips=clips)
    output = os.path.join(measure.scratch(corpus), "output")
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "kws_model.cli", "prepare"]
    command += ["--input", source, "--output", output]
    peak = Peak()
    with subprocess.Popen(
        command, cwd=measure.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            sample(process.pid, peak)
            time.sleep(INTERVAL_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    shutil.rmtree(output)
    return peak


def sample(root: int, peak: Peak) -> None:
    """Raises the peak to what the process tree uses now."""
    pids = tree(root)
    together = sum(kilobytes(pid, "smaps_rollup", "Pss:") for pid in pids)
    largest = max(kilobytes(pid, "status", "VmHWM:") for pid in pids)
    peak.together = max(peak.together, together / 1000)
    peak.largest = max(peak.largest, largest / 1000)
    peak.processes = max(peak.processes, len(pids))


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children = collections.defaultdict(list)
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            # pid (name) state ppid ...; the name may hold anything, parentheses too
            fields = read(folder / "stat").rpartition(")")[2].split()
            if fields:
                children[int(fields[1])].append(int(folder.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def kilobytes(pid: int, file: str, field: str) -> int:
    """A field of a process; 0 if it has just ended."""
    lines = read(pathlib.Path("/proc", str(pid), file)).splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def read(path: pathlib.Path) -> str:
    """The content of a file of /proc; empty if its process has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


if __name__ == "__main__":
    main(tyro.cli(Options, use_underscores=True))
