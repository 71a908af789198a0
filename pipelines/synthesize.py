"""Makes a corpus in the layout of Google Speech Commands, spoken by eSpeak NG.

$ kws synthesize --output corpus --clips_per_word 40
corpus: 1,200 clips of 30 words by 40 speakers, 6 background recordings, 49 MB in 1.9 s

Every clip is a function of (seed, word, speaker, take) alone: a corpus of fewer words or clips
holds the same bytes under the same names.
"""

import dataclasses
import hashlib
import re
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tqdm
from numpy.typing import NDArray

from pipelines.espeak import SAMPLE_RATE_HZ, Espeak, Speaker, make_speaker
from pipelines.new_folder import check_new_folder, new_folder

Waveform = NDArray[np.float32]  # [samples] at SAMPLE_RATE_HZ, full scale is 1.0

# Speech Commands v0.01: https://arxiv.org/abs/1804.03209
WORDS = (
    *("bed", "bird", "cat", "dog", "down", "eight", "five", "four", "go", "happy", "house"),
    *("left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six"),
    *("stop", "three", "tree", "two", "up", "wow", "yes", "zero"),
)
CLIP_SAMPLES = SAMPLE_RATE_HZ  # one second
MARGIN_SAMPLES = 400  # between the word and the ends of its clip
SHORT_CLIPS = 0.1  # the share below one second, as in Speech Commands; 0.4 s is the shortest there
SHORTEST_SAMPLES = 6400
NUM_TALKERS = 6  # behind each other in the babble


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The corpus that `kws synthesize` makes."""

    output: str
    """Folder to write; it must be empty or not exist."""
    clips_per_word: int = 100
    """Clips of each word; the speakers take turns."""
    words: tuple[str, ...] = WORDS
    """What is said, one folder each. Default: the 30 words of Speech Commands v0.01."""
    speakers: int = 40
    """Voices, each with its own dialect, vocal tract, pitch, speed and loudness."""
    seed: int = 0
    """Another seed makes other speakers, takes and noise; the same flags make the same bytes."""
    background_seconds: int = 60
    """Length of each of the recordings in _background_noise_; 0 leaves the folder out."""
    overwrite: bool = False
    """Replace the output folder, whatever it holds, once the new corpus is complete."""

    def __post_init__(self) -> None:
        for name, least in (("clips_per_word", 1), ("speakers", 1), ("background_seconds", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.words:
            raise ValueError("words must name at least one word, got none")
        for word in self.words:
            if not re.fullmatch(r"[^\W_][\w'-]*", word):
                raise ValueError(f"words must be plain folder names such as yes, got {word!r}")
        if len({word.casefold() for word in self.words}) < len(self.words):
            raise ValueError(f"words must differ, got {' '.join(self.words)}")


def run(options: Options) -> None:
    """Writes the corpus and prints one line about it.

    Raises:
      ValueError: an output folder that holds something, eSpeak NG not installed, or a word that
        cannot be said within a clip.
      OSError: a file that could not be written, or eSpeak NG does not start.
    """
    started = time.monotonic()
    check_new_folder(options.output, overwrite=options.overwrite)
    speakers = [make_speaker(options.seed, f"speaker {i}", turn=i) for i in range(options.speakers)]
    talkers = [make_speaker(options.seed, f"talker {i}", turn=i) for i in range(NUM_TALKERS)]
    with (
        Espeak([*speakers, *talkers]) as espeak,
        new_folder(options.output, overwrite=options.overwrite) as folder,
    ):
        num_bytes = _write_clips(folder, espeak, speakers, options)
        recordings = background(espeak, talkers, options)
        for name, waveform in recordings.items():
            num_bytes += write_wav(folder / "_background_noise_" / f"{name}.wav", waveform)
    print(
        f"{options.output}: {len(options.words) * options.clips_per_word:,} clips of "
        f"{len(options.words)} words by {min(options.speakers, options.clips_per_word)} speakers, "
        f"{len(recordings)} background recordings, {num_bytes / 1e6:,.0f} MB "
        f"in {time.monotonic() - started:.1f} s"
    )


def _write_clips(
    folder: Path, espeak: Espeak, speakers: Sequence[Speaker], options: Options
) -> int:
    """Writes every clip and returns how many bytes they take."""
    noises = [colored_noise(options.seed, exponent) for exponent in (0, 0.5, 1, 1.5, 2)]
    num_bytes = 0
    with tqdm.tqdm(total=len(options.words) * options.clips_per_word, unit="clip") as progress:
        for index, speaker in enumerate(speakers):
            takes = range(len(range(index, options.clips_per_word, len(speakers))))
            for word in options.words:
                for take in takes:
                    rng = _rng(options.seed, "clip", word, speaker.id, take)
                    clip = make_clip(word, espeak=espeak, speaker=speaker, noises=noises, rng=rng)
                    name = f"{speaker.id}_nohash_{take}.wav"
                    num_bytes += write_wav(folder / word / name, clip)
                progress.update(len(takes))
    return num_bytes


def make_clip(
    word: str,
    *,
    espeak: Espeak,
    speaker: Speaker,
    noises: Sequence[Waveform],
    rng: np.random.Generator,
) -> Waveform:
    """Returns one recording of a word, [at most CLIP_SAMPLES], in a little noise.

    The levels are those measured on 1,000 clips of Speech Commands v0.01: peaks from -24 to
    0 dBFS (median -8), quiet moments from -90 to -38 dBFS (median -60).
    """
    speech = take_of(word, espeak=espeak, speaker=speaker, rng=rng)
    peak_dbfs = np.clip(rng.normal(speaker.peak_dbfs, 3), -30, -0.5)
    speech *= 10 ** (peak_dbfs / 20) / np.abs(speech).max()
    shortest = max(speech.size + 2 * MARGIN_SAMPLES, SHORTEST_SAMPLES)
    num_samples = CLIP_SAMPLES
    if rng.random() < SHORT_CLIPS:
        num_samples = int(rng.integers(shortest, CLIP_SAMPLES + 1))
    noise = noises[int(rng.integers(len(noises)))]
    start = int(rng.integers(noise.size - num_samples + 1))
    noise_dbfs = np.clip(rng.normal(-58, 10), -90, _rms_dbfs(speech) - 8)
    clip: Waveform = noise[start : start + num_samples] * np.float32(10 ** (noise_dbfs / 20))
    # Triangular: people speak in the middle of the second more often than at its ends.
    free = num_samples - speech.size - 2 * MARGIN_SAMPLES
    onset = MARGIN_SAMPLES + int(free * rng.triangular(0, 0.5, 1))
    clip[onset : onset + speech.size] += speech
    return clip


def take_of(word: str, *, espeak: Espeak, speaker: Speaker, rng: np.random.Generator) -> Waveform:
    """Returns one utterance of a word, spoken faster than usual if a clip would cut it."""
    text = word.replace("_", " ") + rng.choice([".", ".", "!", "?", ","])
    words_per_minute = speaker.words_per_minute * rng.normal(1, 0.06)
    pitch, pitch_range = rng.normal(50, 4), speaker.pitch_range + rng.normal(0, 5)
    while words_per_minute <= 450:
        speech = espeak.say(
            text,
            speaker=speaker,
            words_per_minute=words_per_minute,
            pitch=float(np.clip(pitch, 0, 99)),
            pitch_range=float(np.clip(pitch_range, 0, 99)),
        )
        if speech.size <= CLIP_SAMPLES - 2 * MARGIN_SAMPLES:
            return speech
        words_per_minute *= 1.15
    raise ValueError(f"words must be short enough for a clip of one second, got {word!r}")


def _rms_dbfs(waveform: Waveform) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform)) + 1e-12))


def _rng(*key: object) -> np.random.Generator:
    """Returns a generator for this key alone: no draw depends on what was made before."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def colored_noise(seed: int, exponent: float, *, seconds: int = 8) -> Waveform:
    """Returns noise whose power falls as frequency ** -exponent: 0 white, 1 pink, 2 brown.

    The RMS is 1.0; nothing below 20 Hz, which no microphone of a laptop hears.
    """
    num_samples = seconds * SAMPLE_RATE_HZ
    white = _rng(seed, "noise", exponent, seconds).standard_normal(num_samples, np.float32)
    spectrum = np.fft.rfft(white)
    frequencies_hz = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE_HZ)
    spectrum *= np.where(frequencies_hz < 20, 0, np.maximum(frequencies_hz, 1) ** (-exponent / 2))
    noise: Waveform = np.fft.irfft(spectrum, num_samples).astype(np.float32)
    noise /= np.sqrt(np.mean(np.square(noise)))
    return noise


