"""Bytes of a recording -> waveform, or the one reason why not.

    audio = wav.decode(pathlib.Path("yes/0a7c2a8d_nohash_0.wav").read_bytes())
    audio.samples.shape, audio.sample_rate_hz, audio.encoding    # (16000, 1), 16000, 'PCM_16'

RIFF/WAVE with PCM or float samples is read here (a canonical one-second clip in a few
microseconds); every other container and codec goes through libsndfile, which is imported when the
first such file comes. Where both read a file they agree sample for sample, except that

- a data size of zero is taken to be a streaming writer's placeholder when the RIFF size does not
  fit the file either; libsndfile does so only for a RIFF size of 8;
- of several data chunks the first counts; libsndfile takes the last, or none;
- an odd chunk without its pad byte, chunks after the samples, and samples that look like WavPack do
  not matter; libsndfile may refuse such a file;
- 24 bits in four bytes are told from a wrong block_align by the padding in all samples; libsndfile
  looks at a few, and reads low-aligned ones 48 dB too quiet or as packed in three bytes.

An MP3 that is damaged is still decoded as far as it goes, and then libmpg123 may write a line to
stderr, which libsndfile gives no means to silence. Nothing else prints.
"""

import dataclasses
import re
import struct

import numpy as np

from pipelines import riff

REASONS: dict[str, str] = {
    "empty": "the file has no bytes",
    "not_audio": "no audio container that is known here",
    "mangled": "a text-mode transfer replaced bytes by U+FFFD; the samples are gone",
    "truncated_header": "the file ends inside its header",
    "bad_header": "the header contradicts itself or is impossible (no channels, 0 Hz, ...)",
    "no_samples": "a complete header, but not one whole frame of samples",
    "unsupported_encoding": "a known container holding a codec or sample width that is not",
    "unreadable": "the decoder gave up on the file",
    "non_finite": "samples that are NaN or infinite (also beyond the range of float32)",
    "too_long": "longer than max_seconds",
    "too_large": "more than MAX_VALUES samples, all channels counted",
}

MAX_CHANNELS = 1024  # libsndfile's own limit
MAX_SAMPLE_RATE_HZ = 2**20  # instruments reach 1 MHz; beyond it resampling would need gigabytes
# Samples x channels: 512 MiB of float32, and twice that for a moment while blocks are joined.
MAX_VALUES = 2**27

_CANONICAL = struct.Struct("<4sI8sIHHIIHH4sI")  # RIFF, size, WAVEfmt_, 16, six fields, data, size
_INT16_SCALE = np.float32(2.0**-15)
_FLOAT32 = np.dtype(np.float32)

# What goes to libsndfile: RIFX, RF64, W64, AIFF, AU, FLAC, OGG, CAF, NIST SPHERE, MPEG layers II
# and III. Not its other dozen formats: some have magic so weak that junk decodes as noise, and
# broken SDS files of 4 kB made it print thousands of lines each.
_LIBSNDFILE_MAGIC = re.compile(
    rb"RIFX....WAVE|RF64....WAVE|riff\x2e\x91\xcf\x11|FORM....AIF[FC]|\.snd|dns\.|fLaC|OggS|caff"
    rb"|NIST_1A|\xff[\xe2\xe3\xf2-\xf5\xfa-\xfd]",
    re.DOTALL,
)
# By the kind of riff.Unusable.
_RIFF_REASONS = {"truncated": "truncated_header", "absent": "no_samples", "bad": "bad_header"}


