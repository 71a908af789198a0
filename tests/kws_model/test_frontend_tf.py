"""The TensorFlow front end: equal to the NumPy one and to the definitions, on any spec."""

import dataclasses
import functools

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from kws_model import frontend, frontend_tf
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from tests.corpora import corpora_dir
from tests.kws_model.specs import FEATURES, specs
from tests.kws_model.test_frontend import (
    REFERENCE_SPECS,
    SIGNALS,
    fourier_matrix,
    reference_cosines,
    reference_filters,
)

KINDS = [FeatureSpec(feature=kind) for kind in FEATURES]
each_kind = pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.feature)
CLIPS = np.stack(list(SIGNALS.values())).astype(np.float32)  # [8, 16000]


def unrounded(spec: FeatureSpec) -> FeatureSpec:
    return dataclasses.replace(spec, dtype="float32")


def in_numpy(clips: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    return Frontend(unrounded(spec))(clips)


def in_a_graph(spec: FeatureSpec, **settings):
    signature = [tf.TensorSpec([None, spec.clip_samples], tf.float32)]
    return tf.function(
        functools.partial(frontend_tf.features, spec=spec, **settings), input_signature=signature
    )


# A reference in float64, written from the definitions, with what float32 can know of each value.


def spectrum_error(fft_length: int) -> float:
    """Of |X| in norms of the windowed frame, in float32 and any implementation; measured: half."""
    return 1e-6 if fft_length.bit_count() == 1 else 1e-5  # large primes take another algorithm


def reference(waveform: np.ndarray, spec: FeatureSpec) -> tuple[np.ndarray, np.ndarray]:
    """The features, and how far a computation may be off whose |X| have errors of that size."""
    x = waveform.astype(np.float64)
    x = x - spec.pre_emphasis * np.concatenate([[0.0], x[:-1]])
    starts = range(0, len(x) - spec.frame_length + 1, spec.frame_step)
    frames = np.stack([x[start : start + spec.frame_length] for start in starts])
    turn = 2 * np.pi * np.arange(spec.frame_length) / spec.frame_length
    constant = {"hann": 0.5, "hamming": 0.54, "rectangular": 1.0}[spec.window_function]
    frames = frames * (constant - (1 - constant) * np.cos(turn))
    values = np.abs(frames @ fourier_matrix(spec.frame_length, spec.fft_size))
    norms = np.linalg.norm(frames, axis=1, keepdims=True)  # [frames, 1]
    error = spectrum_error(spec.fft_size) * norms * np.ones_like(values)
    if spec.spectrum == "power":
        values, error = values**2, 2 * values * error + error**2
    if spec.feature != "log_spectrogram":
        filters = reference_filters(spec)
        values, error = values @ filters, error @ filters
    values = values + spec.log_offset
    error = np.log(values / np.maximum(values - error, spec.log_offset)) + np.log1p(error / values)
    values = np.log(values)
    if spec.feature == "mfcc":
        cosines = reference_cosines(spec)
        # 2e-7: what the logarithm's own rounding adds.
        values, error = values @ cosines, (error + 2e-7 * np.abs(values)) @ np.abs(cosines)
    return values, error


def assert_equal_to_1e4(clips: np.ndarray, spec: FeatureSpec, **settings) -> None:
    """NumPy, TensorFlow and the definitions, within 1e-4 and what float32 cannot know."""
    in_tensorflow = frontend_tf.features(clips, spec, **settings).numpy()
    for clip, ours, theirs in zip(clips, in_tensorflow, in_numpy(clips, spec), strict=True):
        expected, error = reference(clip, spec)
        assert np.all(np.abs(ours - expected) <= 1e-4 + error)
        assert np.all(np.abs(theirs - expected) <= 1e-4 + error)
        assert np.all(np.abs(ours - theirs) <= 1e-4 + 2 * error)


@pytest.mark.parametrize("number", range(len(REFERENCE_SPECS)))
def test_usual_specs_agree_with_numpy_to_1e_5_on_every_signal(number):
    spec = REFERENCE_SPECS[number]
    clips = np.resize(CLIPS, (len(CLIPS), spec.clip_samples))
    np.testing.assert_allclose(
        frontend_tf.features(clips, spec), in_numpy(clips, spec), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("number", range(len(REFERENCE_SPECS)))
def test_usual_specs_are_their_definitions_in_float64(number):
    spec = REFERENCE_SPECS[number]
    clips = np.resize(CLIPS, (len(CLIPS), spec.clip_samples))
    for ours, clip in zip(frontend_tf.features(clips, spec), clips, strict=True):
        np.testing.assert_allclose(ours, reference(clip, spec)[0], rtol=0, atol=1e-4)


def short_signals(num_samples: int, seed: int) -> np.ndarray:
    """Silence, noise, last bits, a voice, clipped, a square wave and a constant, all at the top."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples)
    phase = 2 * np.pi * np.cumsum(rng.uniform(0.005, 0.02) * (1 + 0.3 * np.sin(time / 900)))
    voice = (
        0.5 * sum(np.sin(k * phase) / k for k in range(1, 9)) * np.clip(np.sin(time / 700), 0, 1)
    )
    rows = [
        np.zeros(num_samples),
        rng.normal(0, 0.1, num_samples),
        rng.integers(-1, 2, num_samples) / 32768,
        voice,
        np.clip(9 * voice, -1, 32767 / 32768),
        np.sign(np.sin(rng.uniform(0.01, 2) * time + 0.1)),
        np.ones(num_samples),
    ]
    return np.stack(rows).astype(np.float32)


def computable(spec: FeatureSpec) -> bool:
    try:
        return spec.feature == "waveform" or frontend.mel_filterbank(spec) is not None
    except ValueError:
        return spec.feature == "log_spectrogram"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(spec=specs(), seed=st.integers(0, 2**32 - 1))
# A loud clip, a tiny offset under |X| and an FFT of odd factors: NumPy and TensorFlow differ by 1.5
# where |X| is below float32's knowledge of it.
@example(
    spec=FeatureSpec(window_ms=62.5, fft_length=1558, log_offset=1e-6, spectrum="magnitude"), seed=0
)
def test_any_spec_gives_the_same_in_numpy_tensorflow_and_float64(spec, seed):
    assume(computable(spec))
    if spec.feature == "waveform":
        clips = short_signals(spec.clip_samples, seed)
        np.testing.assert_array_equal(frontend_tf.features(clips, spec), clips)
    else:
        assert_equal_to_1e4(short_signals(spec.clip_samples, seed), spec)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(spec=specs(), seed=st.integers(0, 2**32 - 1))
def test_the_transform_by_its_definition_gives_the_same_as_the_fft(spec, seed):
    assume(computable(spec) and spec.feature != "waveform")
    clips = short_signals(spec.clip_samples, seed)[[0, 1, 4]]
    # A product of 1024 terms sums more roundings than an FFT of 10 stages.
    spec = dataclasses.replace(spec, log_offset=max(spec.log_offset, 0.01), spectrum="power")
    assert_equal_to_1e4(clips, spec, magnitude=frontend_tf.dft_magnitude)


# Graphs and batches.


@each_kind
def test_in_a_graph_every_size_but_the_batch_is_known(spec):
    graph = in_a_graph(spec).get_concrete_function()
    assert graph.structured_outputs.shape.as_list() == [None, *spec.shape]
    assert graph.structured_outputs.dtype == tf.float32


@each_kind
def test_a_graph_gives_what_eager_calls_give(spec):
    np.testing.assert_allclose(
        in_a_graph(spec)(CLIPS), frontend_tf.features(CLIPS, spec), rtol=0, atol=1e-5
    )


@each_kind
def test_inside_tf_data_it_gives_the_same_with_static_shapes(spec):
    data = tf.data.Dataset.from_tensor_slices(CLIPS).batch(3)
    data = data.map(functools.partial(frontend_tf.features, spec=spec))
    assert data.element_spec.shape.as_list() == [None, *spec.shape]
    values = np.concatenate(list(data.as_numpy_iterator()))
    np.testing.assert_allclose(values, in_numpy(CLIPS, spec), rtol=0, atol=1e-4)


@each_kind
def test_a_clips_features_do_not_depend_on_its_neighbours(spec):
    compute = in_a_graph(spec)
    together = compute(CLIPS).numpy()
    others = np.full_like(CLIPS, 1e3)
    others[5] = CLIPS[5]
    np.testing.assert_array_equal(compute(others)[5], together[5])
    # Its place in the batch decides which windows the FFT takes four at a time: the last bits.
    for clip, values in zip(CLIPS, together, strict=True):
        np.testing.assert_allclose(compute(clip[None])[0], values, rtol=0, atol=1e-5)


@each_kind
def test_an_empty_batch_is_an_empty_batch(spec):
    assert in_a_graph(spec)(np.zeros((0, 16000), np.float32)).shape == (0, *spec.shape)


@pytest.mark.parametrize("shape", [(2, 15999), (16000,), (1, 16000, 1)])
def test_clips_of_another_length_are_refused(shape):
    message = rf"^expected waveforms \[batch, 16000\]; got \[{', '.join(map(str, shape))}\]$"
    with pytest.raises(ValueError, match=message):
        frontend_tf.features(np.zeros(shape, np.float32), FeatureSpec())


def test_mel_filters_too_narrow_for_the_fft_are_refused():
    with pytest.raises(ValueError, match="mel filters hold no FFT bin"):
        frontend_tf.features(CLIPS, FeatureSpec(feature="log_mel", num_mel_bins=200))


# What is stored.

STORED = [
    *KINDS,
    *(FeatureSpec(feature=kind, dtype="float32") for kind in FEATURES),
    FeatureSpec(feature="waveform", dtype="float16"),
]
each_stored = pytest.mark.parametrize(
    "spec", STORED, ids=lambda spec: f"{spec.feature}-{spec.dtype}"
)


@each_stored
def test_quantized_is_what_a_record_holds(spec):
    quantized = frontend_tf.quantize(tf.constant(in_numpy(CLIPS, spec)), spec).numpy()
    assert quantized.dtype == spec.stored_dtype
    np.testing.assert_array_equal(quantized, Frontend(spec)(CLIPS))


@each_kind
def test_features_and_quantize_make_the_record_of_a_clip(spec):
    quantized = frontend_tf.quantize(frontend_tf.features(CLIPS, spec), spec).numpy()
    assert quantized.dtype == spec.stored_dtype
    stored = Frontend(spec)(CLIPS).astype(np.float64)
    # What lies between two float16s to six digits may be rounded either way.
    difference = np.abs(quantized - stored)
    assert np.all(difference <= 1e-5 + np.abs(stored) * 2.0**-10)
    assert np.mean(difference > 1e-5) < 1e-3


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float16", 65504, 65504),
        ("float16", 65520, 65504),  # the first that would round to infinity
        ("float16", -1e30, -65504),
        ("float16", np.inf, 65504),
        ("float16", 1 + 2**-11, 1),  # a tie goes to even
        ("float16", 1 + 3 * 2**-11, 1 + 2**-9),
        ("float32", 1e30, 1e30),
        ("int16", 1.0, 32767),
        ("int16", -7.5, -32768),
        ("int16", 0.5 / 32768, 0),  # a tie goes to even
        ("int16", 1.5 / 32768, 2),
        ("int16", -0.6 / 32768, -1),
    ],
)
def test_quantize_rounds_to_nearest_and_saturates(dtype, value, expected):
    spec = FeatureSpec(feature="waveform", dtype=dtype)
    quantized = frontend_tf.quantize(tf.constant([[0.25, value]], tf.float32), spec)
    np.testing.assert_array_equal(quantized[0, 1], np.array(expected, spec.stored_dtype))


# Real recordings.

if (corpora := corpora_dir()) is not None and (corpora / "speech_commands_9").is_dir():
    RECORDINGS = sorted((corpora / "speech_commands_9").glob("[a-z]*/*.wav"))[::250]

    @each_kind
    def test_recordings_are_the_same_in_numpy_and_tensorflow(spec):
        assert RECORDINGS
        sounds = [soundfile.read(path, dtype="float32")[0][:16000] for path in RECORDINGS]
        clips = np.stack([np.pad(sound, (0, 16000 - len(sound))) for sound in sounds])
        np.testing.assert_allclose(
            frontend_tf.features(clips, spec), in_numpy(clips, spec), rtol=0, atol=1e-4
        )