# ------------------------------------------------------------------------- _background_noise_

SENTENCES = (
    "I think we should leave the kitchen door open tonight.",
    "Have you seen the blue folder with the letters from March?",
    "The train was late again, so everybody had to wait outside.",
    "Please put these apples into the large basket near the window.",
    "My brother plays the violin and his daughter sings with him.",
    "It rained all morning, but the garden needed some water.",
    "Nobody told me about the meeting, and the room was empty.",
    "Could you turn the music down a little? Thank you very much.",
)


def background(espeak: Espeak, talkers: Sequence[Speaker], options: Options) -> dict[str, Waveform]:
    """Returns recordings without a command word, by name; all at -46 dBFS RMS, near the originals'.

    None at all if `background_seconds` is 0.
    """
    if not options.background_seconds:
        return {}
    seed, seconds = options.seed, options.background_seconds
    recordings = {
        "white_noise": colored_noise(seed, 0, seconds=seconds),
        "pink_noise": colored_noise(seed, 1, seconds=seconds),
        "brown_noise": colored_noise(seed, 2, seconds=seconds),
        "mains_hum": mains_hum(seed, seconds=seconds),
        "tapping": tapping(seed, seconds=seconds),
        "babble": babble(espeak, talkers, seed, seconds=seconds),
    }
    return {
        name: waveform * np.float32(10 ** ((-46 - _rms_dbfs(waveform)) / 20))
        for name, waveform in recordings.items()
    }


