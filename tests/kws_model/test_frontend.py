"""Features: values known by hand, then TensorFlow, librosa, SciPy and a float64 reference."""

import dataclasses
import functools
import itertools
import math
import os
import subprocess
import sys

import librosa
import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile
import tensorflow as tf

from kws_model import frontend
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from tests.corpora import corpora_dir

SAMPLES = 16000
SECONDS = np.arange(SAMPLES) / SAMPLES


def spec_of(feature: str = "log_spectrogram", **settings) -> FeatureSpec:
    """A spec that stores what is computed, unrounded."""
    return FeatureSpec(feature=feature, dtype="float32", **settings)


def features(waveform, spec: FeatureSpec) -> np.ndarray:
    return Frontend(spec)(np.asarray(waveform, np.float32)[None])[0]


def speech_like() -> np.ndarray:
    """A gliding voice of twelve harmonics that comes and goes, over a little breath."""
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 1.5 * SECONDS)) / SAMPLES
    voice = sum(np.sin(k * phase) / k for k in range(1, 13))
    envelope = np.clip(np.sin(2 * np.pi * 2 * SECONDS), 0, 1)
    breath = np.random.default_rng(1).normal(size=SAMPLES)
    return 0.3 * envelope * voice + 0.002 * breath


SIGNALS = {
    "silence": np.zeros(SAMPLES),
    "speech-like": speech_like(),
    "noise": np.random.default_rng(2).normal(0, 0.1, SAMPLES),
    "last bit": np.random.default_rng(3).integers(-1, 2, SAMPLES) / 32768,
    "click": np.eye(1, SAMPLES, 8000)[0],
    "full scale": np.sign(np.sin(2 * np.pi * 441 * SECONDS)),
    "clipped": np.clip(5 * speech_like(), -1, 32767 / 32768),
    "beyond full scale": 1.5 * speech_like(),
}
each_signal = pytest.mark.parametrize("name", SIGNALS)


