"""One description of a feature: its sizes worked out by hand, its refusals, its round trip."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_model.feature_spec import FeatureSpec
from tests.kws_model.specs import specs

# Defaults and derived sizes.


def test_the_defaults_are_those_of_the_tutorial():
    spec = FeatureSpec()
    assert (spec.feature, spec.sample_rate_hz, spec.clip_samples) == (
        "log_spectrogram",
        16000,
        16000,
    )
    assert (spec.frame_length, spec.frame_step, spec.fft_size) == (480, 160, 512)
    assert (spec.window_function, spec.spectrum, spec.log_offset) == ("hann", "power", 0.01)
    assert spec.shape == (98, 257)


@pytest.mark.parametrize(
    ("settings", "shape", "fft_length"),
    [
        # frames = 1 + (clip - window) // stride, all in samples; bins = fft // 2 + 1.
        ({}, (98, 257), 512),  # 1 + (16000 - 480) // 160
        ({"sample_rate_hz": 8000}, (98, 129), 256),  # 1 + (8000 - 240) // 80
        ({"sample_rate_hz": 44100}, (98, 1025), 2048),  # 1 + (44100 - 1323) // 441
        ({"sample_rate_hz": 22050, "window_ms": 40, "stride_ms": 20}, (49, 513), 1024),  # 882, 441
        ({"window_ms": 25}, (98, 257), 512),  # 1 + (16000 - 400) // 160, 97.5 rounded down
        ({"window_ms": 32}, (97, 257), 512),  # a window that is its own FFT
        ({"window_ms": 32.0625}, (97, 513), 1024),  # 513 samples, one more than 512
        ({"window_ms": 0.0625}, (100, 1), 1),  # one sample: 1 + (16000 - 1) // 160
        ({"window_ms": 1000}, (1, 8193), 16384),  # one window is the clip
        ({"clip_ms": 30}, (1, 257), 512),
        ({"clip_ms": 39.9375}, (1, 257), 512),  # one sample short of a second window
        ({"clip_ms": 40}, (2, 257), 512),
        ({"clip_ms": 2500, "stride_ms": 12.5}, (198, 257), 512),  # 1 + (40000 - 480) // 200
        ({"stride_ms": 40, "window_ms": 10}, (25, 129), 256),  # gaps: 1 + (16000 - 160) // 640
        ({"fft_length": 480}, (98, 241), 480),
        ({"fft_length": 481}, (98, 241), 481),  # an odd FFT has no bin at half the rate
        ({"fft_length": 2048}, (98, 1025), 2048),
        ({"feature": "log_mel"}, (98, 40), 512),
        ({"feature": "log_mel", "num_mel_bins": 64, "window_ms": 25}, (98, 64), 512),
        ({"feature": "mfcc"}, (98, 13), 512),
        ({"feature": "mfcc", "num_mfcc": 40}, (98, 40), 512),
        ({"feature": "waveform"}, (16000,), 512),
        ({"feature": "waveform", "sample_rate_hz": 8000, "clip_ms": 1500}, (12000,), 256),
    ],
)
def test_sizes_are_whole_windows_and_a_power_of_two(settings, shape, fft_length):
    spec = FeatureSpec(**settings)
    assert (spec.shape, spec.fft_size) == (shape, fft_length)


@pytest.mark.parametrize(
    ("settings", "dtype", "num_bytes"),
    [
        ({}, "<f2", 98 * 257 * 2),
        ({"dtype": "float32"}, "<f4", 98 * 257 * 4),
        ({"feature": "log_mel"}, "<f2", 98 * 40 * 2),
        ({"feature": "mfcc"}, "<f2", 98 * 13 * 2),
        ({"feature": "waveform"}, "<i2", 32000),
        ({"feature": "waveform", "dtype": "float16"}, "<f2", 32000),
        ({"feature": "waveform", "dtype": "float32"}, "<f4", 64000),
    ],
)
def test_two_bytes_a_value_unless_asked_for_more(settings, dtype, num_bytes):
    spec = FeatureSpec(**settings)
    assert spec.stored_dtype == np.dtype(dtype)
    assert spec.num_bytes == num_bytes


def test_the_upper_edge_is_half_the_sample_rate_unless_given():
    assert FeatureSpec(sample_rate_hz=44100).upper_edge_hz == 22050
    assert FeatureSpec(upper_hz=7600).upper_edge_hz == 7600


def test_a_length_whose_product_is_a_rounding_error_off_is_whole():
    # 1.1 * 10000 / 1000 is 11.000000000000002 in floating point.
    assert FeatureSpec(sample_rate_hz=10_000, window_ms=1.1, lower_hz=0).frame_length == 11


# Refusals.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"window_ms": 0.03},
            r"^--window_ms 0.03 is 0.48 samples at 16000 Hz; it must be a whole, positive number",
        ),
        ({"window_ms": 30.03}, r"^--window_ms 30.03 is 480.48 samples at 16000 Hz"),
        ({"window_ms": 25, "sample_rate_hz": 22050}, r"^--window_ms 25.0 is 551.25 samples at 22"),
        ({"stride_ms": 10.01}, r"^--stride_ms 10.01 is 160.16 samples"),
        ({"stride_ms": 0}, r"^--stride_ms 0.0 is 0 samples"),
        ({"window_ms": -30}, r"^--window_ms -30.0 is -480 samples"),
        ({"window_ms": float("inf")}, r"^--window_ms inf is inf samples"),
        ({"window_ms": float("nan")}, r"^--window_ms nan is nan samples"),
        ({"clip_ms": 0.01}, r"^--clip_ms 0.01 is 0.16 samples"),
        ({"clip_ms": float("inf")}, r"^--clip_ms inf is inf samples"),
        ({"clip_ms": 20}, r"^--window_ms 30.0 is longer than --clip_ms 20.0$"),
        ({"fft_length": 479}, r"^--fft_length 479 is shorter than a window of 480 samples$"),
        ({"fft_length": 0}, r"^--fft_length 0 is shorter than a window of 480 samples$"),
        ({"sample_rate_hz": 0}, r"^--sample_rate_hz must be positive; got 0$"),
        ({"sample_rate_hz": -16000}, r"^--sample_rate_hz must be positive; got -16000$"),
        (
            {"feature": "spectrogram"},
            r"^--feature must be one of log_spectrogram, log_mel, mfcc, waveform; "
            r"got 'spectrogram'$",
        ),
        ({"dtype": "int8"}, r"^--dtype must be one of float16, float32, int16; got 'int8'$"),
        ({"window_function": "hanning"}, r"^--window_function must be one of hann, hamming, rect"),
        ({"spectrum": "energy"}, r"^--spectrum must be one of power, magnitude; got 'energy'$"),
        ({"mel_scale": "bark"}, r"^--mel_scale must be one of htk, slaney; got 'bark'$"),
        ({"dtype": "int16"}, r"^--dtype int16 is for --feature waveform, not for log_spectrogram$"),
        (
            {"dtype": "int16", "feature": "mfcc"},
            r"^--dtype int16 is for --feature waveform, not for mfcc$",
        ),
        (
            {"upper_hz": 8001},
            r"^mel edges must satisfy 0 <= --lower_hz < --upper_hz <= 8000 "
            r"\(half the sample rate\); got 20 and 8001$",
        ),
        ({"lower_hz": -1}, r"^mel edges .*; got -1 and 8000$"),
        ({"lower_hz": 4000, "upper_hz": 4000}, r"^mel edges .*; got 4000 and 4000$"),
        ({"lower_hz": float("nan")}, r"^mel edges .*; got nan and 8000$"),
        ({"num_mfcc": 0}, r"^--num_mfcc must be from 1 to --num_mel_bins \(40\); got 0$"),
        ({"num_mfcc": 41}, r"^--num_mfcc must be from 1 to --num_mel_bins \(40\); got 41$"),
        ({"num_mel_bins": 12}, r"^--num_mfcc must be from 1 to --num_mel_bins \(12\); got 13$"),
        ({"num_mel_bins": 0}, r"^--num_mel_bins must be positive and --lifter not negative$"),
        ({"lifter": -1}, r"^--num_mel_bins must be positive and --lifter not negative$"),
        ({"log_offset": 0}, r"^--log_offset must be positive .* and finite; got 0.0$"),
        ({"log_offset": 1e-40}, r"^--log_offset must be positive .* and finite; got 1e-40$"),
        ({"log_offset": float("nan")}, r"^--log_offset must be positive .* and finite; got nan$"),
        ({"log_offset": float("inf")}, r"^--log_offset must be positive .* and finite; got inf$"),
        ({"pre_emphasis": 1}, r"^--pre_emphasis must be in \[0, 1\); got 1.0$"),
        ({"pre_emphasis": -0.97}, r"^--pre_emphasis must be in \[0, 1\); got -0.97$"),
        ({"pre_emphasis": float("nan")}, r"^--pre_emphasis must be in \[0, 1\); got nan$"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_flag(settings, message):
    with pytest.raises(ValueError, match=message):
        FeatureSpec(**settings)


# To JSON and back.


@settings(deadline=None)
@given(spec=specs())
def test_a_spec_comes_back_from_json_as_it_was(spec):
    again = FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.fingerprint == spec.fingerprint


@settings(deadline=None)
@given(spec=specs())
def test_sizes_agree_with_the_stored_bytes(spec):
    assert np.zeros(spec.shape, spec.stored_dtype).nbytes == spec.num_bytes
    last = (spec.num_frames - 1) * spec.frame_step + spec.frame_length
    assert last <= spec.clip_samples < last + spec.frame_step


def test_json_holds_the_defaults_resolved():
    settings = FeatureSpec().to_dict()
    assert settings["fft_length"] == 512
    assert settings["dtype"] == "float16"
    assert settings["upper_hz"] == 8000
    assert None not in settings.values()


def test_a_setting_that_this_version_does_not_know_is_refused():
    settings = FeatureSpec().to_dict() | {"hop_ms": 10, "delta": True}
    with pytest.raises(ValueError, match=r"^unknown feature settings: delta, hop_ms$"):
        FeatureSpec.from_dict(settings)


# Fingerprint.

OTHER_VALUES = {
    "feature": "mfcc",
    "dtype": "float32",
    "sample_rate_hz": 8000,
    "clip_ms": 1001.0,
    "window_ms": 31.0,
    "stride_ms": 11.0,
    "fft_length": 1024,
    "window_function": "hamming",
    "spectrum": "magnitude",
    "pre_emphasis": 0.97,
    "log_offset": 0.02,
    "num_mel_bins": 41,
    "mel_scale": "slaney",
    "lower_hz": 21.0,
    "upper_hz": 7999.0,
    "num_mfcc": 14,
    "lifter": 22,
}


def test_the_fingerprint_changes_with_every_setting():
    assert set(OTHER_VALUES) == {field.name for field in dataclasses.fields(FeatureSpec)}
    fingerprints = {
        name: FeatureSpec(**{name: value}).fingerprint for name, value in OTHER_VALUES.items()
    }
    fingerprints["default"] = FeatureSpec().fingerprint
    assert len(set(fingerprints.values())) == len(OTHER_VALUES) + 1


def test_the_fingerprint_is_the_same_in_every_version():
    # Changes only if a setting is added, removed or renamed, or a default changes: each of which
    # makes datasets that exist unlike those that the same flags would make now.
    assert FeatureSpec().fingerprint == "08a635441bd0b152"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"clip_ms": 1000, "stride_ms": 10, "lower_hz": 20}, {}),
        ({"upper_hz": 8000, "fft_length": 512, "dtype": "float16"}, {}),
    ],
    ids=["whole numbers", "defaults in full"],
)
def test_equal_specs_have_one_fingerprint(one, other):
    assert FeatureSpec(**one) == FeatureSpec(**other)
    assert FeatureSpec(**one).fingerprint == FeatureSpec(**other).fingerprint


@settings(deadline=None)
@given(one=specs(), other=specs())
def test_fingerprints_are_equal_exactly_when_specs_are(one, other):
    assert (one.fingerprint == other.fingerprint) == (one == other)


@settings(deadline=None)
@given(spec=specs(), settings=st.fixed_dictionaries({"lifter": st.integers(0, 3)}))
def test_replacing_a_setting_checks_and_derives_again(spec, settings):
    replaced = dataclasses.replace(spec, **settings)
    assert replaced == FeatureSpec.from_dict(spec.to_dict() | settings)
