"""Noise without a command word: a hiss, a hum, knocks, people who talk at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.espeak import SAMPLE_RATE_HZ, Espeak, Speaker, rng_of

Waveform = NDArray[np.float32]  # [samples] at SAMPLE_RATE_HZ, full scale is 1.0

SENTENCES = (
    "I think we should leave the kitchen door open tonight.",
    "Have you seen the blue folder with the letters from March?",
    "The train was late again, so everybody had to wait outside.",
    "Please put these apples into the large basket near the window.",
    "My brother plays the violin and his daughter sings with him.",
    "It rained all morning, but the garden needed some water.",
    "Nobody told me about the meeting, and the room was empty.",
    "Could you make the music a little softer? Thank you very much.",
)


def background_recordings(
    espeak: Espeak, talkers: Sequence[Speaker], *, seed: int, seconds: int
) -> dict[str, Waveform]:
    """Returns recordings without a command word, by name; all at -46 dBFS RMS, near the originals'.

    Args:
      espeak: started for the talkers.
      talkers: who is heard in the babble.
      seed: sets every sample.
      seconds: the length of each.
    """
    recordings = {
        "white_noise": colored_noise(seed, 0, seconds=seconds),
        "pink_noise": colored_noise(seed, 1, seconds=seconds),
        "brown_noise": colored_noise(seed, 2, seconds=seconds),
        "mains_hum": mains_hum(seed, seconds=seconds),
        "tapping": tapping(seed, seconds=seconds),
        "babble": babble(espeak, talkers, seed=seed, seconds=seconds),
    }
    return {
        name: waveform * np.float32(10 ** ((-46 - rms_dbfs(waveform)) / 20))
        for name, waveform in recordings.items()
    }


def colored_noise(seed: int, exponent: float, *, seconds: int = 8) -> Waveform:
    """Returns noise whose power falls as frequency ** -exponent: 0 white, 1 pink, 2 brown.

    The RMS is 1.0; nothing below 20 Hz, which no microphone of a laptop hears.
    """
    num_samples = seconds * SAMPLE_RATE_HZ
    white = rng_of(seed, "noise", exponent, seconds).standard_normal(num_samples, np.float32)
    spectrum = np.fft.rfft(white)
    frequencies_hz = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE_HZ)
    spectrum *= np.where(frequencies_hz < 20, 0, np.maximum(frequencies_hz, 1) ** (-exponent / 2))
    noise: Waveform = np.fft.irfft(spectrum, num_samples).astype(np.float32)
    noise /= np.sqrt(np.mean(np.square(noise)))
    return noise


def mains_hum(seed: int, *, seconds: int) -> Waveform:
    """Returns the odd harmonics of 50 Hz, which swell and fade, over a little pink noise."""
    rng = rng_of(seed, "hum")
    times_s = np.arange(seconds * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    hum = 0.1 * colored_noise(seed, 1, seconds=seconds)
    for harmonic in (1, 3, 5, 7, 9, 11):
        swell = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.05, 0.3) * times_s)
        tone = np.sin(2 * np.pi * 50 * harmonic * times_s + rng.uniform(0, 2 * np.pi))
        hum += (swell * tone / harmonic).astype(np.float32)
    return hum


def tapping(seed: int, *, seconds: int) -> Waveform:
    """Returns two or three knocks a second, each a decaying burst of noise, as dishes make."""
    rng = rng_of(seed, "tapping")
    taps = 0.02 * colored_noise(seed, 1, seconds=seconds)
    for start in rng.integers(0, taps.size, round(2.5 * seconds)):
        decay_samples = rng.uniform(50, 800)
        knock = rng.standard_normal(4000, np.float32) * np.exp(-np.arange(4000) / decay_samples)
        part = taps[start : start + 4000]
        part += (rng.uniform(0.1, 1) * knock[: part.size]).astype(np.float32)
    return taps


def babble(espeak: Espeak, talkers: Sequence[Speaker], *, seed: int, seconds: int) -> Waveform:
    """Returns several people who talk at once; none of them speaks in a clip."""
    mixed = np.zeros(seconds * SAMPLE_RATE_HZ, np.float32)
    for talker in talkers:
        rng = rng_of(seed, "babble", talker.id)
        start = 0
        while start < mixed.size:
            speech = espeak.say(
                rng.choice(SENTENCES),
                speaker=talker,
                words_per_minute=talker.words_per_minute,
                pitch_range=talker.pitch_range,
            )
            part = mixed[start : start + speech.size]
            part += speech[: part.size]
            start += speech.size + int(rng.integers(SAMPLE_RATE_HZ // 2))
    return mixed


def rms_dbfs(waveform: Waveform) -> float:
    """Returns the level of a waveform; -120 if it is silent."""
    return float(10 * np.log10(np.mean(np.square(waveform)) + 1e-12))