# Values known by hand.


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # The windows' sums: N = 480 for the rectangle, a N for a - (1 - a) cos.
        ({"window_function": "rectangular"}, math.log(480**2 + 0.01)),
        ({"window_function": "hann"}, math.log(240**2 + 0.01)),
        ({"window_function": "hamming"}, math.log((0.54 * 480) ** 2 + 0.01)),
        ({"window_function": "hann", "spectrum": "magnitude"}, math.log(240 + 0.01)),
        ({"window_function": "hann", "log_offset": 1.0}, math.log(240**2 + 1)),
        ({"window_ms": 20, "stride_ms": 5}, math.log(160**2 + 0.01)),
    ],
)
def test_a_constant_of_one_puts_the_sum_of_the_window_in_bin_zero(settings, expected):
    values = features(np.ones(SAMPLES), spec_of(**settings))
    np.testing.assert_allclose(values[:, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("log_offset", [0.01, 1e-6, 1.0])
def test_silence_is_the_log_of_the_offset(log_offset):
    values = features(np.zeros(SAMPLES), spec_of(log_offset=log_offset))
    np.testing.assert_allclose(values, math.log(log_offset), rtol=1e-6)


def test_silence_is_a_constant_in_every_mel_bin_and_in_the_zeroth_coefficient():
    np.testing.assert_allclose(
        features(np.zeros(SAMPLES), spec_of("log_mel")), math.log(0.01), rtol=1e-6
    )
    cepstrum = features(np.zeros(SAMPLES), spec_of("mfcc"))
    np.testing.assert_allclose(cepstrum[:, 0], math.log(0.01) * math.sqrt(40), rtol=1e-6)
    np.testing.assert_allclose(cepstrum[:, 1:], 0, atol=1e-5)


@pytest.mark.parametrize("frequency_bin", [8, 32, 100, 248])
def test_a_tone_is_loudest_in_its_bin(frequency_bin):
    tone = np.sin(2 * np.pi * frequency_bin * SAMPLES / 512 * SECONDS)
    values = features(tone, spec_of())
    np.testing.assert_array_equal(values.argmax(axis=1), frequency_bin)


def test_a_click_is_heard_in_the_windows_that_hold_it_and_in_no_other():
    # Sample 8000 is inside window f if 160 f <= 8000 < 160 f + 480; at f = 50 it meets the zero
    # with which a periodic Hann window begins.
    heard = features(np.eye(1, SAMPLES, 8000)[0], spec_of()).max(axis=1) > math.log(0.011)
    np.testing.assert_array_equal(np.flatnonzero(heard), [48, 49])


def test_what_follows_the_last_whole_window_is_not_heard():
    # 98 windows end at sample 97 * 160 + 480 = 16000; with a stride of 170, at 92 * 170 + 480.
    last_click = np.eye(1, SAMPLES, SAMPLES - 1)[0]
    spec = spec_of(stride_ms=10.625, window_function="rectangular")
    np.testing.assert_array_equal(features(last_click, spec), features(np.zeros(SAMPLES), spec))
    assert features(last_click, spec_of(window_function="rectangular")).max() > 0


# TensorFlow's own op.


def audio_spectrogram(waveform: np.ndarray) -> np.ndarray:
    samples = tf.constant(waveform.astype(np.float32)[:, None])
    power = tf.raw_ops.AudioSpectrogram(
        input=samples, window_size=480, stride=160, magnitude_squared=True
    )
    return np.log(power.numpy()[0] + 0.01)


@each_signal
def test_the_default_is_the_log_of_tensorflows_audio_spectrogram(name):
    values = features(SIGNALS[name], spec_of())
    np.testing.assert_allclose(values, audio_spectrogram(SIGNALS[name]), rtol=0, atol=1e-4)


# A reference in float64, written from the definitions.


def reference(waveform: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    x = np.asarray(waveform, np.float32).astype(np.float64)
    x = x - spec.pre_emphasis * np.concatenate([[0.0], x[:-1]])
    frames = np.stack(
        [
            x[start : start + spec.frame_length]
            for start in range(0, len(x) - spec.frame_length + 1, spec.frame_step)
        ]
    )
    n = np.arange(spec.frame_length)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / spec.frame_length)
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * n / spec.frame_length)
    shape = {"hann": hann, "hamming": hamming, "rectangular": np.ones(len(n))}
    fourier = fourier_matrix(spec.frame_length, spec.fft_size)
    magnitude = np.abs((frames * shape[spec.window_function]) @ fourier)
    values = magnitude**2 if spec.spectrum == "power" else magnitude
    if spec.feature != "log_spectrogram":
        values = values @ reference_filters(spec)
    values = np.log(values + spec.log_offset)
    return values @ reference_cosines(spec) if spec.feature == "mfcc" else values


@functools.cache
def fourier_matrix(frame_length: int, fft_length: int) -> np.ndarray:
    n, k = np.arange(frame_length), np.arange(fft_length // 2 + 1)
    return np.exp(-2j * np.pi * np.outer(n, k) / fft_length)


def reference_filters(spec: FeatureSpec) -> np.ndarray:
    def slaney(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    def slaney_mel(hz: float) -> float:
        return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)

    htk = spec.mel_scale == "htk"
    to_mel = (lambda hz: 2595 * math.log10(1 + hz / 700)) if htk else slaney_mel
    to_hz = (lambda mel: 700 * (10 ** (mel / 2595) - 1)) if htk else slaney
    low, high = to_mel(spec.lower_hz), to_mel(spec.upper_edge_hz)
    step = (high - low) / (spec.num_mel_bins + 1)
    edges = [to_hz(low + i * step) for i in range(spec.num_mel_bins + 2)]
    bins_hz = np.arange(spec.fft_size // 2 + 1) * spec.sample_rate_hz / spec.fft_size
    columns = [
        np.interp(bins_hz, [left, peak, right], [0, 1 if htk else 2 / (right - left), 0])
        for left, peak, right in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    return np.stack(columns, axis=1)


def reference_cosines(spec: FeatureSpec) -> np.ndarray:
    size = spec.num_mel_bins
    columns = []
    for k in range(spec.num_mfcc):
        scale = math.sqrt((1 if k == 0 else 2) / size)
        lift = 1 + spec.lifter / 2 * math.sin(math.pi * k / spec.lifter) if spec.lifter else 1
        columns.append(
            [scale * lift * math.cos(math.pi * k * (2 * m + 1) / (2 * size)) for m in range(size)]
        )
    return np.array(columns).T


REFERENCE_SPECS = [
    spec_of(),
    # An offset of 0.01 under |X| asks for more digits of a loud clip's quiet bins than float32 has.
    spec_of(spectrum="magnitude", log_offset=1, window_function="hamming"),
    spec_of(pre_emphasis=0.97),
    spec_of(window_ms=25, stride_ms=12.5, fft_length=600),
    spec_of("log_mel"),
    spec_of("log_mel", mel_scale="slaney", num_mel_bins=32, lower_hz=0),
    spec_of("log_mel", spectrum="magnitude", log_offset=1, fft_length=1024, upper_hz=7600),
    spec_of("log_mel", sample_rate_hz=8000, clip_ms=2000, lower_hz=125, num_mel_bins=24),
    spec_of("mfcc"),
    spec_of("mfcc", mel_scale="slaney", num_mel_bins=26, num_mfcc=26, window_function="hamming"),
    spec_of("mfcc", lifter=22, pre_emphasis=0.97, num_mel_bins=26),
]


@pytest.mark.parametrize("number", range(len(REFERENCE_SPECS)))
@each_signal
def test_features_are_those_of_their_definitions_in_float64(name, number):
    spec = REFERENCE_SPECS[number]
    expected = reference(SIGNALS[name], spec)
    np.testing.assert_allclose(features(SIGNALS[name], spec), expected, rtol=0, atol=1e-4)


# librosa and SciPy.

MEL_SETTINGS = [
    {},
    {"num_mel_bins": 64, "fft_length": 1024},
    {"num_mel_bins": 80, "fft_length": 2048, "lower_hz": 0},
    {"num_mel_bins": 24, "lower_hz": 125, "upper_hz": 3800},
    {"sample_rate_hz": 44100, "num_mel_bins": 40, "upper_hz": 16000},
]


@pytest.mark.parametrize("settings", MEL_SETTINGS)
@pytest.mark.parametrize(("mel_scale", "norm"), [("htk", None), ("slaney", "slaney")])
def test_the_mel_filters_are_librosas(mel_scale, norm, settings):
    spec = spec_of("log_mel", mel_scale=mel_scale, **settings)
    expected = librosa.filters.mel(
        sr=spec.sample_rate_hz,
        n_fft=spec.fft_size,
        n_mels=spec.num_mel_bins,
        fmin=spec.lower_hz,
        fmax=spec.upper_hz,
        htk=mel_scale == "htk",
        norm=norm,
        dtype=np.float64,
    ).T
    filters = frontend.mel_filterbank(spec)
    assert filters.dtype == np.float32
    np.testing.assert_allclose(filters, expected, rtol=1e-6, atol=1e-7)


def librosa_log_mel(waveform: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float32),
        sr=spec.sample_rate_hz,
        n_fft=spec.fft_size,
        hop_length=spec.frame_step,
        window="hann",
        center=False,
        power=2.0,
        n_mels=spec.num_mel_bins,
        fmin=spec.lower_hz,
        fmax=spec.upper_hz,
        htk=spec.mel_scale == "htk",
        norm=None if spec.mel_scale == "htk" else "slaney",
    )
    return np.log(power + spec.log_offset)  # [num_mel_bins, frames]


# librosa centres a window that is shorter than the FFT, so the two are equal here.
@pytest.mark.parametrize("mel_scale", ["htk", "slaney"])
@each_signal
def test_log_mel_and_mfcc_are_librosas_where_the_window_is_the_fft(name, mel_scale):
    spec = spec_of("log_mel", window_ms=32, mel_scale=mel_scale)
    log_mel = librosa_log_mel(SIGNALS[name], spec)
    np.testing.assert_allclose(features(SIGNALS[name], spec), log_mel.T, rtol=0, atol=1e-4)
    mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=13, dct_type=2, norm="ortho")
    cepstrum = features(SIGNALS[name], dataclasses.replace(spec, feature="mfcc"))
    np.testing.assert_allclose(cepstrum, mfcc.T, rtol=0, atol=1e-4)


@pytest.mark.parametrize("window_function", ["hann", "hamming", "rectangular"])
@pytest.mark.parametrize("window_ms", [30, 25, 20.0625])
def test_the_window_is_scipys_periodic_one(window_function, window_ms):
    spec = spec_of(window_function=window_function, window_ms=window_ms)
    name = {"rectangular": "boxcar"}.get(window_function, window_function)
    expected = scipy.signal.get_window(name, spec.frame_length, fftbins=True)
    np.testing.assert_allclose(frontend.window(spec), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("num_mel_bins", "num_mfcc"), [(40, 13), (40, 40), (23, 12), (1, 1)])
def test_the_cepstrum_is_scipys_orthonormal_cosine_transform_of_log_mel(num_mel_bins, num_mfcc):
    spec = spec_of("mfcc", num_mel_bins=num_mel_bins, num_mfcc=num_mfcc)
    log_mel = features(speech_like(), dataclasses.replace(spec, feature="log_mel"))
    expected = scipy.fft.dct(log_mel.astype(np.float64), type=2, norm="ortho", axis=1)
    cepstrum = features(speech_like(), spec)
    np.testing.assert_allclose(cepstrum, expected[:, :num_mfcc], rtol=0, atol=2e-5)


def test_all_coefficients_hold_all_the_energy_of_log_mel():
    cepstrum = features(speech_like(), spec_of("mfcc", num_mfcc=40))
    log_mel = features(speech_like(), spec_of("log_mel"))
    np.testing.assert_allclose(
        np.sum(cepstrum**2, axis=1), np.sum(log_mel**2, axis=1), rtol=1e-5, atol=0
    )


def test_the_lifter_weighs_each_coefficient_as_htk_does():
    plain, lifted = (features(speech_like(), spec_of("mfcc", lifter=size)) for size in (0, 22))
    # 1 + 11 sin(pi n / 22) for n = 0 to 11 (HTK Book, 5.6).
    weights = [1, 2.565, 4.099, 5.570, 6.947, 8.203, 9.313, 10.254, 11.006, 11.554, 11.888, 12]
    np.testing.assert_allclose(lifted[:, :12], plain[:, :12] * weights, rtol=2e-4, atol=1e-6)


def test_pre_emphasis_is_the_filter_one_minus_a_z_to_the_minus_one():
    emphasized = scipy.signal.lfilter([1, -0.97], [1], speech_like().astype(np.float32))
    np.testing.assert_allclose(
        features(speech_like(), spec_of(pre_emphasis=0.97)),
        features(emphasized, spec_of()),
        rtol=0,
        atol=1e-4,
    )


def test_pre_emphasis_leaves_the_callers_waveform_alone():
    waveform = speech_like().astype(np.float32)
    features(waveform, spec_of(pre_emphasis=0.97))
    np.testing.assert_array_equal(waveform, speech_like().astype(np.float32))


# What is stored.


@pytest.mark.parametrize("feature", ["log_spectrogram", "log_mel", "mfcc", "waveform"])
def test_float16_is_the_nearest_to_the_float32_result(feature):
    exact = features(speech_like(), spec_of(feature))
    stored = features(speech_like(), FeatureSpec(feature=feature, dtype="float16"))
    assert stored.dtype == np.float16
    error = np.abs(stored.astype(np.float64) - exact)
    assert np.all(error <= np.spacing(np.abs(stored)).astype(np.float64) / 2)
    assert error.max() > 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (65504, 65504),
        (65519, 65504),
        (65520, 65504),  # the first that would round to infinity
        (1e30, 65504),
        (np.inf, 65504),
        (-65520, -65504),
        (-np.inf, -65504),
        (1 + 2**-11, 1),  # a tie goes to even
        (1 + 3 * 2**-11, 1 + 2**-9),
    ],
)
def test_float16_saturates_and_rounds_to_nearest(value, expected):
    out = frontend.store_float(np.array([0.5, value], np.float32), np.dtype(np.float16))
    np.testing.assert_array_equal(out, np.array([0.5, expected], np.float16))


