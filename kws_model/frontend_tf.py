"""Waveforms to features as a TensorFlow graph: what tf.data, training and serving run.

>>> features(tf.zeros([2, 16000]), FeatureSpec()).shape
TensorShape([2, 98, 257])

The window, the mel filters and the cosine transform are those of `kws_model.frontend`; on a CPU the
FFT is the same algorithm, too, and with 512 points the same to the bit. How close the two come to
the exact values is the same question: float32 knows |X| to about 1e-6 of a window's norm (the root
of its energy), and the log of a smaller |X| to no better than `log_offset` allows. With the
defaults that is far below 1e-4; with --log_offset 1e-6 on |X| a loud clip's empty bins are noise.

No step is a matrix product: on newer GPUs TensorFlow computes those from operands rounded to 10
bits (TensorFloat-32), which would move log-mel values by 6e-4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kws_model import frontend
from kws_model.feature_spec import FeatureSpec

Magnitude = Callable[[tf.Tensor, int], tf.Tensor]


def fft_magnitude(frames: tf.Tensor, fft_length: int) -> tf.Tensor:
    """|X| by an FFT: float32 [batch, frames, frame_length] -> [batch, frames, bins]."""
    return tf.abs(tf.signal.rfft(frames, [fft_length]))


def dft_magnitude(frames: tf.Tensor, fft_length: int) -> tf.Tensor:
    """|X| by the definition, X[k] = sum over n of x[n] exp(-2 pi i k n / N), as matrix products.

    For TensorFlow Lite, whose FFT takes powers of two alone.
    """
    # The angle modulo a turn, in whole numbers: exact however large k n is.
    turns = np.outer(np.arange(frames.shape[-1]), np.arange(fft_length // 2 + 1)) % fft_length
    angles = turns * (2 * np.pi / fft_length)  # [frame_length, bins]
    real = tf.matmul(frames, np.cos(angles).astype(np.float32))  # [batch, frames, bins]
    imaginary = tf.matmul(frames, np.sin(angles).astype(np.float32))
    return tf.sqrt(tf.square(real) + tf.square(imaginary))


def features(
    waveforms: tf.Tensor, spec: FeatureSpec, *, magnitude: Magnitude = fft_magnitude
) -> tf.Tensor:
    """The features that `kws_model.frontend.Frontend` computes, before they are rounded.

    Each clip's are computed from that clip alone, whatever else is in the batch.

    Args:
      waveforms: float32 [batch, clip_samples], nominally in [-1, 1).
      spec: what to compute.
      magnitude: how the magnitudes of the spectrum are computed.

    Returns:
      float32 [batch, *spec.shape]; the batch is the only size that may be unknown in a graph.

    Raises:
      ValueError: the waveforms have another shape, a mel filter holds no FFT bin, or the spec's
        clips keep their natural lengths.
    """
    waveforms = tf.convert_to_tensor(waveforms, tf.float32)
    if waveforms.shape.rank != 2 or waveforms.shape[1] != spec.clip_samples:
        raise ValueError(
            f"expected waveforms [batch, {spec.clip_samples}]; got {waveforms.shape.as_list()}"
        )
    if spec.feature == "waveform":
        return waveforms
    if spec.pre_emphasis:
        previous = tf.pad(waveforms[:, :-1], [[0, 0], [1, 0]])
        waveforms -= spec.pre_emphasis * previous  # [batch, clip_samples]
    frames = _frames(waveforms, spec) * frontend.window(spec)  # [batch, frames, frame_length]
    spectrum = magnitude(frames, spec.fft_size)  # [batch, frames, bins]
    if spec.spectrum == "power":
        spectrum = tf.square(spectrum)
    if spec.feature == "log_spectrogram":
        return tf.math.log(spectrum + spec.log_offset)
    log_mel = tf.math.log(_mel(spectrum, spec) + spec.log_offset)  # [batch, frames, num_mel_bins]
    return _mfcc(log_mel, spec) if spec.feature == "mfcc" else log_mel


def _frames(waveforms: tf.Tensor, spec: FeatureSpec) -> tf.Tensor:
    """Overlapping windows: float32 [batch, clip_samples] -> [batch, frames, frame_length].

    As tf.signal.frame, which leaves their number to be found at run time: with that, an exported
    TensorFlow Lite model measured 5.6 ms a clip, and 3.4 with every size known.
    """
    piece = math.gcd(spec.frame_length, spec.frame_step)  # windows begin and end between pieces
    num_pieces = spec.clip_samples // piece
    pieces = tf.reshape(waveforms[:, : num_pieces * piece], [-1, num_pieces, piece])
    first = np.arange(spec.num_frames) * (spec.frame_step // piece)
    indices = first[:, None] + np.arange(spec.frame_length // piece)  # [frames, pieces of each]
    frames = tf.gather(pieces, indices.astype(np.int32), axis=1)
    return tf.reshape(frames, [-1, spec.num_frames, spec.frame_length])


def _mel(spectrum: tf.Tensor, spec: FeatureSpec) -> tf.Tensor:
    """The mel filters' outputs: float32 [batch, frames, bins] -> [batch, frames, num_mel_bins].

    Each filter is a short run of bins. A matrix product measured 0.01 ms a clip on the CPU and this
    0.3, which is little beside any of the models; see above for why it is not one.
    """
    filters = frontend.mel_filterbank(spec)  # [bins, num_mel_bins]
    first = (filters > 0).argmax(axis=0)  # [num_mel_bins]
    width = (filters > 0).sum(axis=0).max()
    bins = first[:, None] + np.arange(width)  # [num_mel_bins, width]
    weights = np.pad(filters, [(0, width), (0, 0)])[bins, np.arange(len(bins))[:, None]]
    indices = np.minimum(bins, spec.num_bins - 1).astype(np.int32)
    runs = tf.gather(spectrum, indices, axis=2)  # [batch, frames, num_mel_bins, width]
    return tf.reduce_sum(runs * weights, axis=-1)


def _mfcc(log_mel: tf.Tensor, spec: FeatureSpec) -> tf.Tensor:
    """Cepstral coefficients: float32 [batch, frames, num_mel_bins] -> [batch, frames, num_mfcc]."""
    # A linear map is what it makes of the unit vectors: there is one definition of it.
    units = np.eye(spec.num_mel_bins, dtype=np.float32)
    basis = frontend.mfcc(units, spec).T  # [num_mfcc, num_mel_bins]
    products = tf.expand_dims(log_mel, 2) * basis  # [batch, frames, num_mfcc, num_mel_bins]
    return tf.reduce_sum(products, axis=-1)  # over the inner axis TensorFlow sums pairwise


def quantize(values: tf.Tensor, spec: FeatureSpec) -> tf.Tensor:
    """Rounds features as records hold them, so that a model is served what it was trained on.

    Args:
      values: float32 [batch, *spec.shape], as `features` returns.
      spec: its `dtype` is met, as by `kws_model.frontend.store_float` and `store_waveform`.

    Returns:
      The same shape in `spec.dtype`: float32 as it is; float16, the nearest, saturating at +-65504;
      int16, x * 32768 rounded and clipped.
    """
    if spec.dtype == "int16":
        return tf.cast(tf.clip_by_value(tf.round(values * 32768.0), -32768, 32767), tf.int16)
    if spec.dtype == "float16":
        return tf.cast(tf.clip_by_value(values, -65504, 65504), tf.float16)
    return values
