"""Bytes -> waveform or one reason: hand-written files first, then any file, then real ones."""

import csv
import io
import pickle
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from pipelines import wav
from tests.corpora import corpora_dir

PCM, FLOAT, ALAW, EXTENSIBLE = 1, 3, 6, 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
RAMP = np.array([0, 1, -1, 256, -256, 32767, -32768, 12345], "<i2")


def chunk(name: bytes, body: bytes, *, size: int | None = None) -> bytes:
    """A chunk with its pad byte; `size` is what it declares if that is a lie."""
    declared = len(body) if size is None else size
    return name + struct.pack("<I", declared) + body + b"\0" * (len(body) % 2)


def fmt(*, tag=PCM, channels=1, rate=16000, bits=16, align=None, extra=b"") -> bytes:
    align = channels * -(-bits // 8) if align is None else align
    # In 32 bits, because the tests declare rates that no file could keep.
    byte_rate = rate * align % 2**32
    return chunk(
        b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, byte_rate, align, bits) + extra
    )


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    inner = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(inner) if size is None else size) + inner


def pcm16(samples=RAMP, **header) -> bytes:
    return riff(fmt(**header), chunk(b"data", np.asarray(samples, "<i2").tobytes()))


def by_libsndfile(data: bytes) -> tuple[np.ndarray, int, str, str]:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        samples = file.read(file.frames, dtype="float32", always_2d=True)
        return samples, file.samplerate, file.subtype, file.format


def assert_equals_libsndfile(data: bytes) -> wav.Audio:
    audio = wav.decode(data)
    samples, rate, encoding, container = by_libsndfile(data)
    np.testing.assert_array_equal(audio.samples, samples)
    assert (audio.sample_rate_hz, audio.encoding, audio.container) == (rate, encoding, container)
    assert audio.samples.dtype == np.float32
    return audio


# What a WAV holds.


def test_canonical_pcm16_is_scaled_by_two_to_the_15():
    audio = wav.decode(pcm16([0, 1, -32768, 32767, 16384]))
    expected = [[0.0], [2**-15], [-1.0], [32767 / 32768], [0.5]]
    np.testing.assert_array_equal(audio.samples, np.array(expected, np.float32))
    assert (audio.sample_rate_hz, audio.encoding, audio.container) == (16000, "PCM_16", "WAV")
    assert not audio.truncated


@pytest.mark.parametrize(
    ("tag", "bits", "body", "encoding", "expected"),
    [
        (PCM, 8, b"\x00\x80\xff\x81", "PCM_U8", [-1, 0, 127 / 128, 1 / 128]),
        (PCM, 5, b"\x00\x80", "PCM_U8", [-1, 0]),
        (PCM, 12, b"\x00\x80\x10\x00", "PCM_16", [-1, 2**-11]),
        (PCM, 24, b"\x00\x00\x80\xff\xff\x7f\x01\x00\x00", "PCM_24", [-1, 1 - 2**-23, 2**-23]),
        (PCM, 20, b"\x00\x00\x80\x10\x00\x00", "PCM_24", [-1, 2**-19]),
        (PCM, 32, struct.pack("<3i", -(2**31), 2**30, 1), "PCM_32", [-1, 0.5, 2**-31]),
        (FLOAT, 32, struct.pack("<3f", -1, 0.1, 3), "FLOAT", [-1, np.float32(0.1), 3]),
        (FLOAT, 64, struct.pack("<3d", -1, 0.1, 3), "DOUBLE", [-1, np.float32(0.1), 3]),
    ],
)
def test_each_sample_width_has_full_scale_at_one(tag, bits, body, encoding, expected):
    data = riff(fmt(tag=tag, bits=bits), chunk(b"data", body))
    audio = assert_equals_libsndfile(data)
    np.testing.assert_array_equal(audio.samples[:, 0], np.array(expected, np.float32))
    assert audio.encoding == encoding