def test_float16_is_numpy_s_bit_for_bit_over_the_whole_of_float32():
    every = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32).view(np.float32)
    values = every[np.abs(every) <= 65504]  # neither NaN nor beyond
    borders = [2.0**-14, 2.0**-24, 2.0**-25, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 65504, 0.0]
    values = np.concatenate([values, *(np.float32(s) * np.float32(borders) for s in (1, -1))])
    assert len(values) > 2_000_000
    np.testing.assert_array_equal(
        frontend.to_float16(values).view(np.uint16), values.astype(np.float16).view(np.uint16)
    )


def test_a_waveform_beyond_float16_saturates():
    waveform = np.linspace(-1e6, 1e6, SAMPLES)
    stored = features(waveform, FeatureSpec(feature="waveform", dtype="float16"))
    assert (stored.min(), stored.max()) == (-65504, 65504)


def test_an_int16_waveform_is_the_pcm_that_was_read():
    pcm = np.arange(-32768, 32768).astype("<i2")
    spec = FeatureSpec(feature="waveform", clip_ms=4096)
    stored = features(pcm / np.float32(32768), spec)
    assert stored.dtype == np.dtype("<i2")
    np.testing.assert_array_equal(stored, pcm)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 32767),
        (7.5, 32767),
        (-1.0, -32768),
        (-7.5, -32768),
        (0.4 / 32768, 0),
        (0.6 / 32768, 1),
        (-0.6 / 32768, -1),
        (32767.4 / 32768, 32767),
        (np.inf, 32767),
        (-np.inf, -32768),
    ],
)
def test_an_int16_waveform_is_rounded_and_clipped(value, expected):
    assert features(np.full(SAMPLES, value), FeatureSpec(feature="waveform"))[5] == expected


