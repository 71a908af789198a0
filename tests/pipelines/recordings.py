"""Small corpora that tests write: a tone for each clip, so that no two recordings are alike."""

import pathlib
import struct
import zlib

import numpy as np


def wav_bytes(samples: np.ndarray, *, sample_rate_hz: int = 16_000) -> bytes:
    """A canonical 16-bit file of int16 samples, [num_samples] or [num_samples, num_channels]."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    data = samples.astype("<i2").tobytes()
    header = struct.pack(
        "<4sI8sIHHIIHH4sI",
        *(b"RIFF", 36 + len(data), b"WAVEfmt ", 16, 1, channels, sample_rate_hz),
        *(sample_rate_hz * 2 * channels, 2 * channels, 16, b"data", len(data)),
    )
    return header + data


def tone(name: str, *, num_samples: int = 16_000) -> np.ndarray:
    """A sine and noise that depend on `name` alone, int16 [num_samples]."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    hertz = rng.uniform(100, 4000)
    wave = 8000 * np.sin(2 * np.pi * hertz / 16_000 * np.arange(num_samples))
    return (wave + rng.normal(0, 300, num_samples)).astype(np.int16)


def write_corpus(
    folder: pathlib.Path, *, words: tuple[str, ...] = ("go", "stop"), speakers: int = 20
) -> pathlib.Path:
    """One clip per word and speaker, in the layout of Speech Commands."""
    for word in words:
        (folder / word).mkdir(parents=True)
        for speaker in range(speakers):
            name = f"{word}/{zlib.crc32(bytes([speaker])):08x}_nohash_0.wav"
            (folder / name).write_bytes(wav_bytes(tone(name)))
    return folder
