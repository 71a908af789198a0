"""Makes a corpus in the layout of Google Speech Commands, spoken by eSpeak NG.

$ kws synthesize --output corpus --clips_per_word 40
corpus: 1,200 clips of 30 words by 40 speakers, 6 background recordings, 49 MB in 1.9 s

Every clip is a function of (seed, word, speaker, take) alone: a corpus of fewer words or clips
holds the same bytes under the same names.
"""

import dataclasses
import itertools
import re
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tqdm

from kws_model.new_folder import check_new_folder, new_folder
from pipelines.background_noise import Waveform, background_recordings, colored_noise, rms_dbfs
from pipelines.corpus import Recording
from pipelines.espeak import SAMPLE_RATE_HZ, Espeak, Speaker, make_speaker, rng_of
from pipelines.splits import LISTS, SplitRule

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
    speakers = make_speakers(options.seed, options.speakers)
    talkers = [make_speaker(options.seed, f"talker {i}", turn=i) for i in range(NUM_TALKERS)]
    with (
        Espeak([*speakers, *talkers]) as espeak,
        new_folder(options.output, overwrite=options.overwrite) as folder,
    ):
        num_bytes = _write_clips(folder, espeak, speakers, options)
        recordings = {}
        if options.background_seconds:
            recordings = background_recordings(
                espeak, talkers, seed=options.seed, seconds=options.background_seconds
            )
        for name, waveform in recordings.items():
            num_bytes += write_wav(folder / "_background_noise_" / f"{name}.wav", waveform)
        write_lists(folder)
    print(
        f"{options.output}: {len(options.words) * options.clips_per_word:,} clips of "
        f"{len(options.words)} words by {min(options.speakers, options.clips_per_word)} speakers, "
        f"{len(recordings)} background recordings, {num_bytes / 1e6:,.0f} MB "
        f"in {time.monotonic() - started:.1f} s"
    )


def make_speakers(seed: int, count: int) -> list[Speaker]:
    """Returns speakers with different ids, of whom the first n are the same for every count.

    Of every ten, Speech Commands' rule puts one into validation and one into test, not always the
    same kind of voice: so three speakers are enough for a dataset with every split.
    """
    speakers: dict[str, Speaker] = {}
    for index in range(count):
        block, place = divmod(index, 10)
        placed = {(1 + 3 * block) % 10: "validation", (2 + 3 * block) % 10: "test"}
        for attempt in itertools.count():
            speaker = make_speaker(seed, f"{index}/{attempt}", turn=index)
            split = split_of(f"{speaker.id}_nohash_0.wav")
            if split == placed.get(place, "train") and speaker.id not in speakers:
                speakers[speaker.id] = speaker
                break
    return list(speakers.values())


def split_of(name: str) -> str:
    """Returns where Speech Commands' published rule puts a file of this name."""
    return SplitRule().of(Recording(id=name, path=name, label=""))


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
                    rng = rng_of(options.seed, "clip", word, speaker.id, take)
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
    noise_dbfs = np.clip(rng.normal(-58, 10), -90, rms_dbfs(speech) - 8)
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


def write_lists(folder: Path) -> None:
    """Writes validation_list.txt and testing_list.txt as Speech Commands has them."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*_nohash_*.wav"))
    for split, file_name in LISTS.items():
        lines = [f"{name}\n" for name in names if split_of(name) == split]
        (folder / file_name).write_text("".join(lines), "utf-8")


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
