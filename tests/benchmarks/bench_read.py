"""Shards into batches, as `kws train` reads them, against the tutorials' tf.data over WAV files.

$ python -m tests.benchmarks.bench_read
...
shards / WAV files with AudioSpectrogram, clips a second: ... (...)

All give float batches of 64 with their labels, in another order each epoch, of the same clips: the
training split. One epoch each, in rounds A B C A B C, after one epoch of each that is not counted
(tf.data's AUTOTUNE needs it, and --cache its memory). Files come from the page cache. What a step
of training would do with a batch is left out.

- *Shards*: `kws_model.input_pipeline.training_batches`; *cached*: with `kws train --cache`.
- *WAV files*: `tf.audio.decode_wav`, padded to a second, then the power spectrogram by the op
  `AudioSpectrogram` or by `tf.signal.stft`, log, in a parallel map (AUTOTUNE), shuffled, batched,
  prefetched.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow.parquet
import tyro

from kws_model import devices, input_pipeline
from kws_model.dataset_info import DatasetInfo
from kws_model.example import parse_batch
from tests.benchmarks import measure
from tests.benchmarks.measure import Seconds

if TYPE_CHECKING:
    import tensorflow as tf

SHARDS, CACHED = "shards", "shards, cached"
OP, STFT = "WAV files with AudioSpectrogram", "WAV files with tf.signal.stft"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to read, how often."""

    corpus: str = measure.CORPUS
    """Folder of the corpus; generated if there is none. Its dataset is made beside it."""
    clips: int = 12_000
    """Clips in the dataset; the training split has some 80 % of them."""
    batch_size: int = 64
    """Clips in a batch."""
    rounds: int = 5
    """How many epochs of each are counted."""


def main(options: Options) -> None:
    """Runs all and prints rates and ratios."""
    measure.print_machine()
    info = make_dataset(options.corpus, clips=options.clips)
    devices.start_tensorflow()
    datasets = lineup(info, batch_size=options.batch_size)
    contestants: dict[str, Callable[[], Any]] = {
        name: functools.partial(one_epoch, dataset) for name, dataset in datasets.items()
    }
    measure.interleaved(contestants, rounds=1)
    seconds = measure.interleaved(contestants, rounds=options.rounds)
    clips = info.num_examples("train") // options.batch_size * options.batch_size
    measure.print_rates(seconds, dict.fromkeys(contestants, clips))
    print_ratios(seconds, rounds=options.rounds)
    parsing = parse_seconds(info, batch_size=options.batch_size, rounds=options.rounds)
    print(f"parsing alone, one thread: {parsing / options.batch_size * 1e6:.1f} us a clip")


def make_dataset(corpus: str, *, clips: int) -> DatasetInfo:
    """The dataset that `kws prepare` makes of the corpus by default; made once."""
    measure.make_corpus(corpus)
    folder = os.path.join(measure.scratch(corpus), f"dataset-{clips}")
    if not os.path.exists(os.path.join(folder, "dataset_info.json")):
        measure.kws("prepare", "--input", measure.links(corpus, clips=clips), "--output", folder)
    return DatasetInfo.read(folder)


def lineup(info: DatasetInfo, *, batch_size: int) -> dict[str, tf.data.Dataset]:
    """The ways to read the training split, each in full batches."""
    ours = functools.partial(input_pipeline.training_batches, info, batch_size=batch_size, seed=0)
    return {
        SHARDS: ours(),
        CACHED: ours(cache=True),
        OP: wav_batches(info, audio_spectrogram, batch_size=batch_size),
        STFT: wav_batches(info, signal_stft, batch_size=batch_size),
    }


def wav_batches(
    info: DatasetInfo, spectrogram: Callable[[tf.Tensor], tf.Tensor], *, batch_size: int
) -> tf.data.Dataset:
    """The tutorials' way: (float32 [batch, 98, 257], int64 [batch]) computed on the fly."""
    import tensorflow as tf

    def load(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        waveform, _ = tf.audio.decode_wav(
            tf.io.read_file(path), desired_channels=1, desired_samples=16_000
        )  # [16000, 1]
        return tf.math.log(spectrogram(waveform) + 0.01), label  # [98, 257]

    paths, labels = training_files(info)
    return (
        tf.data.Dataset.from_tensor_slices((paths, labels))
        .shuffle(len(paths))
        .map(load, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def audio_spectrogram(waveform: tf.Tensor) -> tf.Tensor:
    """float32 [16000, 1] -> the power spectrogram by TensorFlow's own op, float32 [98, 257]."""
    import tensorflow as tf

    return tf.raw_ops.AudioSpectrogram(
        input=waveform, window_size=480, stride=160, magnitude_squared=True
    )[0]


def signal_stft(waveform: tf.Tensor) -> tf.Tensor:
    """float32 [16000, 1] -> the power spectrogram by tf.signal, float32 [98, 257]."""
    import tensorflow as tf

    return tf.square(tf.abs(tf.signal.stft(waveform[:, 0], 480, 160, fft_length=512)))


def training_files(info: DatasetInfo) -> tuple[Sequence[str], Sequence[int]]:
    """Paths and label indices of the training split, from the manifest."""
    rows = pyarrow.parquet.read_table(
        info.folder / "manifest",
        columns=["path", "label"],
        filters=[("split", "=", "train"), ("status", "=", "made")],
    )
    index = {label: number for number, label in enumerate(info.labels)}
    return rows["path"].to_pylist(), [index[label] for label in rows["label"].to_pylist()]


def one_epoch(dataset: tf.data.Dataset) -> None:
    """Takes every batch."""
    for _ in dataset:
        pass


def print_ratios(seconds: Seconds, *, rounds: int) -> None:
    """The ratios to either way of the tutorials."""
    print(f"ratios of clips a second, median (range) of {rounds} rounds:")
    for name in (OP, STFT):
        measure.print_ratio(f"shards / {name}", seconds[name], seconds[SHARDS])
        measure.print_ratio(f"shards, cached / {name}", seconds[name], seconds[CACHED])


def parse_seconds(info: DatasetInfo, *, batch_size: int, rounds: int) -> float:
    """Seconds for parsing one batch that is in memory, the median of the rounds."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset(input_pipeline.shard_paths(info, "train"))
    batch = next(iter(records.batch(batch_size)))
    parsed = tf.data.Dataset.from_tensors(batch).repeat(100)
    parsed = parsed.map(functools.partial(parse_batch, spec=info.spec), num_parallel_calls=1)
    one_epoch(parsed)
    seconds = measure.interleaved({"parsing": lambda: one_epoch(parsed)}, rounds=rounds)["parsing"]
    return statistics.median(seconds) / 100


if __name__ == "__main__":
    main(tyro.cli(Options, use_underscores=True))