def test_a_float32_waveform_is_stored_as_it_is():
    waveform = (3 * speech_like()).astype(np.float32)
    np.testing.assert_array_equal(features(waveform, spec_of("waveform")), waveform)


# Batches.

KINDS = [FeatureSpec(feature=kind) for kind in ("log_spectrogram", "log_mel", "mfcc", "waveform")]
each_kind = pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.feature)


@each_kind
def test_a_clips_features_do_not_depend_on_its_neighbours(spec):
    clips = np.stack(list(SIGNALS.values())).astype(np.float32)
    alone = [Frontend(spec)(clip[None])[0].tobytes() for clip in clips]
    together = Frontend(spec)
    for order in ([*range(len(clips))], [*range(len(clips))][::-1], [5, 1, 5]):
        assert [row.tobytes() for row in together(clips[order])] == [alone[i] for i in order]


@each_kind
def test_a_batch_is_not_overwritten_by_the_next(spec):
    compute = Frontend(spec)
    first = compute(speech_like().astype(np.float32)[None])
    before = first.copy()
    compute(np.ones((1, SAMPLES), np.float32))
    np.testing.assert_array_equal(first, before)


@each_kind
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_batch_has_the_specs_shape_and_dtype(spec, batch):
    values = Frontend(spec)(np.zeros((batch, SAMPLES), np.float32))
    assert (values.shape, values.dtype) == ((batch, *spec.shape), spec.stored_dtype)


