import math

import numpy as np
import pytest

from pipelines.clip import fit, levels, make_clip
from pipelines.wav import Audio, Rejected


def audio(*samples, rate: int = 1000) -> Audio:
    array = np.array(samples, np.float32).reshape(len(samples), -1)
    return Audio(
        samples=array, sample_rate_hz=rate, encoding="PCM_16", container="WAV", truncated=False
    )


@pytest.mark.parametrize(
    ("samples", "waveform", "mixed_down"),
    [
        ((1, 2, 3, 4), [1, 2, 3, 4], False),
        (((1, 3), (2, 4), (0, 0), (1, 1)), [2, 3, 0, 1], True),
    ],
)
def test_a_clip_has_one_channel(samples, waveform, mixed_down):
    clip = make_clip(audio(*samples), 1000)
    assert clip.mono.tolist() == waveform
    assert clip.mono.dtype == np.float32
    assert clip.mixed_down is mixed_down
    assert clip.resampled is False


@pytest.mark.parametrize(
    ("mono", "fitted"), [([1, 2], [1, 2, 0]), ([1, 2, 3], [1, 2, 3]), ([1, 2, 3, 4], [1, 2, 3])]
)
def test_a_clip_is_padded_or_cut_at_its_end(mono, fitted):
    assert fit(np.array(mono, np.float32), 3).tolist() == fitted


@pytest.mark.parametrize(
    ("start_s", "end_s", "waveform"),
    [
        (None, None, [1, 2, 3, 4, 5]),
        (0.001, None, [2, 3, 4, 5]),
        (0.001, 0.003, [2, 3]),
        (None, 0.002, [1, 2]),
        (0.004, 9.0, [5]),
    ],
)
def test_a_segment_is_cut_before_anything_else(start_s, end_s, waveform):
    clip = make_clip(audio(1, 2, 3, 4, 5), 1000, start_s=start_s, end_s=end_s)
    assert clip.mono.tolist() == waveform


def test_a_segment_past_the_end_is_rejected():
    with pytest.raises(Rejected, match=r"the segment starts after the end, at 0\.005 s") as caught:
        make_clip(audio(1, 2, 3, 4, 5), 1000, start_s=1.0)
    assert caught.value.reason == "no_samples"


def test_resampling_keeps_a_tone_s_pitch_and_level():
    seconds = np.arange(44_100) / 44_100
    clip = make_clip(audio(*(0.5 * np.sin(2 * np.pi * 440 * seconds)), rate=44_100), 16_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert clip.resampled
    assert len(clip.mono) == 16_000
    # The filter rings at the ends, where the tone starts and stops.
    np.testing.assert_allclose(clip.mono[200:-200], expected[200:-200], atol=1e-3)


def test_a_recording_too_short_to_resample_is_rejected():
    with pytest.raises(Rejected, match="too short for one sample at 1000 Hz"):
        make_clip(audio(0.5, rate=48_000), 1000)


@pytest.mark.parametrize(
    ("samples", "peak", "rms"),
    [
        ((1, -1), 0.0, 0.0),
        ((0.5, 0.0, 0.0, 0.0), -6.0206, -12.0412),
        ((0, -0.1), -20.0, -23.0103),
        ((0, 0), -math.inf, -math.inf),
    ],
)
def test_levels_are_those_of_the_recording(samples, peak, rms):
    found = levels(np.array(samples, np.float32))
    assert found["peak_dbfs"] == pytest.approx(peak, abs=1e-3)
    assert found["rms_dbfs"] == pytest.approx(rms, abs=1e-3)
