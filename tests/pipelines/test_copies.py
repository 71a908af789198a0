import numpy as np
import pytest

from kws_model.feature_spec import FeatureSpec
from pipelines.copies import CopyRule, augment, with_copies
from pipelines.corpus import Recording
from tests.pipelines.recordings import tone, wav_bytes

CLIP = Recording("go/a.wav", "/go/a.wav", "go", split="train")
STILL = {"copy_shift_ms": 0, "copy_speed_percent": 0, "copy_gain_db": 0}
WAVEFORM = tone("a").astype(np.float32) / 32768


def copy(number: int = 1, *, mono=WAVEFORM, seed: int = 0, noises=(), **rule) -> np.ndarray:
    return augment(
        mono,
        CLIP._replace(id=f"go/a.wav#{number}", copy=number),
        CopyRule(copies=9, **{**STILL, **rule}),
        seed=seed,
        spec=FeatureSpec(),
        noises=noises,
    )


def test_only_training_clips_have_copies():
    rule = CopyRule(copies=2)
    ids = [record.id for record in with_copies(CLIP, rule)]
    assert ids == ["go/a.wav", "go/a.wav#1", "go/a.wav#2"]
    for split in ("validation", "test", "excluded"):
        assert len(list(with_copies(CLIP._replace(split=split), rule))) == 1
    assert list(with_copies(CLIP, CopyRule())) == [CLIP]


def test_a_copy_depends_on_the_seed_the_id_and_its_number_alone():
    drawn = {"copy_shift_ms": 100, "copy_speed_percent": 10, "copy_gain_db": 6}
    np.testing.assert_array_equal(copy(1, **drawn), copy(1, **drawn))
    assert not np.array_equal(copy(1, **drawn), copy(2, **drawn))
    assert not np.array_equal(copy(1, **drawn), copy(1, seed=1, **drawn))


def test_with_every_range_at_zero_a_copy_is_the_clip():
    np.testing.assert_array_equal(copy(), WAVEFORM)
    short = copy(mono=WAVEFORM[:9000])
    np.testing.assert_array_equal(short[:9000], WAVEFORM[:9000])
    assert not short[9000:].any()


def test_a_shift_moves_the_clip_within_its_range_and_fills_with_zeros():
    click = np.zeros(16_000, np.float32)
    click[8000] = 1
    places = [int(np.argmax(copy(n, mono=click, copy_shift_ms=50))) - 8000 for n in range(300)]
    assert min(places) >= -800
    assert max(places) <= 800
    assert min(places) < -600 < 600 < max(places)


def test_gain_stays_within_its_range_and_never_clips_over_full_scale():
    gains = [np.abs(copy(n, copy_gain_db=6)).max() / np.abs(WAVEFORM).max() for n in range(200)]
    decibels = 20 * np.log10(gains)
    assert -6.01 < decibels.min() < -5 < 5 < decibels.max() < 6.01
    loud = np.full(16_000, 0.9, np.float32)
    assert max(np.abs(copy(n, mono=loud, copy_gain_db=20)).max() for n in range(9)) == 1.0


def test_speed_changes_length_and_pitch_together():
    seconds = np.arange(16_000) / 16_000
    sine = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32) * np.float32(0.5)
    for number in range(6):
        changed = copy(number, mono=sine, copy_speed_percent=20)
        hertz = float(np.argmax(np.abs(np.fft.rfft(changed[:8000])))) * 2
        sounding = np.flatnonzero(np.abs(changed) > 0.01)[-1] + 1
        assert 790 <= hertz <= 1210
        if hertz > 1000:
            assert sounding / 16_000 == pytest.approx(1000 / hertz, abs=0.01)


def test_noise_is_mixed_in_at_a_drawn_ratio(tmp_path):
    path = tmp_path / "noise.wav"
    path.write_bytes(wav_bytes(np.random.default_rng(0).normal(0, 900, 160_000).astype(np.int16)))
    ratios = []
    for number in range(60):
        noisy = copy(number, noises=(("n", str(path)),), copy_snr_db=(5.0, 15.0))
        power = np.mean(WAVEFORM**2) / np.mean((noisy - WAVEFORM) ** 2)
        ratios.append(10 * np.log10(power))
    assert 4.9 < min(ratios) < 7
    assert 13 < max(ratios) < 15.1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"copies": -1}, "--copies must be from 0"),
        ({"copy_shift_ms": -1}, "--copy_shift_ms must not be negative"),
        ({"copy_speed_percent": 60}, "--copy_speed_percent must be from 0 to 50"),
        ({"copy_snr_db": (9, 3)}, "--copy_snr_db must be two numbers, low and high"),
    ],
)
def test_impossible_ranges_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        CopyRule(**rule)
