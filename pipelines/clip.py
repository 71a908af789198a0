"""Decoded audio -> one channel at the wanted rate and length, and what was done to it."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.wav import Audio, Rejected

Float32 = NDArray[np.float32]


class Clip(NamedTuple):
    """One channel at the wanted rate, float32 [samples] at its natural length, and its history."""

    mono: Float32
    resampled: bool
    mixed_down: bool


def make_clip(
    audio: Audio,
    sample_rate_hz: int,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Clip:
    """Cuts out a segment, mixes down to mono and resamples.

    Args:
      audio: what was decoded.
      sample_rate_hz: the rate wanted.
      start_s: the segment's start in seconds, None for the recording's own.
      end_s: its end, likewise; past the recording's end nothing is cut.

    Raises:
      Rejected: nothing lies between `start_s` and `end_s`.
    """
    samples = _segment(audio, start_s, end_s)
    mono = mono_at_rate(samples, audio.sample_rate_hz, sample_rate_hz)
    if not len(mono):
        raise Rejected("no_samples", f"too short for one sample at {sample_rate_hz} Hz")
    return Clip(
        mono,
        resampled=audio.sample_rate_hz != sample_rate_hz,
        mixed_down=samples.shape[1] > 1,
    )


def levels(mono: Float32) -> dict[str, float]:
    """`peak_dbfs` and `rms_dbfs`: dB relative to full scale, -inf for silence."""
    return {
        "peak_dbfs": decibels(max(float(mono.max()), -float(mono.min()))),
        # float32 sums suffice for a level that is shown to a tenth of a dB.
        "rms_dbfs": decibels(math.sqrt(float(np.dot(mono, mono)) / len(mono))),
    }


def mono_at_rate(samples: Float32, from_hz: int, to_hz: int) -> Float32:
    """float32 [samples, channels] -> the channels' mean at another rate, float32 [samples]."""
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return mono if from_hz == to_hz else resample(mono, from_hz, to_hz)


def resample(mono: Float32, from_hz: int, to_hz: int) -> Float32:
    """Changes the sample rate of float32 [samples] with libsoxr at its default, "HQ"."""
    import soxr  # librosa's resampler, too. Loaded when it is needed, which is seldom.

    return np.asarray(soxr.resample(mono, from_hz, to_hz), np.float32)


def fit(mono: Float32, clip_samples: int) -> Float32:
    """Pads with zeros at the end, or cuts the end off: float32 [clip_samples], contiguous."""
    if len(mono) == clip_samples:
        return np.ascontiguousarray(mono)
    fitted = np.zeros(clip_samples, np.float32)
    kept = mono[:clip_samples]
    fitted[: len(kept)] = kept
    return fitted


def decibels(amplitude: float) -> float:
    """20 log10 of an amplitude that is not negative."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def _segment(audio: Audio, start_s: float | None, end_s: float | None) -> Float32:
    if start_s is None and end_s is None:
        return audio.samples
    first = round((start_s or 0.0) * audio.sample_rate_hz)
    last = len(audio.samples) if end_s is None else round(end_s * audio.sample_rate_hz)
    segment = audio.samples[first:last]
    if not len(segment):
        seconds = len(audio.samples) / audio.sample_rate_hz
        raise Rejected("no_samples", f"the segment starts after the end, at {seconds:.3f} s")
    return segment
