"""Where the samples lie inside a RIFF/WAVE file, and how to turn them into float32.

Plain bytes in, plain values out: nothing here allocates by a size that a file declares. The chunk
walk follows the files that exist rather than the letter of the format: wrong RIFF sizes, missing
pad bytes, sizes that a streaming writer never went back to fill in.

Sources: IBM/Microsoft, *Multimedia Programming Interface and Data Specifications 1.0* (1991), for
RIFF and WAVE; RFC 2361 for the format tags; Microsoft, *Multiple Channel Audio Data and WAVE
Files* (2001), for WAVE_FORMAT_EXTENSIBLE; EBU Tech 3306 for the 0xFFFFFFFF placeholder.
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

_FMT = {"<": struct.Struct("<HHIIHH"), ">": struct.Struct(">HHIIHH")}
_CHUNK = {"<": struct.Struct("<4sI"), ">": struct.Struct(">4sI")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What the header says, and how much of the data chunk is really there."""

    tag: int  # format tag; for EXTENSIBLE with a standard GUID, the tag inside the GUID
    container: str  # "WAV" or "WAVEX"
    num_channels: int
    sample_rate_hz: int
    block_align: int  # declared bytes per frame; often wrong
    bits: int  # declared bits per sample, before rounding up to bytes
    offset: int  # of the first sample, in bytes
    num_bytes: int  # of samples present
    truncated: bool  # fewer bytes present than declared


def find_samples(data: bytes, *, byte_order: str = "<") -> Layout | str:
    """Walk the chunks of a RIFF/WAVE file as far as its first `data` chunk.

    Args:
      data: the whole file, beginning with RIFF or RIFX.
      byte_order: "<" for RIFF, ">" for RIFX.

    Returns:
      The layout, or a sentence that says why there is none. It begins with "truncated:" if the
      file ends too early, "absent:" if a complete file holds no data chunk, else "bad:".
    """
    fmt = None
    position = 12
    chunk = _CHUNK[byte_order]
    while position + 8 <= len(data):
        name, size = chunk.unpack_from(data, position)
        start = position + 8
        if name == b"data":
            if fmt is None:
                return "bad: the data chunk comes before any fmt chunk"
            return _layout(data, fmt, start, size, byte_order=byte_order)
        if name == b"fmt " and fmt is None:
            fmt = data[start : start + min(size, 40)]
            if size < 16:
                return f"bad: the fmt chunk has {size} bytes, fewer than 16"
        position = _next_chunk(data, start + size)
    riff_size = chunk.unpack_from(data)[1]
    if fmt is not None and position >= len(data) >= riff_size + 8:
        return "absent: the file is complete but has no data chunk"
    return "truncated: the file ends before its first sample"


def _next_chunk(data: bytes, end: int) -> int:
    """Skip the pad byte after an odd chunk, unless its writer forgot it."""
    if end % 2 == 0:
        return end
    unpadded, padded = data[end : end + 4], data[end + 1 : end + 5]
    return end if unpadded in (b"data", b"fmt ") and padded != unpadded else end + 1


def _layout(data: bytes, fmt: bytes, offset: int, declared: int, *, byte_order: str) -> Layout:
    tag, channels, rate, _, align, bits = _FMT[byte_order].unpack_from(fmt)
    container = "WAV"
    if tag == EXTENSIBLE and fmt[26:40] == _GUID_TAIL:
        tag, container = int.from_bytes(fmt[24:26], "little"), "WAVEX"
    available = len(data) - offset
    riff_size = _CHUNK[byte_order].unpack_from(data)[1]
    # A size of zero means an empty recording only if the RIFF size agrees that the file is closed.
    closed = riff_size + 8 in (len(data), len(data) - 1, len(data) + 1)
    streamed = declared >= _STREAMED_SIZE or (declared == 0 and not closed)
    return Layout(
        tag=tag,
        container=container,
        num_channels=channels,
        sample_rate_hz=rate,
        block_align=align,
        bits=bits,
        offset=offset,
        num_bytes=available if streamed else min(declared, available),
        truncated=not streamed and declared > available,
    )


def encoding(layout: Layout) -> str | None:
    """The libsndfile name of what `to_float32` can read, or None.

    A PCM width that is not a whole number of bytes is stored in the next larger one, aligned to the
    most significant bit, so that 12-bit samples scale as 16-bit ones do.
    """
    if layout.tag == PCM and 1 <= layout.bits <= 32:
        return ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")[(layout.bits - 1) // 8]
    if layout.tag == IEEE_FLOAT:
        return {32: "FLOAT", 64: "DOUBLE"}.get(layout.bits)
    return None


BYTES_PER_SAMPLE = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


def to_float32(data: bytes, *, encoding: str, offset: int, count: int) -> np.ndarray:
    """Convert `count` little-endian samples at byte `offset` to float32 `[count]`.

    Integers come out in [-1, 1), scaled by a power of two exactly as libsndfile scales them.
    FLOAT is a read-only view on `data` where its alignment allows.
    """
    match encoding:
        case "PCM_U8":
            waveform = _scaled(np.frombuffer(data, np.uint8, count, offset), 2.0**-7)
            waveform -= np.float32(1)  # exact: a multiple of 1/128 below 2
            return waveform
        case "PCM_16":
            return _scaled(np.frombuffer(data, "<i2", count, offset), 2.0**-15)
        case "PCM_24":
            # Overlapping 32-bit words that start one byte early (the header is there): the sample
            # is their upper three bytes. One pass, no index arithmetic.
            words = np.ndarray((count,), "<i4", data, offset - 1, (3,))
            return _scaled(words & np.int32(-256), 2.0**-31)
        case "PCM_32":
            return _scaled(np.frombuffer(data, "<i4", count, offset), 2.0**-31)
        case "FLOAT":
            return np.require(np.frombuffer(data, "<f4", count, offset), np.float32, "A")
        case _:
            with np.errstate(over="ignore"):  # the caller refuses what overflows to infinity
                return np.frombuffer(data, "<f8", count, offset).astype(np.float32)


def _scaled(samples: np.ndarray, scale: float) -> np.ndarray:
    waveform = samples.astype(np.float32)  # a cast, then a product in place: 2.1 us a clip, not 2.7
    waveform *= np.float32(scale)
    return waveform
