"""The cost of each step for one clip, on one core, beside the best way we know to do it.

$ python -m tests.benchmarks.bench_steps
...
write_shard: ... us a clip (...); the sum of the best known steps, ... us, is ... % of it

*Ours* is a function of the project, called as the job calls it. *Floor* is the fastest call known
that does the step's least: nothing checked, everything in memory that was allocated before. Where
one column is empty, the other is both. `Frontend.compute` is one function: its floors are the lines
below it. A number is the least of all rounds, in microseconds; in a round every line runs once. A
real shard has other files, and colder caches, at each step than a line that repeats itself: the sum
of the best is below what can be reached.
"""

import collections
import dataclasses
import functools
import io
import os
import shutil
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from typing import BinaryIO

import google_crc32c
import numpy as np
import scipy.fft
import tyro
import xxhash
from numpy.typing import NDArray

from kws_model import example, tfrecord
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend, store_float
from pipelines import clip, corpus, manifest, read_ahead, shard_plan, shards, wav
from pipelines.job import Job, list_placed, plan_dataset, records_of, split_and_word
from pipelines.shard_plan import Plan
from tests.benchmarks import measure

NUMBER = 20  # calls per line and round: short enough to fall between other processes' turns

COMPUTE = "Frontend.compute"  # as a whole: the floors of its parts are lines of their own
ROWS = 500  # of a manifest part

