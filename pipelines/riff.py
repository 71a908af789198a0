"""Where the samples lie inside a RIFF/WAVE file, and how to turn them into float32.

Plain bytes in, plain values out: nothing here allocates by a size that a file declares. The chunk
walk follows the files that exist rather than the letter of the format: wrong RIFF sizes, missing
pad bytes, sizes that a streaming writer never went back to fill in.

Sources: IBM/Microsoft, *Multimedia Programming Interface and Data Specifications 1.0* (1991), for
RIFF and WAVE; RFC 2361 for the format tags; Microsoft, *Multiple Channel Audio Data and WAVE
Files* (2001), for WAVE_FORMAT_EXTENSIBLE; EBU Tech 3306 for RF64 and the 0xFFFFFFFF placeholder;
Apple, *AIFF 1.3* (1989), for AIFF.
"""

import dataclasses
import struct

import numpy as np

PCM, IEEE_FLOAT, EXTENSIBLE = 0x0001, 0x0003, 0xFFFE

# The last 14 bytes of KSDATAFORMAT_SUBTYPE_*; the first two hold the format tag.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")

# A pipe cannot be rewound, so its writer leaves a placeholder: 0xFFFFFFFF (ffmpeg, EBU), 0x7FFFF000
# and 0x7FFFFFFF (SoX, arecord), 0x80000000. From here up a size says "until the end".
_STREAMED_SIZE = 0x7FFF_0000

_FMT = struct.Struct("<HHIIHH")
_CHUNK = struct.Struct("<4sI")
_BIG_ENDIAN_CHUNK = struct.Struct(">4sI")

_SAMPLE_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


class Unusable(ValueError):
    """No samples can be found; `kind` is truncated, absent (no data chunk) or bad."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What a header says, and how much of the data chunk is really there."""

    tag: int  # format tag; for EXTENSIBLE with a standard GUID, the tag inside the GUID
    container: str  # "WAV" or "WAVEX"
    num_channels: int
    sample_rate_hz: int
    block_align: int  # declared bytes per frame; often wrong
    bits: int  # declared bits per sample, before rounding up to bytes
    encoding: str | None  # libsndfile's name of what `to_float32` can read, else None
    sample_bytes: int  # per sample of one channel; 0 without an encoding
    offset: int  # of the first sample, in bytes
    num_bytes: int  # of samples present
    truncated: bool  # fewer bytes present than declared


def find_samples(data: bytes) -> Layout:
    """Walk the chunks of a file that begins with RIFF....WAVE as far as its first data chunk.

    Raises:
      Unusable: there is no data chunk, or no usable fmt chunk before it.
    """
    fmt = b""
    position = 12
    while position + 8 <= len(data):
        name, size = _CHUNK.unpack_from(data, position)
        start = position + 8
        if name == b"data":
            if not fmt:
                raise Unusable("bad", "the data chunk comes before any fmt chunk")
            return _layout(data, fmt, start, declared=size)
        if name == b"fmt " and not fmt:
            if size < 16:
                raise Unusable("bad", f"a fmt chunk of {size} bytes; expected 16 or more")
            fmt = data[start : start + min(size, 40)]
        position = _next_chunk(data, start + size)
    if fmt and position >= len(data) >= _riff_end(data):
        raise Unusable("absent", "the file is complete but has no data chunk")
    raise Unusable("truncated", f"the file ends after {len(data)} bytes, inside its header")


def _riff_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[4:8], "little")


def _next_chunk(data: bytes, end: int) -> int:
    """Skip the pad byte after an odd chunk, unless its writer forgot it."""
    forgotten = data[end : end + 4] in (b"fmt ", b"data")
    return end if end % 2 == 0 or forgotten else end + 1


def _layout(data: bytes, fmt: bytes, offset: int, *, declared: int) -> Layout:
    tag, num_channels, rate, _, block_align, bits = _FMT.unpack_from(fmt)
    container = "WAV"
    if tag == EXTENSIBLE and fmt[26:40] == _GUID_TAIL:
        tag, container = int.from_bytes(fmt[24:26], "little"), "WAVEX"
    available = len(data) - offset
    # A size of zero means an empty recording only where the RIFF size says that the file is closed.
    closed = abs(_riff_end(data) - len(data)) <= 1
    streamed = declared >= _STREAMED_SIZE or (declared == 0 and not closed)
    num_bytes = available if streamed else min(declared, available)
    encoding = _encoding(tag, bits)
    sample_bytes = _SAMPLE_BYTES[encoding] if encoding else 0
    if (tag, bits, block_align) == (PCM, 24, 4 * num_channels):
        sample_bytes = _width_of_24_bits(data, offset, num_bytes)
    return Layout(
        tag=tag,
        container=container,
        num_channels=num_channels,
        sample_rate_hz=rate,
        block_align=block_align,
        bits=bits,
        encoding=encoding,
        sample_bytes=sample_bytes,
        offset=offset,
        num_bytes=num_bytes,
        truncated=not streamed and declared > available,
    )


