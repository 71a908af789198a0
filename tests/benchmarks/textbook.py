"""The Beam job of the tutorials: every clip's tensor goes through the graph and is shuffled.

$ python -m tests.benchmarks.textbook --input corpus --output shards

Files are matched and read by `beam.io.fileio`, decoded by SciPy, framed and transformed by NumPy,
built into a `tf.train.Example` with a float_list, reshuffled and written by `WriteToTFRecord`. It
runs on Beam's own worker processes (`--direct_running_mode=multi_processing`), on all cores. There
are no splits, no labels' indices and no checks: it does less than `kws prepare`.
"""

import dataclasses
import io
import os

import apache_beam as beam
import numpy as np
import scipy.io.wavfile
import tensorflow as tf
from apache_beam.io import fileio
from apache_beam.options.pipeline_options import PipelineOptions

from tests.benchmarks import measure

CLIP_SAMPLES, FRAME_LENGTH, FRAME_STEP, FFT_LENGTH = 16_000, 480, 160, 512
NUM_SHARDS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to read, where to write."""

    input: str
    output: str


def run(options: Options) -> None:
    """Builds the pipeline, runs it and waits."""
    flags = ["--direct_running_mode=multi_processing", f"--direct_num_workers={measure.cores()}"]
    # By this name, because what DirectRunner means depends on the version of Beam.
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions(flags)) as pipeline:
        _ = (
            pipeline
            | "Match" >> fileio.MatchFiles(os.path.join(options.input, "*", "*.wav"))
            | "Read" >> fileio.ReadMatches()
            | "Decode" >> beam.Map(decode)  # (path, waveform)
            | "Spectrogram" >> beam.MapTuple(add_spectrogram)  # (path, spectrogram)
            | "ToExample" >> beam.MapTuple(to_example)  # bytes
            | "Shuffle" >> beam.Reshuffle()
            | "Write" >> beam.io.WriteToTFRecord(options.output, num_shards=NUM_SHARDS)
        )


def decode(file: fileio.ReadableFile) -> tuple[str, np.ndarray]:
    """A 16-bit WAV as float32 in [-1, 1), padded or cut to one second."""
    _, samples = scipy.io.wavfile.read(io.BytesIO(file.read()))
    waveform = samples[:CLIP_SAMPLES].astype(np.float32) / 32768
    return file.metadata.path, np.pad(waveform, (0, CLIP_SAMPLES - len(waveform)))


def add_spectrogram(path: str, waveform: np.ndarray) -> tuple[str, np.ndarray]:
    """The log power spectrogram, float32 [98, 257]."""
    num_frames = 1 + (CLIP_SAMPLES - FRAME_LENGTH) // FRAME_STEP
    starts = FRAME_STEP * np.arange(num_frames)[:, None]
    frames = waveform[starts + np.arange(FRAME_LENGTH)] * np.hanning(FRAME_LENGTH)
    power = np.abs(np.fft.rfft(frames, FFT_LENGTH)) ** 2
    return path, np.log(power + 0.01).astype(np.float32)


def to_example(path: str, spectrogram: np.ndarray) -> bytes:
    """A serialized `tf.train.Example`."""
    word = os.path.basename(os.path.dirname(path))
    floats = tf.train.FloatList(value=spectrogram.ravel())
    feature = {
        "path": tf.train.Feature(bytes_list=tf.train.BytesList(value=[path.encode()])),
        "word": tf.train.Feature(bytes_list=tf.train.BytesList(value=[word.encode()])),
        "log_spectrogram": tf.train.Feature(float_list=floats),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


if __name__ == "__main__":
    import tyro

    from tests.benchmarks import textbook  # so that workers find its functions by name

    textbook.run(tyro.cli(Options, use_underscores=True))