def mains_hum(seed: int, *, seconds: int) -> Waveform:
    """Returns the odd harmonics of 50 Hz, which swell and fade, over a little pink noise."""
    rng = _rng(seed, "hum")
    times_s = np.arange(seconds * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    hum = 0.1 * colored_noise(seed, 1, seconds=seconds)
    for harmonic in (1, 3, 5, 7, 9, 11):
        swell = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.05, 0.3) * times_s)
        tone = np.sin(2 * np.pi * 50 * harmonic * times_s + rng.uniform(0, 2 * np.pi))
        hum += (swell * tone / harmonic).astype(np.float32)
    return hum


def tapping(seed: int, *, seconds: int) -> Waveform:
    """Returns two or three knocks a second, each a decaying burst of noise, as dishes make."""
    rng = _rng(seed, "tapping")
    taps = 0.02 * colored_noise(seed, 1, seconds=seconds)
    for start in rng.integers(0, taps.size, round(2.5 * seconds)):
        decay_samples = rng.uniform(50, 800)
        knock = rng.standard_normal(4000, np.float32) * np.exp(-np.arange(4000) / decay_samples)
        part = taps[start : start + 4000]
        part += (rng.uniform(0.1, 1) * knock[: part.size]).astype(np.float32)
    return taps


def babble(espeak: Espeak, talkers: Sequence[Speaker], seed: int, *, seconds: int) -> Waveform:
    """Returns several people who talk at once; none of them speaks in a clip."""
    mixed = np.zeros(seconds * SAMPLE_RATE_HZ, np.float32)
    for talker in talkers:
        rng = _rng(seed, "babble", talker.id)
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


def write_wav(path: Path, waveform: Waveform) -> int:
    """Writes mono 16-bit PCM at 16 kHz, makes the folder if need be, and returns the bytes."""
    samples = np.clip(np.rint(waveform * 2**15), -(2**15), 2**15 - 1).astype("<i2").tobytes()
    # https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html: PCM, one channel,
    # samples per second, bytes per second, bytes per frame, bits per sample.
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    content = struct.pack("<4sI4s", b"RIFF", 4 + len(layout) + len(data), b"WAVE") + layout + data
    path.parent.mkdir(exist_ok=True)
    return path.write_bytes(content)


if __name__ == "__main__":
    from kws_model import cli

    cli.main(["synthesize", *sys.argv[1:]])
