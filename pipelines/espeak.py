"""eSpeak NG inside this process, with speakers of our own and nothing carried between utterances.

The library comes with the PyPI package espeakng-loader (GPL-3.0, the "synth" extra). It carries
state from one utterance to the next in a voice's flutter, echo, roughness and breath, and in its
gain after an overflow, and no call resets them: initialising again does not either. So every voice
here is a variant file of our own with all four off, at a volume that does not overflow. Then the
samples are a function of the text, the speaker and the parameters alone: 10,800 utterances of the
30 words were the same, to the bit, in three orders.
"""

import contextlib
import ctypes
import dataclasses
import hashlib
import importlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
ESPEAK_RATE_HZ = 22_050
MAX_PATH_BYTES = 140  # its buffer has 160, and it adds names

# Left out: Scotland, whose trilled r goes by a count of all cycles so far, and New York City, where
# one sentence in some hundreds depended on the one before.
DIALECTS = (
    "en-us",
    "en",  # Great Britain
    "en-gb-x-rp",  # Received Pronunciation
    "en-gb-x-gbclan",  # Lancaster
    "en-029",  # Caribbean
    "en-gb-x-gbcwmd",  # West Midlands
)

# Of each kind of voice, the scale of the formants (1.0 is eSpeak's default, a man) and the lowest
# pitch in Hz; the ranges span eSpeak NG's own male and female variants.
VOCAL_TRACTS = {
    "low": ((0.94, 1.04), (68, 105)),
    "high": ((1.08, 1.20), (130, 185)),
    "child": ((1.20, 1.28), (200, 245)),
}

# All that English needs of the library's data: 1 MB of 13.
_DATA = ("phondata", "phonindex", "phontab", "intonations", "en_dict", "lang/gmw")
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER in speak_lib.h
_QUIET_ENOUGH = 40  # of 100, for _VOLUME: no speaker overflows
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speaker:
    """One voice: the same in every word it says."""

    id: str
    """Eight hex digits, as in the file names of Speech Commands."""
    dialect: str
    """A voice of eSpeak NG: sets the phonemes and the length of syllables."""
    variant: str
    """The vocal tract and the pitch, as the text of an eSpeak NG voice file."""
    words_per_minute: float
    """Usual speed."""
    pitch_range: float
    """0 (monotone) to 99; 50 is the dialect's own."""
    peak_dbfs: float
    """Of a typical recording: the distance to the microphone."""


def rng_of(*key: object) -> np.random.Generator:
    """Returns a generator of its own for every key: no draw depends on what was made before."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def make_speaker(seed: int, name: str, *, turn: int) -> Speaker:
    """Returns the speaker of this seed and name; kinds and dialects go round by `turn`."""
    rng = rng_of(seed, "speaker", name)
    kind = "child" if turn % 10 == 9 else ("low", "high")[turn % 2]
    speaker_id = rng.bytes(4).hex()
    return Speaker(
        id=speaker_id,
        dialect=DIALECTS[turn // 2 % len(DIALECTS)],
        variant=_variant(speaker_id, kind, rng),
        words_per_minute=float(np.clip(rng.normal(140, 16), 110, 180)),
        pitch_range=float(rng.uniform(35, 70)),
        peak_dbfs=float(rng.normal(-9, 4)),
    )


def _variant(name: str, kind: str, rng: np.random.Generator) -> str:
    """A voice file: https://github.com/espeak-ng/espeak-ng/blob/master/docs/voices.md."""
    scales, pitches_hz = VOCAL_TRACTS[kind]
    scale, pitch_hz = rng.uniform(*scales), rng.uniform(*pitches_hz)
    lines = [
        "language variant",
        f"name {name}",
        f"pitch {pitch_hz:.0f} {pitch_hz * rng.uniform(1.25, 1.55):.0f}",
        "flutter 0",
        "roughness 0",
        f"consonants {rng.uniform(80, 130):.0f} {rng.uniform(80, 130):.0f}",
    ]
    for formant in range(9):
        frequency = 100 * scale * rng.normal(1, 0.03)
        height, width = rng.uniform(75, 105), rng.uniform(90, 150)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    return "\n".join(lines) + "\n"


