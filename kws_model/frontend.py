"""Waveforms to features in NumPy and SciPy: what the Beam job runs. No TensorFlow.

>>> Frontend(FeatureSpec())(np.zeros((2, 16000), np.float32)).shape
(2, 98, 257)
"""

import functools
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from kws_model.feature_spec import FeatureSpec

# Raise it when a change alters a single stored value: finished shards are then made again.
VERSION = 1

Float32 = NDArray[np.float32]


class Frontend:
    """Computes one spec's features, clip by clip, in buffers that are allocated once.

    A clip at a time keeps every intermediate (98 x 512 floats, 200 kB) in the L2 cache: FFTs of 8
    or 49 clips in one call gained nothing. It also means that a clip's features cannot depend on
    its neighbours. Not safe to share between threads.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._buffers: _Buffers | None = None
        # Sparse, because BLAS adds in an order that depends on its threads: the bytes would differ.
        has_mel = spec.feature in ("log_mel", "mfcc")
        self._mel = scipy.sparse.csr_array(mel_filterbank(spec).T) if has_mel else None

    def __call__(self, waveforms: Float32) -> NDArray[np.generic]:
        """Features of a batch of clips of one length.

        Args:
          waveforms: float32 [batch, clip_samples] (any number of samples, if the spec's clips keep
            their natural lengths), nominally in [-1, 1).

        Returns:
          `spec.stored_dtype` [batch, *spec.shape]; for spectral kinds time is axis 1 and
          frequency (or mel bin, or coefficient) axis 2, in natural-log units. float16 saturates
          at +-65504 rather than overflow to infinity.

        Raises:
          ValueError: the waveforms are not float32 [batch, clip_samples].
        """
        spec = self.spec
        samples = waveforms.shape[-1] if spec.clip_ms is None else spec.clip_samples
        if waveforms.ndim != 2 or waveforms.shape[1] != samples or waveforms.dtype != np.float32:
            raise ValueError(
                f"expected float32 waveforms [batch, {samples}]; "
                f"got {waveforms.dtype} {list(waveforms.shape)}"
            )
        features = [self.one(waveform) for waveform in waveforms]
        shape = (len(features), *spec.shape_of(samples))
        return np.stack(features) if features else np.empty(shape, spec.stored_dtype)

    def one(self, waveform: Float32) -> NDArray[np.generic]:
        """The stored feature of one clip, float32 [samples], as `spec.stored_dtype`."""
        if self.spec.feature == "waveform":
            return store_waveform(waveform, self.spec.stored_dtype)
        return store_float(self.compute(waveform), self.spec.stored_dtype)

    def compute(self, waveform: Float32) -> Float32:
        """float32 [frames, bins] of one clip, in a buffer that the next call overwrites."""
        spec, buffers = self.spec, self._buffers
        if buffers is None or len(waveform) != buffers.num_samples:
            buffers = self._buffers = _Buffers(spec, len(waveform))
        np.copyto(buffers.waveform[: len(waveform)], waveform)
        if spec.pre_emphasis:
            # y[t] = x[t] - a x[t-1], with x[-1] = 0 (HTK Book, 5.2).
            buffers.waveform[1 : len(waveform)] -= np.float32(spec.pre_emphasis) * waveform[:-1]
        # Copied, then multiplied in place: contiguous, that takes half as long as in one step.
        np.copyto(buffers.frames, buffers.windows)
        np.multiply(buffers.frames, buffers.window, out=buffers.frames)
        # |X| and then a square measured 7 us a clip, re^2 + im^2 16: complex halves are strided.
        spectrum = np.abs(
            scipy.fft.rfft(buffers.frames), out=buffers.spectrum
        )  # [frames, num_bins]
        if spec.spectrum == "power":
            np.square(spectrum, out=spectrum)
        if self._mel is not None:
            spectrum = (self._mel @ np.ascontiguousarray(spectrum.T)).T  # [frames, num_mel_bins]
        spectrum += np.float32(spec.log_offset)
        np.log(spectrum, out=spectrum)
        return mfcc(spectrum, spec) if spec.feature == "mfcc" else spectrum


class _Buffers:
    """What computing a clip of one length needs: a padded waveform, a view of its windows, frames.

    Windows are as long as the FFT; past `frame_length` the analysis window is zero, which is the
    FFT's padding. A clip shorter than a window is padded to one, with zeros.
    """

    def __init__(self, spec: FeatureSpec, num_samples: int) -> None:
        self.num_samples = num_samples
        shape = (spec.frames_in(num_samples), spec.fft_size)
        self.waveform = np.zeros(max(num_samples, spec.frame_length) + spec.fft_size, np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self.waveform, spec.fft_size)
        self.windows = windows[:: spec.frame_step][: shape[0]]  # a view, [frames, fft_size]
        padded = np.pad(window(spec), (0, spec.fft_size - spec.frame_length))
        self.window = np.ascontiguousarray(np.broadcast_to(padded, shape))
        self.frames = np.empty(shape, np.float32)
        self.spectrum = np.empty((shape[0], spec.num_bins), np.float32)


def store_waveform(waveform: Float32, dtype: np.dtype[Any]) -> NDArray[np.generic]:
    """A waveform as stored; int16 is PCM (x * 32768, rounded, clipped), exact for 16-bit files."""
    if dtype != np.int16:
        return store_float(waveform, dtype)
    return np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(dtype)


def store_float(values: Float32, dtype: np.dtype[Any]) -> NDArray[np.generic]:
    """Values as float32 (a copy) or, saturating, as float16."""
    return to_float16(values) if dtype == np.float16 else values.astype(dtype)


# float16's greatest and least normal numbers, 65504 and 2^-14, as the bits of float32.
_MAX_FLOAT16, _MIN_NORMAL_FLOAT16 = np.uint32(0x477FE000), np.uint32(0x38800000)
# Rebiases a float32's exponent from 127 to 15 and rounds its fraction up from just over a half.
_REBIAS_AND_ROUND = np.uint32((0xFFF - (112 << 23)) & 0xFFFFFFFF)


def to_float16(values: Float32) -> NDArray[np.float16]:
    """`values.astype(np.float16)`, bit for bit, but saturating at +-65504; contiguous, no NaN.

    NumPy's wheels convert one value at a time, 40 us a clip; integer operations on all the bits
    take under 20. The fraction is rounded, half to even, from 23 bits to 10 (IEEE 754-2019, 3.4 and
    4.3.1). float16's subnormal numbers, few in a spectrum, are left to NumPy.
    """
    source = values.view(np.uint32)
    moved = source & np.uint32(0x7FFFFFFF)  # the magnitude's bits, which sort as it does
    if moved.max(initial=0) > _MAX_FLOAT16:
        return np.clip(values, -65504.0, 65504.0).astype(np.float16)
    tiny = (
        moved < _MIN_NORMAL_FLOAT16
        if moved.min(initial=_MAX_FLOAT16) < _MIN_NORMAL_FLOAT16
        else None
    )
    bits = source >> np.uint32(13)
    bits &= np.uint32(1)  # the last bit kept: an exact half is rounded up only if it is odd
    bits += source
    bits += _REBIAS_AND_ROUND
    # The sign moves from bit 31 to 28, which a shift by 13 brings to 15: below it stands zero, so
    # of the number and the number with both bits flipped the smaller one is right.
    np.bitwise_xor(bits, np.uint32(0x90000000), out=moved)
    np.minimum(bits, moved, out=bits)
    bits >>= np.uint32(13)
    stored = bits.astype(np.uint16).view(np.float16)
    if tiny is not None:
        np.copyto(stored, values, casting="same_kind", where=tiny)
    return stored


def window(spec: FeatureSpec) -> Float32:
    """The analysis window, float32 [frame_length], periodic as `tf.signal` has it.

    a - (1 - a) cos(2 pi n / N) with a = 0.5 (Hann), 0.54 (Hamming), 1 (rectangular): Harris, "On
    the use of windows", Proc. IEEE 66 (1978). scipy.signal has them too, and is slow to import.
    """
    a = {"hann": 0.5, "hamming": 0.54, "rectangular": 1.0}[spec.window_function]
    turn = 2 * np.pi * np.arange(spec.frame_length) / spec.frame_length
    return (a - (1 - a) * np.cos(turn)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def mel_filterbank(spec: FeatureSpec) -> Float32:
    """Triangular filters, float32 [num_bins, num_mel_bins].

    Triangles are straight in Hz between neighbouring mel-spaced edges, as in librosa.filters.mel
    and Slaney's Auditory Toolbox (1998). `htk` peaks at 1 (librosa's htk=True, norm=None), `slaney`
    has area 1 over Hz (htk=False, norm="slaney").
    """
    to_mel, to_hz = _MEL_SCALES[spec.mel_scale]
    lower_mel, upper_mel = to_mel(np.array([spec.lower_hz, spec.upper_edge_hz]))
    mels = np.linspace(lower_mel, upper_mel, spec.num_mel_bins + 2)
    edges_hz = to_hz(mels)  # [num_mel_bins + 2]
    bins_hz = np.arange(spec.num_bins) * (spec.sample_rate_hz / spec.fft_size)
    lower, center, upper = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - lower) / (center - lower)
    falling = (upper - bins_hz[:, None]) / (upper - center)
    filters = np.maximum(0.0, np.minimum(rising, falling))  # [num_bins, num_mel_bins]
    empty = np.flatnonzero(filters.max(axis=0) == 0)
    if empty.size:
        raise ValueError(
            f"{empty.size} of {spec.num_mel_bins} mel filters hold no FFT bin (the first is "
            f"centred at {center[empty[0]]:.0f} Hz): lower --num_mel_bins or raise --fft_length"
        )
    if spec.mel_scale == "slaney":
        filters *= 2.0 / (upper - lower)
    return filters.astype(np.float32)


def mfcc(log_mel: Float32, spec: FeatureSpec) -> Float32:
    """The first `num_mfcc` of an orthonormal DCT-II over mel bins, liftered.

    float32 [frames, num_mel_bins] -> float32 [frames, num_mfcc]; see `lifter_weights`.
    """
    coefficients = scipy.fft.dct(log_mel, type=2, norm="ortho", axis=1)[:, : spec.num_mfcc]
    return coefficients * lifter_weights(spec)


def lifter_weights(spec: FeatureSpec) -> Float32:
    """1 + L/2 sin(pi n / L), float32 [num_mfcc] (HTK Book, 5.6); ones if L (`lifter`) is 0."""
    n = np.arange(spec.num_mfcc)
    if not spec.lifter:
        return np.ones(spec.num_mfcc, np.float32)
    return (1 + spec.lifter / 2 * np.sin(np.pi * n / spec.lifter)).astype(np.float32)


def _htk_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """O'Shaughnessy (1987), as in the HTK Book, 5.4."""
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def _htk_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


# Slaney's Auditory Toolbox: 200/3 Hz a mel up to 1 kHz, then 27 mels for each factor of 6.4.
_LINEAR_HZ, _BREAK_HZ, _LOG_STEP = 200.0 / 3, 1000.0, np.log(6.4) / 27


def _slaney_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HZ / _LINEAR_HZ + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_HZ, above)


def _slaney_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_HZ / _LINEAR_HZ))
    return np.where(mel < _BREAK_HZ / _LINEAR_HZ, mel * _LINEAR_HZ, above)


_MEL_SCALES = {"htk": (_htk_mel, _htk_hz), "slaney": (_slaney_mel, _slaney_hz)}