PRINT_DIGESTS = """
import hashlib, numpy as np
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
clips = np.random.default_rng(0).normal(0, 0.1, (8, 16000)).astype(np.float32)
for feature in ("log_spectrogram", "log_mel", "mfcc"):
    print(hashlib.sha256(Frontend(FeatureSpec(feature=feature))(clips).tobytes()).hexdigest())
"""


def digests(threads: int) -> list[str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    command = [sys.executable, "-c", PRINT_DIGESTS]
    return subprocess.check_output(command, env=environment, text=True).split()


def test_the_bytes_do_not_depend_on_the_number_of_threads():
    assert len(digests(1)) == 3
    assert digests(1) == digests(4)


# Refusals.


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        (np.zeros((2, 15999), np.float32), r"got float32 \[2, 15999\]$"),
        (np.zeros(16000, np.float32), r"got float32 \[16000\]$"),
        (np.zeros((1, 16000, 1), np.float32), r"got float32 \[1, 16000, 1\]$"),
        (np.zeros((2, 16000)), r"got float64 \[2, 16000\]$"),
        (np.zeros((2, 16000), np.int16), r"got int16 \[2, 16000\]$"),
    ],
)
def test_other_than_float32_clips_of_the_specs_length_is_refused(waveforms, message):
    expected = r"^expected float32 waveforms \[batch, 16000\]; "
    with pytest.raises(ValueError, match=expected + message):
        Frontend(FeatureSpec())(waveforms)


