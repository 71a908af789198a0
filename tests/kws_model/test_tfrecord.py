"""The TFRecord container: TensorFlow reads ours, we read TensorFlow's, damage has a name."""

import io
import struct

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_model import tfrecord

RECORDS = [b"", b"a", b"\0" * 12, bytes(range(256)), b"yes" * 40]


def container(records: list[bytes]) -> bytes:
    return b"".join(piece for record in records for piece in tfrecord.frame([record]))


def written(path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


# Bytes known by hand.


def test_a_record_is_length_checksum_data_checksum():
    # CRC-32C of "123456789" is its usual check value, 0xe3069283; rotated right by 15 bits and
    # 0xa282ead8 added, 0xc78ab0e5. That of the length was worked out bit by bit. Never changes.
    assert tfrecord.masked_crc32c(0xE3069283) == 0xC78AB0E5
    assert tfrecord.masked_crc32c(0) == 0xA282EAD8
    assert b"".join(tfrecord.frame([b"123456789"])) == (
        b"\x09"
        + bytes(7)
        + struct.pack("<I", 0x3971F937)
        + b"123456789"
        + struct.pack("<I", 0xC78AB0E5)
    )
    assert b"".join(tfrecord.frame([])) == bytes(8) + struct.pack("<II", 0x07980329, 0xA282EAD8)


@settings(deadline=None)
@given(parts=st.lists(st.binary(max_size=20), max_size=5))
def test_a_records_data_is_its_parts_in_a_row(parts):
    data = b"".join(tfrecord.frame(parts))
    assert data == b"".join(tfrecord.frame([b"".join(parts)]))
    assert len(data) == tfrecord.HEADER_BYTES + sum(map(len, parts)) + tfrecord.FOOTER_BYTES


def test_the_parts_are_not_copied():
    value = bytes(50_000)
    assert any(piece is value for piece in tfrecord.frame([b"prefix", value]))


# Round trips.


@settings(deadline=None)
@given(records=st.lists(st.binary(max_size=300), max_size=6))
def test_records_are_read_by_their_offsets(records):
    file, offset = io.BytesIO(container(records)), 0
    for record in records:
        assert tfrecord.read_record(file, offset=offset) == record
        offset += tfrecord.HEADER_BYTES + len(record) + tfrecord.FOOTER_BYTES
    with pytest.raises(EOFError):
        tfrecord.read_record(file, offset=offset)


def test_offsets_may_be_asked_for_in_any_order():
    file = io.BytesIO(container([b"one", b"two", b"three"]))
    assert [tfrecord.read_record(file, offset=at) for at in (38, 0, 19, 0)] == [
        b"three",
        b"one",
        b"two",
        b"one",
    ]


@pytest.mark.parametrize("records", [[], [b""], RECORDS], ids=["none", "one empty", "some"])
def test_a_file_is_read_in_order(tmp_path, records):
    path = written(tmp_path / "f", container(records))
    assert list(tfrecord.read_records(path)) == records


@pytest.mark.parametrize("records", [[], [b""], RECORDS], ids=["none", "one empty", "some"])
def test_tensorflow_reads_what_we_write(tmp_path, records):
    path = written(tmp_path / "f", container(records))
    assert list(tf.data.TFRecordDataset(path).as_numpy_iterator()) == records


@pytest.mark.parametrize("records", [[b""], RECORDS], ids=["one empty", "some"])
def test_tensorflow_writes_what_we_write_and_we_read_it(tmp_path, records):
    path = tmp_path / "f"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    assert path.read_bytes() == container(records)
    assert list(tfrecord.read_records(str(path))) == records


# Damage.


def test_a_file_cut_short_anywhere_names_itself_and_the_byte(tmp_path):
    records = [b"first", b"", b"third"]
    starts, whole = [0, 21, 37], container(records)
    assert len(whole) == 58
    for size in range(len(whole)):
        path = written(tmp_path / "kws-train.tfrecord", whole[:size])
        complete = [start for start in starts if start <= size]
        if size in starts:  # the end of a record: nothing tells that another should follow
            assert list(tfrecord.read_records(path)) == records[: len(complete) - 1]
            continue
        message = rf"^{path}: truncated at byte {complete[-1]}: make the dataset again$"
        with pytest.raises(ValueError, match=message):
            list(tfrecord.read_records(path))


@pytest.mark.parametrize("bits", [0x01, 0x80, 0xFF])
def test_any_changed_byte_names_the_file_and_the_record(tmp_path, bits):
    records = [b"first", b"", b"third"]
    starts, whole = [0, 21, 37], container(records)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= bits
        path = written(tmp_path / "kws-train.tfrecord", bytes(damaged))
        start = max(start for start in starts if start <= position)
        in_header = position - start < tfrecord.HEADER_BYTES
        message = (
            f"no record starts at byte {start}, or the file is damaged$"
            if in_header
            else f"the record at byte {start} is damaged: make the dataset again$"
        )
        with pytest.raises(ValueError, match=rf"^{path}: {message}"):
            list(tfrecord.read_records(path))


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_any_other_bytes_are_no_record(data):
    # A chance of 2**-32 that a checksum fits.
    error = ValueError if data else EOFError
    with pytest.raises(error):
        tfrecord.read_record(io.BytesIO(data), offset=0)


def test_an_offset_between_records_is_refused(tmp_path):
    path = written(tmp_path / "f", container([b"first", b"second"]))
    with open(path, "rb") as file, pytest.raises(ValueError, match="no record starts at byte 5"):
        tfrecord.read_record(file, offset=5)


@pytest.mark.parametrize("length", [2**31, 2**48, 2**63, 2**64 - 5, 2**64 - 1])
def test_a_length_that_no_file_has_is_a_truncated_record(length):
    header = struct.pack("<Q", length)
    crc = tfrecord.masked_crc32c(tfrecord.google_crc32c.value(header))
    file = io.BytesIO(header + struct.pack("<I", crc) + b"data")
    with pytest.raises(ValueError, match=r"^file: truncated at byte 0"):
        tfrecord.read_record(file, offset=0)


def test_a_length_that_no_file_has_is_a_truncated_record_on_disk(tmp_path):
    header = struct.pack("<Q", 2**48)
    crc = tfrecord.masked_crc32c(tfrecord.google_crc32c.value(header))
    path = written(tmp_path / "f", header + struct.pack("<I", crc) + b"data")
    with pytest.raises(ValueError, match=rf"^{path}: truncated at byte 0"):
        list(tfrecord.read_records(path))
