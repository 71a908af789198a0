"""Fuzz `pipelines.wav.decode`: any bytes give an Audio that keeps its promises, or a Rejected.

    python tests/fuzz/fuzz_wav.py --make_corpus corpus/   # small files of every container
    python tests/fuzz/fuzz_wav.py -max_total_time=600 -max_len=4096 corpus/

What atheris itself needs is in README.md beside this file.
"""

import io
import pathlib
import struct
import sys

import atheris
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
with atheris.instrument_imports(include=["pipelines"]):
    from pipelines import riff, sndfile, wav

MAX_SECONDS = 20.0


def check_one(data: bytes) -> None:
    """Decode `data` and check every promise of the docstring."""
    try:
        audio = wav.decode(data, max_seconds=MAX_SECONDS)
    except wav.Rejected as error:
        assert error.reason in wav.REASONS, error.reason
        return
    assert audio.samples.dtype == np.float32, audio.samples.dtype
    num_samples, num_channels = audio.samples.shape
    assert 1 <= num_channels <= wav.MAX_CHANNELS
    assert 1 <= audio.sample_rate_hz <= wav.MAX_SAMPLE_RATE_HZ
    assert 1 <= num_samples <= MAX_SECONDS * audio.sample_rate_hz
    assert audio.samples.size <= wav.MAX_VALUES
    assert np.isfinite(audio.samples).all()
    if data[:4] == b"RIFF" and audio.encoding.startswith(("PCM", "FLOAT", "DOUBLE")):
        check_against_libsndfile(data, audio)


def check_against_libsndfile(data: bytes, audio: wav.Audio) -> None:
    """Compare sample for sample, but for the differences that the module documents."""
    if data.count(b"data") > 1:
        return
    layout = riff.find_samples(data)
    declared = int.from_bytes(data[layout.offset - 4 : layout.offset], "little")
    if declared == 0 or (layout.encoding, layout.block_align) == (
        "PCM_24",
        4 * layout.num_channels,
    ):
        return
    try:
        with sndfile.File(data) as file:
            expected = np.concatenate([np.empty((0, file.channels), np.float32), *file.blocks()])
            assert (file.samplerate, file.subtype) == (audio.sample_rate_hz, audio.encoding)
    except sndfile.Error:
        return
    np.testing.assert_array_equal(audio.samples, expected)


def make_corpus(directory: pathlib.Path) -> None:
    """Write one small file of each container and encoding that libsndfile writes, and odd WAVs."""
    import soundfile

    directory.mkdir(parents=True, exist_ok=True)
    tone = (np.sin(np.arange(400) / 5) / 2).astype(np.float32)
    # Writing SD2 would leave its resource fork, a file named "._", in the working directory.
    for container in soundfile.available_formats().keys() - {"SD2"}:
        for encoding in soundfile.available_subtypes(container):
            for rate in (16000, 8000):
                buffer = io.BytesIO()
                try:
                    soundfile.write(buffer, tone, rate, encoding, format=container)
                except (soundfile.LibsndfileError, ValueError):
                    continue
                (directory / f"{container}-{encoding}".lower()).write_bytes(
                    buffer.getvalue()[:4096]
                )
                break
    for name, data in odd_wavs().items():
        (directory / name).write_bytes(data)


def odd_wavs() -> dict[str, bytes]:
    """WAVs that libsndfile does not write: streamed sizes, chunks before data, EXTENSIBLE, cuts."""
    body = bytes(range(64))
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    extensible = struct.pack("<IHHIIHHHHI", 40, 0xFFFE, 2, 8000, 48000, 6, 24, 22, 24, 3) + guid
    listed = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"

    def riff_file(*chunks: bytes, size: int | None = None) -> bytes:
        inner = b"WAVE" + b"".join(chunks)
        return b"RIFF" + struct.pack("<I", len(inner) if size is None else size) + inner

    def data(size: int) -> bytes:
        return b"data" + struct.pack("<I", size) + body

    return {
        "canonical": riff_file(fmt, data(64)),
        "streamed": riff_file(fmt, data(0xFFFFFFFF), size=0xFFFFFFFF),
        "zero_size": riff_file(fmt, data(0), size=0),
        "list_before": riff_file(fmt, listed, data(64)),
        "list_after": riff_file(fmt, data(63), b"\0", listed),
        "extensible": riff_file(b"fmt ", extensible, data(64)),
        "cut": riff_file(fmt, data(640)),
        "cut_header": riff_file(fmt)[:30],
        "text_mode": riff_file(fmt, data(64)) + b"\xef\xbf\xbd",
    }


def main() -> None:
    """Make the corpus, or fuzz with libFuzzer's own flags."""
    if sys.argv[1:2] == ["--make_corpus"]:
        make_corpus(pathlib.Path(sys.argv[2]))
        return
    atheris.Setup(sys.argv, check_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