def test_channels_are_columns():
    audio = assert_equals_libsndfile(pcm16(RAMP, channels=2))
    np.testing.assert_array_equal(audio.samples * 32768, RAMP.reshape(4, 2))


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"LIST", b"INFOISFT\4\0\0\0abc\0"), fmt()],
        [fmt(), chunk(b"bext", b"\0" * 602)],
        [chunk(b"junk", b"odd"), fmt(), chunk(b"LIST", b"INFOx")],
        [fmt(extra=b"\0\0")],
        [fmt(extra=b"\4\0abcd"), chunk(b"fact", b"\x08\0\0\0")],
    ],
    ids=["LIST first", "bext", "odd chunks", "fmt of 18", "fmt of 22"],
)
def test_chunks_before_the_samples_are_stepped_over(chunks):
    audio = assert_equals_libsndfile(riff(*chunks, chunk(b"data", RAMP.tobytes())))
    np.testing.assert_array_equal(audio.samples[:, 0] * 32768, RAMP)


def test_chunks_after_the_samples_are_not_samples():
    data = riff(
        fmt(), chunk(b"data", RAMP.tobytes()), chunk(b"LIST", b"INFO"), chunk(b"id3 ", b"x")
    )
    assert len(assert_equals_libsndfile(data).samples) == len(RAMP)


def test_an_odd_chunk_without_its_pad_byte_is_forgiven():
    data = riff(chunk(b"LIST", b"INFOx")[:-1], fmt(), chunk(b"data", RAMP.tobytes()))
    np.testing.assert_array_equal(wav.decode(data).samples[:, 0] * 32768, RAMP)


def test_a_last_frame_that_is_not_whole_is_dropped():
    data = riff(fmt(channels=2), chunk(b"data", RAMP.tobytes()[:-1]))
    assert assert_equals_libsndfile(data).samples.shape == (3, 2)


@pytest.mark.parametrize(("tag", "bits"), [(PCM, 16), (PCM, 24), (FLOAT, 32), (FLOAT, 64)])
def test_extensible_is_read_by_the_tag_in_its_guid(tag, bits):
    extra = struct.pack("<HHIH", 22, bits, 3, tag) + GUID_TAIL
    body = np.linspace(-1, 1, 48, dtype=f"<f{bits // 8}") if tag == FLOAT else np.arange(144)
    header = fmt(tag=EXTENSIBLE, channels=2, bits=bits, extra=extra)
    data = riff(header, chunk(b"data", body.astype(body.dtype if tag == FLOAT else "u1").tobytes()))
    assert assert_equals_libsndfile(data).container == "WAVEX"


@pytest.mark.parametrize("size", [0, 8, 36, 2**32 - 1])
def test_a_wrong_riff_size_does_not_matter(size):
    samples = chunk(b"data", RAMP.tobytes())
    assert len(wav.decode(riff(fmt(), samples, size=size)).samples) == len(RAMP)


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [(0, 0), (36, 0), (2**32 - 1, 2**32 - 1), (2**32 - 1, 0x7FFFF000), (0x80000024, 0x80000000)],
)
def test_a_streamed_file_is_read_to_its_end(riff_size, data_size):
    data = riff(fmt(), chunk(b"data", RAMP.tobytes(), size=data_size), size=riff_size)
    audio = wav.decode(data)
    np.testing.assert_array_equal(audio.samples[:, 0] * 32768, RAMP)
    assert not audio.truncated


def test_a_file_cut_short_gives_what_is_left_and_says_so():
    audio = assert_equals_libsndfile(pcm16()[:-5])
    assert audio.truncated
    np.testing.assert_array_equal(audio.samples[:, 0] * 32768, RAMP[:5])


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("low end zero", b"\0\x01\x02\x03\0\xff\xff\xff", [0x030201, -1]),
        ("sign copied", b"\x01\x02\x03\0\xff\xff\xff\xff", [0x030201, -1]),
        ("high end zero", b"\x01\x02\x03\0\xa0\xff\xff\0", [0x030201, -96]),
        (
            "no padding: packed",
            b"\x01\x02\x03\x04\x05\x06\x07\x08\x09",
            [0x030201, 0x060504, 0x090807],
        ),
    ],
)
def test_24_bits_in_four_bytes_are_told_by_their_padding(name, body, expected):
    data = riff(fmt(bits=24, align=4), chunk(b"data", body))
    np.testing.assert_array_equal(wav.decode(data).samples[:, 0] * 2**23, expected)