Call = Callable[[], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure with, how often."""

    corpus: str = measure.CORPUS
    """Folder of the corpus; generated if there is none."""
    clips: int = 1_000
    """Clips of the shard that is written."""
    rounds: int = 200
    """How often each line runs; write_shard a tenth as often."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One step: our call, if it is one of its own, and the floor's."""

    name: str
    ours: Call | None
    floor: Call | None
    clips_per_call: int = 1


def main(options: Options) -> None:
    """Measures all lines in turn and prints the table."""
    measure.print_machine()
    measure.make_corpus(options.corpus)
    source = measure.links(options.corpus, clips=options.clips)
    with tempfile.TemporaryDirectory(dir=measure.scratch(options.corpus)) as folder:
        job, plan, recordings = training_records(source, folder)
        path = next(r.path for r in recordings if os.path.getsize(r.path) == 44 + 2 * 16_000)
        shard = functools.partial(write_shard, job, plan, recordings)
        with open(os.path.join(folder, "ours"), "wb", buffering=1 << 20) as file:
            lines = [*input_lines(path), *feature_lines(path), *output_lines(file)]
            least, whole = run_rounds(lines, shard, rounds=options.rounds)
    print_table(lines, least, whole=[s / len(recordings) * 1e6 for s in whole])


def run_rounds(
    lines: list[Line], shard: Callable[[], float], *, rounds: int
) -> tuple[dict[Call, float], list[float]]:
    """The least microseconds of each call, and every time of `shard`, all in turn."""
    calls = {call: line for line in lines for call in (line.ours, line.floor) if call}
    least = dict.fromkeys(calls, float("inf"))
    whole = []
    for number in range(rounds):
        for call, line in calls.items():
            repeats = max(1, NUMBER // line.clips_per_call)
            seconds = timeit.timeit(call, number=repeats) / repeats / line.clips_per_call
            least[call] = min(least[call], seconds * 1e6)
        if number % 10 == 0:
            whole.append(shard())
    return least, whole


def training_records(source: str, folder: str) -> tuple[Job, Plan, list[corpus.Recording]]:
    """A job of one training shard, and the recordings that fall into it."""
    sizing = shard_plan.Sizing(num_shards=1)
    job = Job(source=source, output=folder, name="kws", spec=FeatureSpec(), sizing=sizing)
    placed = list(list_placed(job))
    plan = plan_dataset(collections.Counter(map(split_and_word, placed)).items(), [], job)
    keyed = (pair for recording in placed for pair in records_of(recording, job, plan))
    return job, plan, [recording for key, recording in keyed if key == ("train", 0)]


def write_shard(job: Job, plan: Plan, recordings: list[corpus.Recording]) -> float:
    """Seconds of `shards.write_shard`, into an empty folder."""
    parts = os.path.join(job.output, manifest.FOLDER)
    shutil.rmtree(parts, ignore_errors=True)
    os.mkdir(parts)
    started = time.perf_counter()
    shards.write_shard(("train", 0), recordings, job=job, plan=plan)
    return time.perf_counter() - started


def input_lines(path: str) -> Iterator[Line]:
    """From a file to the waveform of a clip."""
    data, spec = read(path), FeatureSpec()
    audio = wav.decode(data)
    mono = np.ascontiguousarray(audio.samples[:, 0])

    def decode() -> NDArray[np.float32]:
        samples = np.frombuffer(data, "<i2", offset=44).astype(np.float32)
        samples *= np.float32(2.0**-15)
        return samples

    def levels() -> tuple[float, float, float]:
        return mono.max(), mono.min(), np.dot(mono, mono)

    yield Line("read", lambda: read_ahead.read_file(path), lambda: read(path))
    yield Line("hash the file", None, lambda: xxhash.xxh3_128_digest(data))
    yield Line("decode", lambda: wav.decode(data), decode)
    yield Line(
        "make_clip (peak and RMS)", lambda: clip.make_clip(audio, spec.sample_rate_hz), levels
    )


def read(path: str) -> bytes:
    """The file's bytes by three system calls."""
    descriptor = os.open(path, os.O_RDONLY)
    data = os.read(descriptor, 1 << 20)
    os.close(descriptor)
    return data


def feature_lines(path: str) -> Iterator[Line]:
    """From the waveform to the stored feature."""
    spec = FeatureSpec()
    waveform = np.ascontiguousarray(wav.decode(read(path)).samples[:, 0])
    frontend = Frontend(spec)
    values = frontend.compute(waveform).copy()
    out, spectrum = np.empty(spec.shape, spec.stored_dtype), np.empty(spec.shape, np.float32)
    frames = windows(waveform, spec)
    window = np.ascontiguousarray(np.broadcast_to(np.float32(0.5), frames.shape))
    framed = np.ascontiguousarray(frames)  # [98, 512]
    transform = scipy.fft.rfft(framed)  # [98, 257]
    power = np.square(np.abs(transform))

    def cut_and_multiply() -> None:
        np.copyto(framed, frames)
        np.multiply(framed, window, out=framed)

    yield Line(COMPUTE, lambda: frontend.compute(waveform), None)
    yield Line("  window", None, cut_and_multiply)
    yield Line("  FFT", None, lambda: scipy.fft.rfft(framed))
    yield Line("  |X|", None, lambda: np.abs(transform, out=spectrum))
    yield Line("  square", None, lambda: np.square(power, out=spectrum))
    yield Line("  + offset", None, lambda: np.add(power, np.float32(0.01), out=spectrum))
    yield Line("  log", None, lambda: np.log(power, out=spectrum))
    yield Line(
        "store as float16", lambda: store_float(values, out.dtype), lambda: half(values, out)
    )


def windows(waveform: NDArray[np.float32], spec: FeatureSpec) -> NDArray[np.float32]:
    """Overlapping stretches of fft_size samples, a view, float32 [frames, fft_size]."""
    padded = np.pad(waveform, (0, spec.fft_size))
    view = np.lib.stride_tricks.sliding_window_view(padded, spec.fft_size)
    return view[:: spec.frame_step][: spec.num_frames]


_BITS = np.empty((2, *FeatureSpec().shape), np.uint32)


def half(values: NDArray[np.float32], out: NDArray[np.float16]) -> None:
    """Rounds to float16 as the hardware does, where 2^-14 <= |x| <= 65504; else wrongly.

    NumPy's wheels are built for processors without a conversion to float16, and do it bit by bit.
    Here the sign stays on top, 0xFFF and the last bit kept round to even, and 127 - 15 leaves the
    exponent; then bit 31 moves to bit 28, of which the last shift makes bit 15.
    """
    bits, moved = _BITS
    np.right_shift(values.view(np.uint32), np.uint32(13), out=bits)
    bits &= np.uint32(1)
    bits += values.view(np.uint32)
    bits += np.uint32(0xFFF - (112 << 23) & 0xFFFFFFFF)
    np.bitwise_xor(bits, np.uint32(0x90000000), out=moved)
    np.minimum(bits, moved, out=bits)
    np.right_shift(bits, np.uint32(13), out=bits)
    np.copyto(out.view(np.uint16), bits, casting="unsafe")


def output_lines(file: BinaryIO) -> Iterator[Line]:
    """From the stored feature to the end of the file, and to the manifest."""
    spec = FeatureSpec()
    feature = np.zeros(spec.shape, spec.stored_dtype)
    value = feature.tobytes()
    encode = functools.partial(
        example.encode,
        clip_id="left/0c40e715_nohash_0.wav",
        speaker="0c40e715",
        word="left",
        label=3,
        name=spec.feature,
    )
    pieces = encode(value=value)
    framed = tfrecord.frame(pieces)
    record, digest = b"".join(framed), xxhash.xxh3_128()
    yield Line("copy to bytes", feature.tobytes, None)
    yield Line("encode", lambda: encode(value=value), None)
    yield Line(
        "frame (CRC-32C)",
        lambda: tfrecord.frame(pieces),
        lambda: google_crc32c.extend(0, value),
    )
    yield Line("join", None, lambda: b"".join(framed))
    yield Line("hash the record", None, lambda: digest.update(record))
    yield Line("write", lambda: file.write(record), None)
    yield Line("manifest, the row", lambda: row(0), None)
    yield Line("manifest, as Parquet", parquet(), None, clips_per_call=ROWS)


def parquet() -> Call:
    """Writes the rows of a shard of ROWS clips."""
    rows = [row(index) for index in range(ROWS)]
    return lambda: manifest.write_part(io.BytesIO(), rows)


def row(index: int) -> manifest.Row:
    """A row as long as a real one."""
    return manifest.Row(
        *("left/0c40e715_nohash_0.wav", "corpus/left/0c40e715_nohash_0.wav", "left", "left"),
        *("0c40e715", "train", "made"),
        shard="kws-train.tfrecord-00000-of-00016",
        record=index,
        offset=index * 50_501,
        length=50_501,
        content_xxh3=index.to_bytes(16),
        sample_rate_hz=16_000,
        num_channels=1,
        container="WAV",
        encoding="PCM_16",
        num_samples=16_000,
        seconds=1.0,
        truncated=False,
        resampled=False,
        mixed_down=False,
        padded=False,
        trimmed=False,
        peak_dbfs=-index / 100,
        rms_dbfs=-index / 50,
    )


def print_table(lines: list[Line], least: dict[Call, float], *, whole: list[float]) -> None:
    """One row per step, then the shard as a whole."""
    print(f"{'microseconds a clip':28s}{'ours':>8s}{'floor':>8s}")
    for line in lines:
        cells = ("" if call is None else f"{least[call]:.1f}" for call in (line.ours, line.floor))
        print(f"{line.name:28s}" + "".join(f"{cell:>8s}" for cell in cells))
    best = sum(
        min(least[call] for call in (line.ours, line.floor) if call)
        for line in lines
        if line.name != COMPUTE
    )
    print(
        f"write_shard: {statistics.median(whole):.0f} us a clip "
        f"({min(whole):.0f}-{max(whole):.0f} in {len(whole)} rounds); the sum of the best known "
        f"steps, {best:.0f} us, is {best / statistics.median(whole):.0%} of it"
    )


if __name__ == "__main__":
    main(tyro.cli(Options, use_underscores=True))
