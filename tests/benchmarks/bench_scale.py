"""Names without end: time and memory of `kws prepare` from 10,000 to 1,000,000 recordings.

$ python -m tests.benchmarks.bench_scale --folder bench/scale
  10,000 names: ...

A table names a few short files again and again, under ids of their own, and the feature is small,
so that what is measured is listing, planning, shuffling and accounting.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import tyro

from tests.benchmarks import bench_memory, measure
from tests.pipelines.recordings import wav_bytes

FILES = 100
FLAGS = ("--feature", "mfcc", "--clip_ms", "100", "--stride_ms", "30")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to run."""

    folder: str
    """Where the files, the tables and the datasets are made."""
    names: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """How many recordings the tables name."""


def main(options: Options) -> None:
    """Prepares each table once and prints what it took."""
    measure.print_machine()
    os.makedirs(options.folder, exist_ok=True)
    for number in range(FILES):
        noise = np.random.default_rng(number).normal(0, 900, 1_600).astype(np.int16)
        with open(os.path.join(options.folder, f"{number}.wav"), "wb") as file:
            file.write(wav_bytes(noise))
    for names in options.names:
        prepare(options.folder, names)


def prepare(folder: str, names: int) -> None:
    """Runs the command on a table of so many names, then again on the finished dataset."""
    table, output = os.path.join(folder, f"{names}.csv"), os.path.join(folder, f"out-{names}")
    with open(table, "w", encoding="utf-8") as file:
        file.write("path,label,id,speaker\n")
        for name in range(names):
            file.write(f"{name % FILES}.wav,word{name % 30},{name:08d},{name % 2618:08x}\n")
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "kws_model.cli", "prepare"]
    command += ["--input", table, "--output", output, *FLAGS]
    peak, seconds = watch(command)
    _, again = watch(command)
    print(
        f"{names:9,d} names: {seconds:6.1f} s ({names / seconds:6,.0f} a second), "
        f"{peak.driver:5.0f} MB in the driver, {peak.together:5.0f} MB in {peak.processes} "
        f"processes; found unchanged in {again:.1f} s"
    )


@dataclasses.dataclass
class Peak(bench_memory.Peak):
    """Megabytes; `driver` is the process that people start."""

    driver: float = 0.0


def watch(command: list[str]) -> tuple[Peak, float]:
    """Runs a command and returns its memory and its seconds."""
    peak, started = Peak(), time.monotonic()
    with subprocess.Popen(
        command, cwd=measure.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            bench_memory.sample(process.pid, peak)
            driver = bench_memory.kilobytes(process.pid, "status", "VmHWM:") / 1000
            peak.driver = max(peak.driver, driver)
            time.sleep(bench_memory.INTERVAL_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return peak, time.monotonic() - started


if __name__ == "__main__":
    main(tyro.cli(Options, use_underscores=True))