@pytest.mark.parametrize(
    ("container", "encoding"),
    [
        ("WAV", "ULAW"),
        ("WAV", "ALAW"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "MS_ADPCM"),
        ("WAV", "GSM610"),
        ("RF64", "PCM_16"),
        ("W64", "PCM_24"),
        ("AIFF", "PCM_16"),
        ("AU", "ULAW"),
        ("CAF", "ALAC_16"),
        ("NIST", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_other_containers_equal_one_long_read_by_libsndfile(container, encoding):
    # Longer than two blocks: soundfile's own block-wise reading garbles MP3.
    buffer = io.BytesIO()
    tone = np.sin(np.arange(10_000) / 9) * np.linspace(0, 0.5, 10_000)
    soundfile.write(buffer, tone, 16000, encoding, format=container)
    assert not assert_equals_libsndfile(buffer.getvalue()).truncated


def test_an_mp3_is_read_whatever_lies_in_the_working_directory(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(5000) / 9), 16000, format="MP3")
    (tmp_path / "._").touch()
    monkeypatch.chdir(tmp_path)
    assert len(wav.decode(buffer.getvalue()).samples) == 5000


def test_big_endian_riff_is_read():
    buffer = io.BytesIO()
    soundfile.write(buffer, RAMP, 16000, "PCM_16", endian="BIG", format="WAV")
    assert buffer.getvalue()[:4] == b"RIFX"
    assert_equals_libsndfile(buffer.getvalue())
    assert wav.decode(buffer.getvalue()[:-4]).truncated


@pytest.mark.parametrize("container", ["RF64", "AIFF", "FLAC"])
def test_other_containers_cut_short_say_so(container):
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    soundfile.write(buffer, rng.normal(0, 0.1, 20_000), 16000, "PCM_16", format=container)
    audio = wav.decode(buffer.getvalue()[: len(buffer.getvalue()) * 2 // 3])
    assert audio.truncated
    assert 8_000 < len(audio.samples) < 20_000


# What is refused, and how.


def mangle(data: bytes) -> bytes:
    """What reading as UTF-8 with errors="replace" and writing again does to a file."""
    return data.decode("utf-8", "replace").encode()


REFUSED = {
    "no bytes": (b"", "empty: the file has no bytes"),
    "text": (b"hello, world", r"not_audio: b'hello, world' at byte 0 begins no known container"),
    "an AVI": (b"RIFF\4\0\0\0AVI ", r"not_audio: a RIFF file of form b'AVI '; expected b'WAVE'"),
    "a tag and no MP3": (b"ID3\4\0\0\0\0\0\1xyz", "not_audio: b'yz' at byte 11 begins no known"),
    "text mode": (mangle(pcm16(rate=44100)), "mangled: every byte that is not text"),
    "text mode, AIFF": (mangle(b"FORM\0\0\0\x80AIFF"), "mangled: every byte that is not text"),
    "8 bytes": (b"RIFF\0\0\0\0", "truncated_header: 8 bytes; a RIFF header has 12"),
    "cut in fmt": (pcm16()[:30], "truncated_header: the file ends after 30 bytes, inside"),
    "cut before data": (pcm16()[:40], "truncated_header: the file ends after 40 bytes, inside"),
    "gigabytes declared": (
        riff(b"oooo\xff\xff\xff\xff"),
        "truncated_header: the file ends after 20",
    ),
    "cut at data": (pcm16()[:44], "no_samples: not one whole frame of samples"),
    "empty data": (pcm16([]), "no_samples: not one whole frame of samples"),
    "part of a frame": (pcm16([1, 2], channels=3), "no_samples: not one whole frame"),
    "empty data, more": (
        riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"ab")),
        "no_samples: not",
    ),
    "no data": (riff(fmt(), chunk(b"LIST", b"ab")), "no_samples: the file is complete but has no"),
    "data first": (riff(chunk(b"data", b"abcd"), fmt()), "bad_header: the data chunk comes before"),
    "short fmt": (riff(chunk(b"fmt ", b"\1\0")), "bad_header: a fmt chunk of 2 bytes; expected 16"),
    "no channels": (pcm16(channels=0), "bad_header: 0 channels; expected 1 to 1024"),
    "many channels": (pcm16(channels=1025), "bad_header: 1025 channels; expected 1 to 1024"),
    "0 Hz": (pcm16(rate=0), "bad_header: 0 Hz; expected 1 to 1048576"),
    "4 GHz": (pcm16(rate=2**32 - 1), "bad_header: 4294967295 Hz; expected 1 to 1048576"),
    "0 bits": (pcm16(bits=0), "bad_header: 0 bits per sample"),
    "64-bit PCM": (pcm16(bits=64), "unsupported_encoding: 64-bit samples of format tag 1"),
    "16-bit floats": (pcm16(tag=FLOAT), "unsupported_encoding: 16-bit samples of format tag 3"),
    "unknown tag": (pcm16(tag=0x4600), "unsupported_encoding: format tag 0x4600: Error in WAV"),
    "AIFF of 12 bytes": (b"FORM\0\0\0\4AIFF", "truncated_header: Channel count is zero"),
    "NaN": (
        riff(fmt(tag=FLOAT, bits=32), chunk(b"data", struct.pack("<2f", 0, np.nan))),
        "non_finite: NaN or infinity among the samples",
    ),
    "signalling NaN": (
        riff(fmt(tag=FLOAT, bits=64), chunk(b"data", struct.pack("<2Q", 0, 0x7FF0000000000001))),
        "non_finite: NaN or infinity among the samples",
    ),
    "beyond float32": (
        riff(fmt(tag=FLOAT, bits=64), chunk(b"data", struct.pack("<2d", 0, 1e300))),
        "non_finite: NaN or infinity among the samples",
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_each_refusal_has_a_reason_and_a_sentence(data, message):
    with pytest.raises(wav.Rejected, match=f"^{message.replace('(', '[(]')}") as error:
        wav.decode(data)
    assert error.value.reason in wav.REASONS
    assert str(error.value) == f"{error.value.reason}: {error.value.detail}"


def test_a_compressed_file_damaged_from_its_start_is_unreadable():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.arange(5000, dtype=np.int16), 16000, format="FLAC")
    damaged = buffer.getvalue()[:90] + bytes(1000)
    with pytest.raises(wav.Rejected, match=r"^unreadable: .*flac decoder"):
        wav.decode(damaged)


def test_every_reason_is_one_that_happens():
    elsewhere = {"too_long", "too_large", "unreadable"}  # in the tests around this one
    assert {message.split(":")[0] for _, message in REFUSED.values()} | elsewhere == set(
        wav.REASONS
    )


def test_a_recording_longer_than_the_limit_is_refused():
    assert len(wav.decode(pcm16([0] * 16000), max_seconds=1).samples) == 16000
    for data in (pcm16([0] * 16001), riff(fmt(bits=8), chunk(b"data", bytes(16001)))):
        with pytest.raises(wav.Rejected, match=r"^too_long: 1\.0 s; expected at most 1$"):
            wav.decode(data, max_seconds=1)


def test_a_compressed_bomb_costs_no_more_than_the_limit():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((2**22, 2), np.int16), 16000, format="FLAC")
    assert len(buffer.getvalue()) < 100_000  # would be 33 MB of float32
    tracemalloc.start()
    with pytest.raises(wav.Rejected, match=r"^too_long: "):
        wav.decode(buffer.getvalue(), max_seconds=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 10 * 16000 * 2 * 4


def test_a_lying_frame_count_allocates_nothing():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(5000, np.int16), 16000, format="FLAC")
    data = bytearray(buffer.getvalue())
    data[21] |= 0x0F  # the upper 4 of STREAMINFO's 36 bits of total samples
    tracemalloc.start()
    audio = wav.decode(bytes(data))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert (len(audio.samples), audio.truncated) == (5000, True)


def test_all_channels_together_are_bounded(monkeypatch):
    monkeypatch.setattr(wav, "MAX_VALUES", 100)
    assert wav.decode(pcm16([0] * 100)).samples.size == 100
    for data in (pcm16([0] * 102), pcm16([0] * 102, channels=2)):
        with pytest.raises(wav.Rejected, match=r"^too_large: .* expected at most 100$"):
            wav.decode(data)


def test_a_rejection_survives_the_way_between_workers():
    copy = pickle.loads(pickle.dumps(wav.Rejected("empty", "the file has no bytes")))
    assert (copy.reason, copy.detail) == ("empty", "the file has no bytes")


def test_plain_wavs_never_load_libsndfile():
    program = f"import sys; from pipelines import wav; wav.decode({pcm16()!r}); print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert {"soundfile", "apache_beam", "tensorflow"}.isdisjoint(modules)


def test_seeks_to_nowhere_print_no_traceback(capfd):
    # libsndfile seeks to before the start when the COMM chunk of an AIFF is broken like this one.
    aiff = b"FORM\0\0\1\0AIFFCOMM\0\0\0\x12\0\2\0\0\0\4\0\x7f@\x0c\xac\x44" + b"\xff" * 200
    with pytest.raises(wav.Rejected):
        wav.decode(aiff)
    assert capfd.readouterr() == ("", "")


# Any file.


def decode_or_refuse(data: bytes) -> None:
    try:
        audio = wav.decode(data)
    except wav.Rejected as error:
        assert error.reason in wav.REASONS
        return
    assert audio.samples.dtype == np.float32
    assert audio.samples.ndim == 2 and audio.samples.size > 0
    assert np.isfinite(audio.samples).all()


MAGIC = [
    b"RIFF\xff\0\0\0WAVEfmt ",
    b"RF64",
    b"FORM\0\0\0\xffAIFF",
    b"fLaC",
    b"OggS",
    b"caff",
    b"ID3",
]


@given(st.sampled_from([b"", *MAGIC]), st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
@example(b"", b"\xff\xfb\x90\x00" * 100)
def test_any_bytes_decode_or_are_rejected(magic, rest):
    decode_or_refuse(magic + rest)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_damage_to_a_wav_decodes_or_is_rejected(data):
    original = riff(chunk(b"LIST", b"INFOx"), fmt(channels=2), chunk(b"data", RAMP.tobytes()))
    damaged = bytearray(original[: data.draw(st.integers(0, len(original)))])
    for _ in range(data.draw(st.integers(0, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    decode_or_refuse(bytes(damaged))


@st.composite
def wavs(draw) -> bytes:
    """A WAV that libsndfile reads: extra chunks, any width, any number of channels, cut or not."""
    tag, bits = draw(st.sampled_from([(PCM, b) for b in range(1, 33)] + [(FLOAT, 32), (FLOAT, 64)]))
    channels = draw(st.integers(1, 9))
    extra = b""
    header_tag = tag
    if draw(st.booleans()):
        header_tag = EXTENSIBLE
        extra = struct.pack("<HHIH", 22, bits, 0, tag) + GUID_TAIL
    width = -(-bits // 8)
    frames = draw(st.integers(1, 20))
    if tag == FLOAT:
        numbers = st.floats(
            width=bits, allow_nan=False, allow_infinity=False, max_value=9, min_value=-9
        )
        values = draw(st.lists(numbers, min_size=frames * channels, max_size=frames * channels))
        body = np.array(values, f"<f{width}").tobytes()
    else:
        size = frames * channels * width + draw(st.integers(0, width - 1))
        body = draw(st.binary(min_size=size, max_size=size))
    before = draw(st.lists(st.binary(max_size=9).map(lambda b: chunk(b"junk", b)), max_size=2))
    after = draw(
        st.lists(st.binary(max_size=9).map(lambda b: chunk(b"LIST", b"INFO" + b)), max_size=1)
    )
    header = fmt(tag=header_tag, channels=channels, bits=bits, extra=extra)
    file = riff(*before, header, chunk(b"data", body), *after)
    return file if after else file[: len(file) - draw(st.integers(0, len(body) // 2))]


@given(wavs())
@settings(max_examples=300, deadline=None)
def test_any_wav_equals_libsndfile(data):
    try:
        by_libsndfile(data)
        wav.decode(data)
    except (soundfile.LibsndfileError, wav.Rejected):
        reject()  # the other tests say what is refused
    assert_equals_libsndfile(data)


# Real files, where there are any.

if CORPORA := corpora_dir():
    EDGE_CASES = CORPORA / "wav_edge_cases"
    with (EDGE_CASES / "CATEGORIES.csv").open(newline="") as table:
        ROWS = {row["path"]: row for row in csv.DictReader(table)}

    # Each file that does not decode; all others do, to what libsndfile reads.
    REASONS_FOUND = {
        "bitterbassist+bot-wraith/README": "not_audio",
        "go-audio+wav/sample.avi": "not_audio",
        "thegtagamer+PICO-tinyML-benchmark/.DS_Store": "not_audio",
        "ruuda+hound/crash-24728523ef4be15c838293b676f6853e73723bf4.wav": "truncated_header",
        "ruuda+hound/crash-b8447179832529c48f9c6bf17feab6337bbc78ea.wav": "truncated_header",
        "ruuda+hound/crash-cbd757427cea12bd8a21f86cd8cf74d98ce56bee.wav": "truncated_header",
        "ruuda+hound/crash-e5471f5b58397287b509db7d026e95f1724454f5.wav": "bad_header",
        "ruuda+hound/crash-e879de4eb4d206c59e21f0e01def16457af80fdc.wav": "truncated_header",
        "ruuda+hound/oom-48ae4cd061ff8578ad3f23dc87624bd365cf5216.wav": "truncated_header",
        "scipy+scipy/test-44100Hz-le-1ch-4bytes-early-eof-no-data.wav": "truncated_header",
        "scipy+scipy/test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav": "truncated_header",
        "scipy+scipy/test-8000Hz-le-3ch-5S-36bit.wav": "unsupported_encoding",
        "scipy+scipy/test-8000Hz-le-3ch-5S-45bit.wav": "unsupported_encoding",
        "scipy+scipy/test-8000Hz-le-3ch-5S-53bit.wav": "unsupported_encoding",
        "scipy+scipy/test-8000Hz-le-3ch-5S-64bit.wav": "unsupported_encoding",
    }
    # The table flags 19 of the 22 that hold U+FFFD; in these the header is small enough to miss.
    MANGLED = {path for path, row in ROWS.items() if "utf8_mangled" in row["flags"]}
    MANGLED |= {f"bitterbassist+bot-wraith/sndhdr.{kind}" for kind in ("au", "hcom", "voc")}
    assert len(MANGLED) == 22
    REASONS_FOUND |= dict.fromkeys(MANGLED, "mangled")

    # libsndfile takes these four-byte containers for packed three-byte samples; the values below
    # were read from the bytes by hand.
    HOUND_24_IN_32 = "ruuda+hound/pcmwaveformat-24bit-4byte-48kHz-stereo.wav"

    @pytest.mark.parametrize("path", sorted(ROWS.keys() - REASONS_FOUND.keys() - {HOUND_24_IN_32}))
    def test_odd_but_sound_files_equal_libsndfile(path):
        audio = assert_equals_libsndfile((EDGE_CASES / path).read_bytes())
        assert audio.truncated == ("data_truncated" in ROWS[path]["flags"])

    @pytest.mark.parametrize("path", sorted(REASONS_FOUND))
    def test_broken_files_are_refused_for_the_right_reason(path):
        with pytest.raises(wav.Rejected, match=f"^{REASONS_FOUND[path]}: "):
            wav.decode((EDGE_CASES / path).read_bytes())

    def test_24_bits_in_four_bytes_are_read_by_their_padding():
        audio = wav.decode((EDGE_CASES / HOUND_24_IN_32).read_bytes())
        expected = [[-96, 23052], [8388607, -8360672]]
        np.testing.assert_array_equal(audio.samples * 2**23, expected)

    def test_every_clip_of_speech_commands_equals_libsndfile():
        paths = sorted((CORPORA / "speech_commands_9").rglob("*.wav"))
        assert len(paths) == 5006
        for path in paths:
            assert not assert_equals_libsndfile(path.read_bytes()).truncated