@pytest.mark.filterwarnings("ignore:Empty filters detected")
@pytest.mark.parametrize(("num_mel_bins", "fft_length"), [(128, 512), (128, 480), (200, 512)])
@pytest.mark.parametrize("feature", ["log_mel", "mfcc"])
def test_mel_filters_too_narrow_for_the_fft_are_refused(feature, num_mel_bins, fft_length):
    filters = librosa.filters.mel(
        sr=16000, n_fft=fft_length, n_mels=num_mel_bins, fmin=20, htk=True, norm=None
    )
    count = np.sum(filters.max(axis=1) == 0)
    message = (
        rf"^{count} of {num_mel_bins} mel filters hold no FFT bin \(the first is centred at "
        r"\d+ Hz\): lower --num_mel_bins or raise --fft_length$"
    )
    with pytest.raises(ValueError, match=message):
        Frontend(FeatureSpec(feature=feature, num_mel_bins=num_mel_bins, fft_length=fft_length))


def test_mel_settings_do_not_matter_where_there_are_no_mel_filters():
    Frontend(FeatureSpec(num_mel_bins=128))


# Real recordings.

if (corpora := corpora_dir()) is not None and (corpora / "speech_commands_9").is_dir():
    WORDS = sorted(
        folder for folder in (corpora / "speech_commands_9").iterdir() if folder.name[0].isalpha()
    )
    CLIPS = [
        path
        for folder in WORDS
        if folder.is_dir()
        for path in itertools.islice(sorted(folder.glob("*.wav")), 3)
    ]

    def test_recordings_are_the_same_in_tensorflow_and_in_float64():
        assert CLIPS
        mel, mfcc = spec_of("log_mel"), spec_of("mfcc")
        for path in CLIPS:
            samples = soundfile.read(path, dtype="float32")[0][:SAMPLES]
            clip = np.pad(samples, (0, SAMPLES - len(samples)))
            np.testing.assert_allclose(
                features(clip, spec_of()), audio_spectrogram(clip), rtol=0, atol=1e-4
            )
            for spec in (mel, mfcc):
                np.testing.assert_allclose(
                    features(clip, spec), reference(clip, spec), rtol=0, atol=1e-4
                )
