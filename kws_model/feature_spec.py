"""The one description of a feature: what the Beam job computes, records hold and serving repeats.

>>> FeatureSpec().shape
(98, 257)
"""

import dataclasses
import hashlib
import json
import math
from typing import Any, Literal, Self

import numpy as np

Feature = Literal["log_spectrogram", "log_mel", "mfcc", "waveform"]
StoredDtype = Literal["float16", "float32", "int16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """How a waveform becomes a feature. Checks itself; every size is derived here and only here.

    The defaults are those of the Keras tutorial on simple audio classification and of TensorFlow's
    own `AudioSpectrogram` op: 30 ms periodic Hann windows every 10 ms, an FFT of the next power of
    two, |X|^2, then the natural log of (x + 0.01).

    Raises:
      ValueError: a setting is out of its range, or a length is not a whole number of samples.
    """

    feature: Feature = "log_spectrogram"
    """What is computed: log_spectrogram, log_mel, mfcc, or the waveform itself."""

    dtype: StoredDtype | None = None
    """Type of the stored values. By default float16, and int16 (PCM) for waveform."""

    sample_rate_hz: int = 16_000
    """Every recording is resampled to this rate."""

    clip_ms: float | None = 1000.0
    """Every recording is padded with zeros or trimmed at its end to this length; None leaves it."""

    window_ms: float = 30.0
    """Length of an analysis window; a whole number of samples."""

    stride_ms: float = 10.0
    """Step from one window to the next; a whole number of samples."""

    fft_length: int | None = None
    """Points of the FFT, at least a window. By default the next power of two."""

    window_function: Literal["hann", "hamming", "rectangular"] = "hann"
    """Shape of the window (periodic form, as scipy.signal.get_window and tf.signal make it)."""

    spectrum: Literal["power", "magnitude"] = "power"
    """What the log or the mel filters are applied to: |X|^2 or |X|."""

    pre_emphasis: float = 0.0
    """Coefficient a of y[t] = x[t] - a x[t-1] (x[-1] = 0) before the windows; 0 does nothing."""

    log_offset: float = 0.01
    """Added before the natural log, so that silence has a floor."""

    num_mel_bins: int = 40
    """Mel filters (log_mel and mfcc)."""

    mel_scale: Literal["htk", "slaney"] = "htk"
    """htk: 2595 log10(1 + f/700), triangles of height 1; slaney: linear below 1 kHz, area 1."""

    lower_hz: float = 20.0
    """Lower edge of the first mel filter."""

    upper_hz: float | None = None
    """Upper edge of the last mel filter. By default half the sample rate."""

    num_mfcc: int = 13
    """Cepstral coefficients kept (mfcc), the 0th included."""

    lifter: int = 0
    """Cepstral lifter L of 1 + L/2 sin(pi n / L), as in HTK; 0 does nothing."""

    def __post_init__(self) -> None:
        if self.dtype is None:
            object.__setattr__(self, "dtype", "int16" if self.feature == "waveform" else "float16")
        if self.fft_length is None and 0 < self.window_ms < math.inf and self.sample_rate_hz > 0:
            next_power = (
                1 << (max(1, round(self.window_ms * self.sample_rate_hz / 1000)) - 1).bit_length()
            )
            object.__setattr__(self, "fft_length", next_power)
        if self.upper_hz is None:
            object.__setattr__(self, "upper_hz", self.sample_rate_hz / 2)
        for name in _FLOATS:
            # 1000 equals 1000.0, so both must be written, and fingerprinted, alike.
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))
        self._check_choices()
        self._check_lengths()
        self._check_ranges()

    def _check_choices(self) -> None:
        for field in dataclasses.fields(self):
            choices = _CHOICES.get(field.name)
            if choices and getattr(self, field.name) not in choices:
                raise ValueError(
                    f"--{field.name} must be one of {', '.join(choices)}; "
                    f"got {getattr(self, field.name)!r}"
                )
        if self.dtype == "int16" and self.feature != "waveform":
            raise ValueError(f"--dtype int16 is for --feature waveform, not for {self.feature}")

    def _check_lengths(self) -> None:
        if self.sample_rate_hz < 1:
            raise ValueError(f"--sample_rate_hz must be positive; got {self.sample_rate_hz}")
        for name in ("clip_ms", "window_ms", "stride_ms"):
            if name == "clip_ms" and self.clip_ms is None:
                continue
            samples = getattr(self, name) * self.sample_rate_hz / 1000
            # Rounding here would make training and serving cut windows in different places.
            if not 1 <= samples < math.inf or abs(samples - round(samples)) > 1e-6:
                raise ValueError(
                    f"--{name} {getattr(self, name)} is {samples:g} samples at "
                    f"{self.sample_rate_hz} Hz; it must be a whole, positive number of samples"
                )
        if self.clip_ms is not None and self.frame_length > self.clip_samples:
            raise ValueError(
                f"--window_ms {self.window_ms} is longer than --clip_ms {self.clip_ms}"
            )
        if self.fft_size < self.frame_length:
            raise ValueError(
                f"--fft_length {self.fft_length} is shorter than a window of "
                f"{self.frame_length} samples"
            )

    def _check_ranges(self) -> None:
        if not 0 <= self.lower_hz < self.upper_edge_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                "mel edges must satisfy 0 <= --lower_hz < --upper_hz <= "
                f"{self.sample_rate_hz / 2:g} (half the sample rate); "
                f"got {self.lower_hz:g} and {self.upper_edge_hz:g}"
            )
        if not _LEAST_LOG_OFFSET <= self.log_offset < math.inf:
            raise ValueError(
                f"--log_offset must be positive (1e-37 at least) and finite; got {self.log_offset}"
            )
        if not 0 <= self.pre_emphasis < 1:
            raise ValueError(f"--pre_emphasis must be in [0, 1); got {self.pre_emphasis}")
        if self.num_mel_bins < 1 or self.lifter < 0:
            raise ValueError("--num_mel_bins must be positive and --lifter not negative")
        if not 1 <= self.num_mfcc <= self.num_mel_bins:
            raise ValueError(
                f"--num_mfcc must be from 1 to --num_mel_bins ({self.num_mel_bins}); "
                f"got {self.num_mfcc}"
            )

    @property
    def clip_samples(self) -> int:
        """Samples of one clip.

        Raises:
          ValueError: clips keep their natural lengths.
        """
        if self.clip_ms is None:
            raise ValueError(
                "these clips keep their natural lengths (--clip_ms None), and one length is needed "
                "here: prepare the dataset with a --clip_ms"
            )
        return round(self.clip_ms * self.sample_rate_hz / 1000)

    @property
    def frame_length(self) -> int:
        """Samples of one window, as in tf.signal."""
        return round(self.window_ms * self.sample_rate_hz / 1000)

    @property
    def frame_step(self) -> int:
        """Samples from one window to the next, as in tf.signal."""
        return round(self.stride_ms * self.sample_rate_hz / 1000)

    @property
    def fft_size(self) -> int:
        """Points of the FFT (`fft_length`, never None)."""
        assert self.fft_length is not None
        return self.fft_length

    @property
    def upper_edge_hz(self) -> float:
        """Upper edge of the last mel filter (`upper_hz`, never None)."""
        assert self.upper_hz is not None
        return self.upper_hz

    @property
    def num_frames(self) -> int:
        """Whole windows in a clip; no window reaches past its end. Raises as `clip_samples`."""
        return self.frames_in(self.clip_samples)

    def frames_in(self, num_samples: int) -> int:
        """Whole windows in so many samples; one at least, since shorter clips are padded to it."""
        return 1 + max(0, num_samples - self.frame_length) // self.frame_step

    @property
    def num_bins(self) -> int:
        """FFT bins from 0 Hz to half the sample rate."""
        return self.fft_size // 2 + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's feature: (frames, bins), or (samples,). Raises as `clip_samples`."""
        return self.shape_of(self.clip_samples)

    def shape_of(self, num_samples: int) -> tuple[int, ...]:
        """Shape of the feature of a clip of so many samples."""
        if self.feature == "waveform":
            return (num_samples,)
        return (self.frames_in(num_samples), *self.inner_shape)

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """Shape of the feature beside time, the only axis that natural lengths leave open."""
        if self.feature == "waveform":
            return ()
        last = {"log_spectrogram": self.num_bins, "log_mel": self.num_mel_bins}
        return (last.get(self.feature, self.num_mfcc),)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Little-endian NumPy dtype of the stored bytes."""
        assert self.dtype is not None
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def num_bytes(self) -> int:
        """Bytes of one clip's stored feature; of one second's, if lengths are natural."""
        samples = self.sample_rate_hz if self.clip_ms is None else self.clip_samples
        return int(np.prod(self.shape_of(samples))) * self.stored_dtype.itemsize

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, defaults resolved."""
        return dataclasses.asdict(self)

    def shaping(self) -> dict[str, Any]:
        """The settings that shape the stored values: a spectrogram has no mel filters."""
        unused = {
            "log_spectrogram": {*_MEL, *_MFCC},
            "log_mel": {*_MFCC},
            "mfcc": set(),
            "waveform": {*_SPECTRAL, *_MEL, *_MFCC},
        }[self.feature]
        return {name: value for name, value in self.to_dict().items() if name not in unused}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Self:
        """Inverse of `to_dict`; a setting that this version does not know is a ValueError."""
        unknown = set(settings) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"unknown feature settings: {', '.join(sorted(unknown))}")
        return cls(**settings)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever a setting does."""
        canonical = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


_MFCC = ("num_mfcc", "lifter")
_MEL = ("num_mel_bins", "mel_scale", "lower_hz", "upper_hz")
_SPECTRAL = (
    *("window_ms", "stride_ms", "fft_length", "window_function"),
    *("spectrum", "pre_emphasis", "log_offset"),
)
# Below float32's normal numbers TensorFlow takes the log of 0 where NumPy does not.
_LEAST_LOG_OFFSET = 1e-37
_CHOICES = {
    "feature": Feature.__args__,  # type: ignore[attr-defined]
    "dtype": StoredDtype.__args__,  # type: ignore[attr-defined]
    "window_function": ("hann", "hamming", "rectangular"),
    "spectrum": ("power", "magnitude"),
    "mel_scale": ("htk", "slaney"),
}
_FLOATS = (
    "clip_ms",
    "window_ms",
    "stride_ms",
    "pre_emphasis",
    "log_offset",
    "lower_hz",
    "upper_hz",
)