class Rejected(ValueError):
    """A recording that cannot be decoded. `reason` is a key of REASONS, `detail` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["Rejected"], tuple[str, str]]:
        return Rejected, (self.reason, self.detail)  # it crosses process boundaries


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audio:
    """A decoded recording.

    Attributes:
      samples: float32 `[num_samples, num_channels]`; integer PCM scaled to [-1, 1), floats as
        stored. Treat it as read-only: for float files it may be a view on the file's bytes.
      sample_rate_hz: 1 to MAX_SAMPLE_RATE_HZ.
      encoding: libsndfile's subtype name: PCM_U8, PCM_16, PCM_24, PCM_32, FLOAT, DOUBLE, ULAW, ...
      container: libsndfile's major format name: WAV, WAVEX, RF64, AIFF, FLAC, OGG, ...
      truncated: fewer samples are present than the header declares; these are the ones present.
    """

    samples: np.ndarray
    sample_rate_hz: int
    encoding: str
    container: str
    truncated: bool


def decode(data: bytes, *, max_seconds: float = 600.0) -> Audio:
    """Decode one recording of any supported encoding.

    Args:
      data: the whole file.
      max_seconds: longer recordings are rejected, before memory is spent on them.

    Returns:
      The waveform and what it was made from.

    Raises:
      Rejected: with one of REASONS, whatever the bytes. Nothing else is raised.
    """
    rate = _canonical_rate_hz(data) if len(data) > 45 else 0
    if not rate or len(data) - 44 > 2 * min(MAX_VALUES, rate * max_seconds):
        return _decode_any(data, max_seconds=max_seconds)
    samples = np.ndarray(((len(data) - 44) >> 1, 1), "<i2", data, 44).astype(_FLOAT32)
    samples *= _INT16_SCALE
    return Audio(
        samples=samples, sample_rate_hz=rate, encoding="PCM_16", container="WAV", truncated=False
    )


def _canonical_rate_hz(data: bytes) -> int:
    """Sample rate of a mono PCM16 file of 44 bytes of header and nothing after the samples, else 0.

    Nearly every recording of a keyword corpus is one, and needs no walk through its chunks.
    """
    riff_id, _, wave, fmt_size, tag, channels, rate, _, align, bits, name, size = (
        _CANONICAL.unpack_from(data)
    )
    canonical = (
        size == len(data) - 44
        and (tag, channels, align, bits, fmt_size) == (riff.PCM, 1, 2, 16, 16)
        and (riff_id, wave, name) == (b"RIFF", b"WAVEfmt ", b"data")
        and rate <= MAX_SAMPLE_RATE_HZ
    )
    return rate if canonical else 0


def _decode_any(data: bytes, *, max_seconds: float) -> Audio:
    if not data:
        raise Rejected("empty", "the file has no bytes")
    if _is_mangled(data):
        raise Rejected("mangled", "every byte that is not text was replaced by U+FFFD")
    if data[:4] == b"RIFF":
        return _decode_riff(data, max_seconds=max_seconds)
    start = _id3_bytes(data)
    if not _LIBSNDFILE_MAGIC.match(data, start):
        found = data[start : start + 12]
        raise Rejected("not_audio", f"{found!r} at byte {start} begins no known container")
    return _decode_libsndfile(data, ends_early=riff.ends_early(data), max_seconds=max_seconds)


def _id3_bytes(data: bytes) -> int:
    """Length of the tag that MP3s begin with, if there is one: a header of 10, then 4 x 7 bits."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    a, b, c, d = data[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d)


