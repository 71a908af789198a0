"""Decoded audio -> the waveform of one clip, as the spec wants it, and what was done to it."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kws_model.feature_spec import FeatureSpec
from pipelines.wav import Audio, Rejected


class Clip(NamedTuple):
    """A waveform, float32 [clip_samples], and what was done to get it.

    Levels are in dB relative to full scale over the recording before padding: -inf for silence.
    """

    waveform: NDArray[np.float32]
    resampled: bool
    mixed_down: bool
    padded: bool
    trimmed: bool
    peak_dbfs: float
    rms_dbfs: float


def make_clip(
    audio: Audio, spec: FeatureSpec, *, start_s: float | None = None, end_s: float | None = None
) -> Clip:
    """Cuts out a segment, mixes down to mono, resamples, then pads with zeros or trims at the end.

    Args:
      audio: what was decoded.
      spec: its `sample_rate_hz` and `clip_samples` are met.
      start_s: the segment's start in seconds, None for the recording's own.
      end_s: its end, likewise; past the recording's end nothing is cut.

    Raises:
      Rejected: nothing lies between `start_s` and `end_s`.
    """
    samples = _segment(audio, start_s, end_s)
    mixed_down = samples.shape[1] > 1
    mono = samples.mean(axis=1, dtype=np.float32) if mixed_down else samples[:, 0]
    resampled = audio.sample_rate_hz != spec.sample_rate_hz
    if resampled:
        mono = _resample(mono, audio.sample_rate_hz, spec.sample_rate_hz)
    if not len(mono):
        raise Rejected("no_samples", f"too short for one sample at {spec.sample_rate_hz} Hz")
    return Clip(
        _fit(mono, spec.clip_samples),
        resampled,
        mixed_down,
        padded=len(mono) < spec.clip_samples,
        trimmed=len(mono) > spec.clip_samples,
        peak_dbfs=_decibels(max(float(mono.max()), -float(mono.min()))),
        # float32 pairwise sums suffice for a level shown to a tenth of a dB.
        rms_dbfs=_decibels(math.sqrt(float(np.dot(mono, mono)) / len(mono))),
    )


def _segment(audio: Audio, start_s: float | None, end_s: float | None) -> NDArray[np.float32]:
    if start_s is None and end_s is None:
        return audio.samples
    first = round((start_s or 0.0) * audio.sample_rate_hz)
    last = len(audio.samples) if end_s is None else round(end_s * audio.sample_rate_hz)
    segment = audio.samples[first:last]
    if not len(segment):
        seconds = len(audio.samples) / audio.sample_rate_hz
        raise Rejected("no_samples", f"the segment starts after the end, at {seconds:.3f} s")
    return segment


def _resample(mono: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    import soxr  # libsoxr at its default, "HQ": the resampler of librosa. Loaded when it is needed.

    return np.asarray(soxr.resample(mono, from_hz, to_hz), np.float32)


def _fit(mono: NDArray[np.float32], clip_samples: int) -> NDArray[np.float32]:
    if len(mono) == clip_samples:
        return np.ascontiguousarray(mono)
    fitted = np.zeros(clip_samples, np.float32)
    kept = mono[:clip_samples]
    fitted[: len(kept)] = kept
    return fitted


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf
