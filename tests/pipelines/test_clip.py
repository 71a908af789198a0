import math

import numpy as np
import pytest

from kws_model.feature_spec import FeatureSpec
from pipelines.clip import make_clip
from pipelines.wav import Audio, Rejected

SPEC = FeatureSpec(
    sample_rate_hz=1000, clip_ms=4, window_ms=2, stride_ms=1, lower_hz=0
)  # 4 samples


def audio(*samples, rate: int = 1000) -> Audio:
    array = np.array(samples, np.float32).reshape(len(samples), -1)
    return Audio(
        samples=array, sample_rate_hz=rate, encoding="PCM_16", container="WAV", truncated=False
    )


@pytest.mark.parametrize(
    ("samples", "waveform", "flags"),
    [
        ((1, 2, 3, 4), [1, 2, 3, 4], ""),
        ((1, 2), [1, 2, 0, 0], "padded"),
        ((1, 2, 3, 4, 5), [1, 2, 3, 4], "trimmed"),
        (((1, 3), (2, 4), (0, 0), (1, 1)), [2, 3, 0, 1], "mixed_down"),
        (((1, 3), (2, 4)), [2, 3, 0, 0], "mixed_down padded"),
    ],
)
def test_a_clip_has_the_spec_s_length_and_one_channel(samples, waveform, flags):
    clip = make_clip(audio(*samples), SPEC)
    assert clip.waveform.tolist() == waveform
    assert clip.waveform.dtype == np.float32
    mended = ("resampled", "mixed_down", "padded", "trimmed")
    assert " ".join(name for name in mended if getattr(clip, name)) == flags


@pytest.mark.parametrize(
    ("start_s", "end_s", "waveform"),
    [
        (None, None, [1, 2, 3, 4]),
        (0.001, None, [2, 3, 4, 5]),
        (0.001, 0.003, [2, 3, 0, 0]),
        (None, 0.002, [1, 2, 0, 0]),
        (0.004, 9.0, [5, 0, 0, 0]),
    ],
)
def test_a_segment_is_cut_before_anything_else(start_s, end_s, waveform):
    clip = make_clip(audio(1, 2, 3, 4, 5), SPEC, start_s=start_s, end_s=end_s)
    assert clip.waveform.tolist() == waveform


def test_a_segment_past_the_end_is_rejected():
    with pytest.raises(Rejected, match=r"the segment starts after the end, at 0\.005 s") as caught:
        make_clip(audio(1, 2, 3, 4, 5), SPEC, start_s=1.0)
    assert caught.value.reason == "no_samples"


def test_resampling_keeps_a_tone_s_pitch_and_level():
    spec = FeatureSpec()
    seconds = np.arange(44_100) / 44_100
    clip = make_clip(audio(*(0.5 * np.sin(2 * np.pi * 440 * seconds)), rate=44_100), spec)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert clip.resampled
    assert not clip.padded
    assert not clip.trimmed
    # The filter rings at the ends, where the tone starts and stops.
    np.testing.assert_allclose(clip.waveform[200:-200], expected[200:-200], atol=1e-3)


def test_a_recording_too_short_to_resample_is_rejected():
    with pytest.raises(Rejected, match="too short for one sample at 1000 Hz"):
        make_clip(audio(0.5, rate=48_000), SPEC)


@pytest.mark.parametrize(
    ("samples", "peak", "rms"),
    [
        ((1, -1), 0.0, 0.0),
        ((0.5, 0.0, 0.0, 0.0), -6.0206, -12.0412),
        ((0, -0.1), -20.0, -23.0103),
        ((0, 0), -math.inf, -math.inf),
    ],
)
def test_levels_are_those_of_the_recording_before_padding(samples, peak, rms):
    clip = make_clip(audio(*samples), SPEC)
    assert clip.peak_dbfs == pytest.approx(peak, abs=1e-3)
    assert clip.rms_dbfs == pytest.approx(rms, abs=1e-3)