def _encoding(tag: int, bits: int) -> str | None:
    """Name what the samples are.

    A PCM width that is not a whole number of bytes is stored in the next larger one, aligned to the
    most significant bit, so that 12-bit samples scale as 16-bit ones do.
    """
    if tag == PCM and 1 <= bits <= 32:
        return ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")[(bits - 1) // 8]
    if tag == IEEE_FLOAT:
        return {32: "FLOAT", 64: "DOUBLE"}.get(bits)
    return None


def _width_of_24_bits(data: bytes, offset: int, num_bytes: int) -> int:
    """Tell 24 bits in four bytes from a wrong block_align, which only the samples can.

    In four bytes one end is padding: the low byte is zero (as the specification has it), or the
    high one is zero or a copy of the sign (as ALSA's S24_LE has it).
    """
    words = np.frombuffer(data, np.uint8, num_bytes // 4 * 4, offset).reshape(-1, 4)
    padded = not words[:, 0].any() or bool(((words[:, 3] + np.uint8(1)) <= 1).all())
    return 4 if padded else 3


def to_float32(data: bytes, layout: Layout, *, count: int) -> np.ndarray:
    """Convert the first `count` samples, all channels counted, to float32 `[count]`.

    Integers come out in [-1, 1), scaled by a power of two exactly as libsndfile scales them.
    FLOAT is a read-only view on `data` where its alignment allows.
    """
    offset = layout.offset
    match layout.encoding, layout.sample_bytes:
        case "PCM_U8", _:
            waveform = _scaled(np.frombuffer(data, np.uint8, count, offset), 2.0**-7)
            waveform -= np.float32(1)  # exact: a multiple of 1/128 below 2
            return waveform
        case "PCM_16", _:
            return _scaled(np.frombuffer(data, "<i2", count, offset), 2.0**-15)
        case "PCM_24", 3:
            # Overlapping 32-bit words that start one byte early (the header is there): the sample
            # is their upper three bytes. One pass, no index arithmetic.
            words = np.ndarray((count,), "<i4", data, offset - 1, (3,))
            return _scaled(words & np.int32(-256), 2.0**-31)
        case "PCM_24", _:
            words = np.frombuffer(data, "<i4", count, offset)
            return _scaled(words << 8 if (words & 255).any() else words, 2.0**-31)
        case "PCM_32", _:
            return _scaled(np.frombuffer(data, "<i4", count, offset), 2.0**-31)
        case "FLOAT", _:
            return np.require(np.frombuffer(data, "<f4", count, offset), np.float32, "A")
        case _:
            # Beyond float32 is infinity, a signalling NaN becomes a quiet one: the caller refuses
            # both, so NumPy need not warn.
            with np.errstate(over="ignore", invalid="ignore"):
                return np.frombuffer(data, "<f8", count, offset).astype(np.float32)


def _scaled(samples: np.ndarray, scale: float) -> np.ndarray:
    waveform = samples.astype(np.float32)  # a cast, then a product in place: 2.1 us a clip, not 2.7
    waveform *= np.float32(scale)
    return waveform


def ends_early(data: bytes) -> bool:
    """Whether a RIFX, RF64 or AIFF file ends before its samples do, by what it declares."""
    if data[:4] not in (b"RIFX", b"RF64", b"FORM"):
        return False
    chunk = _CHUNK if data[:4] == b"RF64" else _BIG_ENDIAN_CHUNK
    size_64 = int.from_bytes(data[28:36], "little")  # of RF64's data, in the ds64 chunk
    position = 12
    while position + 8 <= len(data):
        name, size = chunk.unpack_from(data, position)
        if name in (b"data", b"SSND"):
            size = size_64 if data[:4] == b"RF64" and size == 0xFFFF_FFFF else size
            return bool(size < _STREAMED_SIZE and position + 8 + size > len(data))
        position += 8 + size + size % 2
    return True
