"""Augmented copies of training clips, for what must happen before the FFT.

Which copies there are, and every number that they are made with, depends on (seed, id, copy) alone.
SpecAugment and the like need no copies: they are cheap enough while training.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kws_model.feature_spec import FeatureSpec
from pipelines import noise
from pipelines.clip import decibels, resample
from pipelines.corpus import Recording

Float32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopyRule:
    """How many copies of each training clip, and how they differ from it."""

    copies: int = 0
    """Augmented copies of each training clip; validation and test have none."""

    copy_shift_ms: float = 100.0
    """A copy is moved by up to this much, earlier or later; not where clips keep their lengths."""

    copy_speed_percent: float = 10.0
    """A copy is up to this much faster or slower; its pitch changes with it."""

    copy_gain_db: float = 6.0
    """A copy is up to this much louder or softer."""

    copy_snr_db: tuple[float, float] = (5.0, 25.0)
    """Least and greatest ratio of speech to the background noise mixed in, if there is any."""

    def __post_init__(self) -> None:
        if not 0 <= self.copies <= 1000:
            raise ValueError(f"--copies must be from 0 to 1000; got {self.copies}")
        if not (0 <= self.copy_shift_ms <= 3_600_000 and 0 <= self.copy_gain_db <= 60):
            raise ValueError("--copy_shift_ms must not be negative, --copy_gain_db from 0 to 60")
        if not 0 <= self.copy_speed_percent <= 50:
            raise ValueError(
                f"--copy_speed_percent must be from 0 to 50; got {self.copy_speed_percent:g}"
            )
        if not -60 <= self.copy_snr_db[0] <= self.copy_snr_db[1] <= 120:
            raise ValueError(f"--copy_snr_db must be two numbers, low and high: {self.copy_snr_db}")


def with_copies(recording: Recording, rule: CopyRule) -> Iterator[Recording]:
    """The recording, and its copies if it is for training: `<id>#1`, `<id>#2`, ..."""
    yield recording
    if recording.split == "train":
        for copy in range(1, rule.copies + 1):
            yield recording._replace(id=f"{recording.id}#{copy}", copy=copy)


def augment(
    mono: Float32,
    recording: Recording,
    rule: CopyRule,
    *,
    seed: int,
    spec: FeatureSpec,
    noises: tuple[tuple[str, str], ...],
) -> Float32:
    """The waveform of a copy.

    Args:
      mono: the clip at its natural length, float32 [samples] in [-1, 1).
      recording: the copy, whose id says what is drawn.
      rule: the ranges.
      seed: the dataset's.
      spec: its rate and its clips' length.
      noises: (id, path) of the background noises; of each, the part for training is used.

    Returns:
      float32 [clip_samples], clipped to [-1, 1]; as long as the clip at its new speed, where clips
      keep their natural lengths.
    """
    digest = hashlib.sha256(f"copy/{seed}/{recording.id}".encode()).digest()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
    shift, speed, gain, snr, which, where = rng.uniform(-1, 1, 6)
    # 1/1000 steps: the resampler's filter table stays small whatever is drawn.
    rate = 1000 + round(10 * rule.copy_speed_percent * speed)
    mono = mono if rate == 1000 else resample(mono, rate, 1000)
    num_samples = len(mono) if spec.clip_ms is None else spec.clip_samples
    by = round(shift * rule.copy_shift_ms * spec.sample_rate_hz / 1000)
    # A shift within a clip's own length would cut the word away.
    shifted = _shift(mono, 0 if spec.clip_ms is None else by, num_samples)
    shifted *= np.float32(10 ** (gain * rule.copy_gain_db / 20))
    level = decibels(math.sqrt(float(np.dot(shifted, shifted)) / num_samples))
    if noises and level > -math.inf:
        path = noises[int((which + 1) / 2 * len(noises))][1]
        excerpt = noise.excerpt(path, "train", (where + 1) / 2, spec.sample_rate_hz, num_samples)
        low, high = rule.copy_snr_db
        _mix(shifted, excerpt, level - (low + (snr + 1) / 2 * (high - low)))
    return np.clip(shifted, -1.0, 1.0, out=shifted)


def _shift(mono: Float32, by: int, num_samples: int) -> Float32:
    """Moves a clip later (or, negative, earlier), filling with zeros, and cuts or pads it."""
    shifted = np.zeros(num_samples, np.float32)
    source = mono[max(0, -by) :]
    start = min(max(0, by), num_samples)
    kept = source[: num_samples - start]
    shifted[start : start + len(kept)] = kept
    return shifted


def _mix(clip: Float32, excerpt: Float32, level_dbfs: float) -> None:
    """Adds noise to a clip, in place, at a root mean square of `level_dbfs`."""
    power = float(np.dot(excerpt, excerpt)) / len(excerpt)
    if power > 0:
        clip += np.float32(10 ** (level_dbfs / 20) / math.sqrt(power)) * excerpt
