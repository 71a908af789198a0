"""Excerpts of background noise, none of which two splits share."""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from pipelines import read_ahead, wav
from pipelines.clip import mono_at_rate

# The stretch of every noise recording that a split may use, as fractions of its length.
STRETCHES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}


def excerpt(
    path: str, split: str, where: float, sample_rate_hz: int, num_samples: int
) -> NDArray[np.float32]:
    """Cuts a piece out of a noise recording, from the stretch that belongs to a split.

    Args:
      path: the recording.
      split: whose stretch.
      where: from 0, the stretch's first piece, to 1, its last.
      sample_rate_hz: the rate wanted.
      num_samples: the length wanted; a stretch that is shorter is repeated.

    Raises:
      ValueError: the recording can't be read, or is too short: no clip is to blame.
    """
    waveform = _load(path, sample_rate_hz)
    first, last = (round(bound * len(waveform)) for bound in STRETCHES[split])
    stretch = waveform[first:last]
    if not len(stretch):
        raise ValueError(f"background noise {path} is too short to give {split} a part of it")
    start = round(where * max(0, len(stretch) - num_samples))
    return np.resize(stretch[start : start + num_samples], num_samples)


@functools.lru_cache(maxsize=16)
def _load(path: str, sample_rate_hz: int) -> NDArray[np.float32]:
    # A minute at 16 kHz is 4 MB; Speech Commands has six. Every worker uses them again and again.
    content = read_ahead.read_file(path)
    try:
        if isinstance(content, wav.Rejected):
            raise content
        audio = wav.decode(content, max_seconds=math.inf)  # its bytes bound it
    except wav.Rejected as rejection:
        raise ValueError(
            f"background noise {path} can't be used: {rejection.detail}"
        ) from rejection
    return mono_at_rate(audio.samples, audio.sample_rate_hz, sample_rate_hz)