class Espeak:
    """The library, started for these speakers: a context manager, one at a time in a process."""

    def __init__(self, speakers: Sequence[Speaker]):
        try:
            loader = importlib.import_module("espeakng_loader")
        except ImportError as error:
            raise ValueError(
                'eSpeak NG is not installed: install the "synth" extra of this package'
            ) from error
        self._library: Any = ctypes.CDLL(loader.get_library_path())
        self._data_path = Path(loader.get_data_path())
        self._speakers = speakers
        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._collect)  # ctypes itself would not keep it alive

    def __enter__(self) -> "Espeak":
        self._voices = tempfile.TemporaryDirectory(prefix="espeak-")
        try:
            self._start(self._voices.name)
        except BaseException:
            self._voices.cleanup()
            raise
        return self

    def _start(self, folder: str) -> None:
        if len(folder.encode()) > MAX_PATH_BYTES:
            raise OSError(
                f"eSpeak NG reads {MAX_PATH_BYTES} bytes of a path, and its temporary folder is "
                f"{folder}: set TMPDIR to a shorter one"
            )
        _write_voices(Path(folder), self._data_path, self._speakers)
        synchronous, buffer_ms, return_on_failure = 2, 2000, 0x8000
        rate_hz = self._library.espeak_Initialize(
            synchronous, buffer_ms, folder.encode(), return_on_failure
        )
        if rate_hz != ESPEAK_RATE_HZ:
            raise OSError(f"eSpeak NG did not start: {rate_hz} Hz, not {ESPEAK_RATE_HZ} Hz")
        self._library.espeak_SetSynthCallback(self._callback)

    def __exit__(self, *exception: object) -> None:
        self._library.espeak_Terminate()
        self._voices.cleanup()

    def say(
        self,
        text: str,
        *,
        speaker: Speaker,
        words_per_minute: float,
        pitch: float = 50,
        pitch_range: float = 50,
    ) -> NDArray[np.float32]:
        """Returns [samples] at 16 kHz, below 1.0, without the silence before and after the words.

        Args:
          text: English; punctuation moves the pitch.
          speaker: one of those this object was made with.
          words_per_minute: 80 to 450.
          pitch: 0 to 99; 50 is the speaker's own.
          pitch_range: 0 to 99; see `Speaker`.

        Raises:
          ValueError: eSpeak NG makes no sound of this text.
          OSError: eSpeak NG refuses the voice or the text.
        """
        # Each time, also for the same speaker: it undoes what the last pitch did to the formants.
        if self._library.espeak_SetVoiceByName(f"{speaker.dialect}+v{speaker.id}".encode()):
            raise OSError(f"eSpeak NG has no voice {speaker.dialect}")
        parameters = {_RATE: words_per_minute, _PITCH: pitch, _RANGE: pitch_range}
        for parameter, value in {**parameters, _VOLUME: _QUIET_ENOUGH}.items():
            self._library.espeak_SetParameter(parameter, round(value), 0)
        samples = self._synthesize(text)
        sounding = np.flatnonzero(samples)  # the silence is exactly zero
        if not sounding.size:
            raise ValueError(f"eSpeak NG makes no sound of {text!r}: choose another word")
        speech = samples[sounding[0] : sounding[-1] + 1] / np.float32(2**15)
        return np.asarray(soxr.resample(speech, ESPEAK_RATE_HZ, SAMPLE_RATE_HZ), np.float32)

    def _synthesize(self, text: str) -> NDArray[np.int16]:
        self._chunks.clear()
        encoded, utf8 = text.encode() + b"\0", 1
        with _interrupts_wait():
            failed = self._library.espeak_Synth(encoded, len(encoded), 0, 0, 0, utf8, None, None)
        if failed:
            raise OSError(f"eSpeak NG could not say {text!r}")
        return np.frombuffer(b"".join(self._chunks), np.int16)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0  # anything else would stop it


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Delivers Ctrl-C after the block: ctypes would print and forget it inside a callback."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    pending: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    for number in pending[:1]:
        signal.raise_signal(number)


def _write_voices(folder: Path, data_path: Path, speakers: Sequence[Speaker]) -> None:
    """Copies the library's English data into the folder and adds the speakers."""
    for name in _DATA:
        source, target = data_path / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    variants = folder / "voices" / "!v"
    variants.mkdir(parents=True)
    for speaker in speakers:
        # "v": a name that begins with a digit means eSpeak's own variant of that number.
        (variants / f"v{speaker.id}").write_text(speaker.variant, "utf-8")
