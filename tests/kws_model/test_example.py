"""One record: the bytes protobuf would write, decoded without TensorFlow and parsed with it."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example as instance
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_model import example, tfrecord
from kws_model.feature_spec import FeatureSpec
from tests.kws_model.specs import FEATURES

# Lengths at which a varint, the value's or that of a message around it, grows by a byte.
BORDERS = [0, 1, 100, 110, 120, 125, 126, 127, 128, 16360, 16370, 16383, 16384, 2097151, 2097152]
TEXTS = st.text(max_size=200)
# Lone surrogates are no text: str.encode and protobuf refuse them.
RECORDS = st.fixed_dictionaries(
    {
        "clip_id": TEXTS,
        "speaker": TEXTS,
        "word": TEXTS,
        "label": st.integers(0, 2**62) | st.sampled_from([127, 128, 16383, 16384, 2**62]),
        "name": st.sampled_from(FEATURES),
        "value": st.binary(max_size=300),
    }
)
GO = {"clip_id": "go/1", "speaker": "s", "word": "go", "label": 3, "name": "mfcc", "value": b"xy"}


def encode(**record) -> bytes:
    return b"".join(example.encode(**GO | record))


def by_protobuf(*, clip_id, speaker, word, label, name, value) -> bytes:
    def of_bytes(content: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))

    feature = {
        "id": of_bytes(clip_id.encode()),
        "speaker": of_bytes(speaker.encode()),
        "word": of_bytes(word.encode()),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        name: of_bytes(value),
    }
    message = tf.train.Example(features=tf.train.Features(feature=feature))
    return message.SerializeToString(deterministic=True)


def decoded(*, clip_id, speaker, word, label, name, value) -> dict[str, bytes | int]:
    texts = {"id": clip_id.encode(), "speaker": speaker.encode(), "word": word.encode()}
    return {**texts, "label": label, name: value}


# The wire format.


def test_a_record_is_written_as_protobuf_lays_it_out():
    # Never changes: a dataset outlives the code.
    assert encode() == bytes.fromhex(
        "0a52"  # Example.features, 82 bytes
        "0a0e 0a026964 1208 0a06 0a04676f2f31"  # entry: key "id", Feature, BytesList, "go/1"
        "0a0e 0a056c6162656c 1205 1a03 0a0103"  # entry: key "label", Feature, Int64List, [3]
        "0a0e 0a046d666363 1206 0a04 0a027879"  # entry: key "mfcc", ..., "xy"
        "0a10 0a07737065616b6572 1205 0a03 0a0173"  # entry: key "speaker", ..., "s"
        "0a0e 0a04776f7264 1206 0a04 0a02676f"  # entry: key "word", ..., "go"
    )


@settings(deadline=None)
@given(record=RECORDS)
@instance(record=GO | {"clip_id": "", "speaker": "", "word": "", "label": 0, "value": b""})
@instance(record=GO | {"clip_id": "да/né\u2028🎤", "speaker": "Zoë", "word": "да"})
def test_the_bytes_are_protobufs_deterministic_ones(record):
    assert encode(**record) == by_protobuf(**record)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("length", BORDERS)
def test_lengths_on_both_sides_of_a_varints_border_are_protobufs(name, length):
    record = GO | {"name": name, "value": bytes(length)}
    assert encode(**record) == by_protobuf(**record)


def test_every_length_up_to_a_second_byte_is_protobufs():
    for length in range(300):
        record = GO | {"value": bytes(length), "clip_id": "x" * length}
        assert encode(**record) == by_protobuf(**record)


@pytest.mark.parametrize("label", [0, 1, 127, 128, 16383, 16384, 2**31, 2**32, 2**62, 2**63 - 1])
def test_labels_are_protobufs_varints(label):
    assert encode(label=label) == by_protobuf(**GO | {"label": label})
    assert example.decode(encode(label=label))["label"] == label


def test_any_buffer_is_written_and_none_is_copied():
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    pieces = example.encode(**GO | {"value": values.data.cast("B")})
    assert b"".join(pieces) == encode(value=values.tobytes())
    value = bytes(50_000)
    assert any(piece is value for piece in example.encode(**GO | {"value": value}))


# Decoding without TensorFlow.


@settings(deadline=None)
@given(record=RECORDS)
def test_decode_inverts_encode(record):
    assert example.decode(encode(**record)) == decoded(**record)


def test_what_is_decoded_is_sorted_by_name():
    assert list(example.decode(encode())) == ["id", "label", "mfcc", "speaker", "word"]


def test_a_record_that_protobuf_wrote_in_any_order_is_decoded():
    message = tf.train.Example.FromString(by_protobuf(**GO))
    assert example.decode(message.SerializeToString()) == decoded(**GO)


NOT_RECORDS = [
    b"",
    b"\x0a",
    b"\x0a\x05ab",
    b"\x0a\x00\x0a\x00",
    b"\x08\x01",
    b"\xff" * 30,
    b"\x0a\x02\x0a\x00",
    b"\x0a\x04\x0a\x02\x0a\x00",
    b"\x0a\x0a" + bytes.fromhex("0a08 0a01ff 1203 0a01"),
]


@pytest.mark.parametrize("data", NOT_RECORDS)
def test_other_bytes_are_refused_as_no_record(data):
    with pytest.raises(ValueError, match=r"^not a record of a kws dataset$"):
        example.decode(data)


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=100))
def test_any_bytes_are_decoded_or_refused(data):
    decodes_or_refuses(data)


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_a_damaged_record_is_decoded_or_refused(data):
    record = bytearray(encode())
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_refuses(bytes(record[: data.draw(st.integers(0, len(record)))]))


def decodes_or_refuses(data: bytes) -> None:
    try:
        features = example.decode(data)
    except ValueError as error:
        assert str(error) == "not a record of a kws dataset"
    else:
        assert all(isinstance(value, bytes | int) for value in features.values())


def test_a_record_cut_short_anywhere_is_refused():
    record = encode()
    for size in range(len(record)):
        with pytest.raises(ValueError, match=r"^not a record of a kws dataset$"):
            example.decode(record[:size])


# The feature.

SMALL = {
    "log_spectrogram": FeatureSpec(clip_ms=50),  # [3, 257]
    "log_mel": FeatureSpec(clip_ms=50, feature="log_mel", dtype="float32"),  # [3, 40]
    "mfcc": FeatureSpec(clip_ms=50, feature="mfcc"),  # [3, 13]
    "waveform": FeatureSpec(clip_ms=50, feature="waveform"),  # [800]
}
each_kind = pytest.mark.parametrize("spec", SMALL.values(), ids=SMALL)


def values_of(spec: FeatureSpec, *, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(-3000, 3000, spec.shape)
    return drawn.astype(spec.stored_dtype)


def record_of(spec: FeatureSpec, *, seed: int = 0, **fields) -> bytes:
    return encode(name=spec.feature, value=values_of(spec, seed=seed).tobytes(), **fields)


@each_kind
def test_decode_feature_gives_shape_dtype_and_values(spec):
    feature = example.decode_feature(record_of(spec), spec)
    assert (feature.shape, feature.dtype) == (spec.shape, spec.stored_dtype)
    np.testing.assert_array_equal(feature, values_of(spec))


@pytest.mark.parametrize(
    ("record", "size"),
    [
        (encode(name="log_mel", value=bytes(78)), 0),  # another feature
        (encode(name="mfcc", value=bytes(76)), 76),
        (encode(name="mfcc", value=bytes(79)), 79),
    ],
)
def test_a_record_of_another_spec_is_refused(record, size):
    message = rf"^expected a record with 78 bytes of mfcc; it has {size}$"
    with pytest.raises(ValueError, match=message):
        example.decode_feature(record, SMALL["mfcc"])


# Random access.


@pytest.fixture
def shard(tmp_path):
    """A shard of three records, and the byte at which each starts."""
    offsets = []
    with open(tmp_path / "shard", "wb") as file:
        for label in range(3):
            offsets.append(file.tell())
            file.writelines(tfrecord.frame([encode(label=label, value=b"x" * label)]))
    return tmp_path, offsets


@pytest.mark.parametrize("number", [0, 1, 2])
def test_any_record_is_read_by_its_row_in_the_manifest(shard, number):
    folder, offsets = shard
    record = example.read_example(folder, shard="shard", offset=offsets[number])
    assert record == decoded(**GO | {"label": number, "value": b"x" * number})


def test_a_byte_where_no_record_starts_is_refused(shard):
    folder, offsets = shard
    with pytest.raises(ValueError, match=f"no record starts at byte {offsets[1] + 1}"):
        example.read_example(folder, shard="shard", offset=offsets[1] + 1)


def test_the_end_of_a_shard_is_refused(shard):
    folder, _ = shard
    size = (folder / "shard").stat().st_size
    with pytest.raises(ValueError, match=f"has no record at byte {size}: it ends there"):
        example.read_example(folder, shard="shard", offset=size)


# Parsing in TensorFlow.


def assert_parsed(batch: dict[str, tf.Tensor], spec: FeatureSpec, *, count: int) -> None:
    assert set(batch) == {"id", "speaker", "word", "label", spec.feature}
    assert batch["id"].numpy().tolist() == [f"да/{i}".encode() for i in range(count)]
    assert batch["speaker"].numpy().tolist() == [b""] * count
    assert batch["word"].numpy().tolist() == ["да".encode()] * count
    assert batch["label"].dtype == tf.int64
    assert batch["label"].numpy().tolist() == [2**62 + i for i in range(count)]
    feature = batch[spec.feature].numpy()
    assert feature.dtype == spec.stored_dtype
    expected = np.array([values_of(spec, seed=i) for i in range(count)])
    np.testing.assert_array_equal(feature, expected.reshape(count, *spec.shape))


def records_of(spec: FeatureSpec, *, count: int) -> tf.Tensor:
    fields = [
        {"clip_id": f"да/{i}", "speaker": "", "word": "да", "label": 2**62 + i}
        for i in range(count)
    ]
    records = [record_of(spec, seed=i, **field) for i, field in enumerate(fields)]
    return tf.constant(records, tf.string, shape=[count])


@each_kind
@pytest.mark.parametrize("count", [0, 1, 5])
def test_parse_batch_gives_shapes_dtypes_and_values(spec, count):
    assert_parsed(example.parse_batch(records_of(spec, count=count), spec), spec, count=count)


@each_kind
def test_parse_batch_inside_tf_data_knows_the_shape_and_gives_the_same(spec):
    dataset = tf.data.Dataset.from_tensor_slices(records_of(spec, count=5)).batch(3)
    dataset = dataset.map(lambda records: example.parse_batch(records, spec))
    assert dataset.element_spec[spec.feature].shape.as_list() == [None, *spec.shape]
    assert dataset.element_spec[spec.feature].dtype == tf.as_dtype(spec.stored_dtype)
    assert dataset.element_spec["label"].dtype == tf.int64
    batches = list(dataset)
    assert [len(batch["id"]) for batch in batches] == [3, 2]
    assert_parsed(batches[0], spec, count=3)


@each_kind
def test_half_a_feature_does_not_pair_up_with_its_neighbour(spec):
    half = values_of(spec).tobytes()[: spec.num_bytes // 2 // 4 * 4]
    records = tf.constant([encode(name=spec.feature, value=half)] * 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="requested shape"):
        example.parse_batch(records, spec)


def test_a_record_without_the_feature_is_refused_by_its_name():
    with pytest.raises(tf.errors.InvalidArgumentError, match="log_mel"):
        example.parse_batch(tf.constant([encode()]), SMALL["log_mel"])