def _is_mangled(data: bytes) -> bool:
    """Whether these are binary bytes after a pass through a UTF-8 decoder that replaces errors.

    All of such a file is valid UTF-8 and has U+FFFD in it; real audio breaks UTF-8 within its first
    few dozen bytes, where this stops. NUL tells it from a text that quotes U+FFFD.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return "\ufffd" in text and "\0" in text


def _decode_riff(data: bytes, *, max_seconds: float) -> Audio:
    if len(data) < 12:
        raise Rejected("truncated_header", f"{len(data)} bytes; a RIFF header has 12")
    if data[8:12] != b"WAVE":
        raise Rejected("not_audio", f"a RIFF file of form {data[8:12]!r}; expected b'WAVE'")
    try:
        layout = riff.find_samples(data)
    except riff.Unusable as error:
        raise Rejected(_RIFF_REASONS[error.kind], str(error)) from error
    _check_header(layout.num_channels, layout.sample_rate_hz)
    if layout.tag not in (riff.PCM, riff.IEEE_FLOAT):
        return _decode_codec(data, layout, max_seconds=max_seconds)
    if layout.bits == 0:
        raise Rejected("bad_header", "0 bits per sample")
    if layout.encoding is None:
        detail = f"{layout.bits}-bit samples of format tag {layout.tag}"
        raise Rejected("unsupported_encoding", detail)
    num_samples = layout.num_bytes // (layout.sample_bytes * layout.num_channels)
    _check_size(num_samples, layout.num_channels, layout.sample_rate_hz, max_seconds)
    samples = riff.to_float32(data, layout, count=num_samples * layout.num_channels)
    if layout.tag == riff.IEEE_FLOAT:
        _check_finite(samples)
    return Audio(
        samples=samples.reshape(num_samples, layout.num_channels),
        sample_rate_hz=layout.sample_rate_hz,
        encoding=layout.encoding,
        container=layout.container,
        truncated=layout.truncated,
    )


def _decode_codec(data: bytes, layout: riff.Layout, *, max_seconds: float) -> Audio:
    """Decode neither PCM nor float. The common header has passed: what is bad is the codec's."""
    try:
        audio = _decode_libsndfile(data, ends_early=False, max_seconds=max_seconds)
        return dataclasses.replace(audio, truncated=audio.truncated or layout.truncated)
    except Rejected as error:
        if error.reason != "bad_header":
            raise
        detail = f"format tag {layout.tag:#06x}: {error.detail}"
        raise Rejected("unsupported_encoding", detail) from error


def _decode_libsndfile(data: bytes, *, ends_early: bool, max_seconds: float) -> Audio:
    from pipelines import sndfile  # loads libsndfile, which a corpus of plain WAVs never needs

    try:
        file = sndfile.File(data)
    except sndfile.Error as error:
        reason = sndfile.reason_for(error)
        cut = ends_early and reason == "bad_header"
        raise Rejected("truncated_header" if cut else reason, error.error_string) from error
    blocks: list[np.ndarray] = []
    total = 0
    with file:
        _check_header(file.channels, file.samplerate)
        try:
            for block in file.blocks():
                total += len(block)
                _check_size(total, file.channels, file.samplerate, max_seconds)
                blocks.append(block)
        except sndfile.Error as error:
            if not blocks:
                raise Rejected("unreadable", error.error_string) from error
            ends_early = True  # damaged further on: keep what came before, as of a file cut short
        _check_size(total, file.channels, file.samplerate, max_seconds)
        samples = np.concatenate(blocks)
        _check_finite(samples)
        return Audio(
            samples=samples,
            sample_rate_hz=file.samplerate,
            encoding=file.subtype,
            container=file.format,
            truncated=ends_early or total < file.frames,
        )


def _check_header(num_channels: int, sample_rate_hz: int) -> None:
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise Rejected("bad_header", f"{num_channels} channels; expected 1 to {MAX_CHANNELS}")
    if not 1 <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise Rejected("bad_header", f"{sample_rate_hz} Hz; expected 1 to {MAX_SAMPLE_RATE_HZ}")


def _check_size(num_samples: int, num_channels: int, rate_hz: int, max_seconds: float) -> None:
    if num_samples == 0:
        raise Rejected("no_samples", "not one whole frame of samples")
    if num_samples > rate_hz * max_seconds:
        raise Rejected("too_long", f"{num_samples / rate_hz:.1f} s; expected at most {max_seconds}")
    if num_samples * num_channels > MAX_VALUES:
        detail = f"{num_samples} samples x {num_channels} channels; expected at most {MAX_VALUES}"
        raise Rejected("too_large", detail)


def _check_finite(samples: np.ndarray) -> None:
    if not np.isfinite(samples).all():
        raise Rejected("non_finite", "NaN or infinity among the samples")
