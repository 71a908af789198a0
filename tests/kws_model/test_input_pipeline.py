import collections

import numpy as np
import pytest

from kws_model import example, input_pipeline, tfrecord
from tests.kws_model.datasets import LABELS, damage, write_dataset


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("input") / "tiny")


def stored(info, split):
    """Every feature of a split in file order, without TensorFlow."""
    return [
        example.decode_feature(record, info.spec)
        for path in input_pipeline.shard_paths(info, split)
        for record in tfrecord.read_records(path)
    ]


def prints(batches):
    """What tells a batch from another: the first value of each of its clips."""
    return [tuple(feature.numpy()[:, 0, 0]) for feature, _ in batches]


def test_evaluation_gives_every_clip_once_in_file_order(info):
    batches = list(input_pipeline.evaluation_batches(info, "validation", batch_size=3))

    assert [len(batch["label"]) for batch in batches] == [3, 3, 1]
    ids = [name.decode() for batch in batches for name in batch["id"].numpy()]
    assert ids == [f"validation/{number}" for number in range(7)]
    features = np.concatenate([batch["mfcc"].numpy() for batch in batches])
    np.testing.assert_array_equal(features, stored(info, "validation"))


def test_validation_fills_up_the_last_batch_with_weightless_clips(info):
    batches = list(input_pipeline.validation_batches(info, batch_size=4))

    weights = np.concatenate([weight.numpy() for _, _, weight in batches])
    assert weights.tolist() == [1, 1, 1, 1, 1, 1, 1, 0]
    features = np.concatenate([feature.numpy() for feature, _, _ in batches])
    np.testing.assert_array_equal(features[weights > 0], stored(info, "validation"))


def test_training_gives_full_batches_in_the_stored_type(info):
    batches = input_pipeline.training_batches(info, batch_size=5, seed=0)

    assert len(batches) == 4  # of 24 clips
    assert [(feature.shape, feature.dtype.name) for feature, _ in batches] == [
        ((5, 98, 13), "float16")
    ] * 4
    assert {int(label) for _, labels in batches for label in labels} == set(range(len(LABELS)))


@pytest.mark.parametrize("cache", [False, True])
def test_training_reads_every_clip_once_an_epoch(info, cache):
    batches = input_pipeline.training_batches(info, batch_size=4, seed=0, cache=cache)

    expected = collections.Counter(float(feature[0, 0]) for feature in stored(info, "train"))
    for _ in range(2):
        seen = collections.Counter(float(value) for batch in prints(batches) for value in batch)
        assert seen == expected


@pytest.mark.parametrize("cache", [False, True])
def test_epochs_differ_and_a_seed_repeats_them(info, cache):
    def epochs(seed):
        batches = input_pipeline.training_batches(info, batch_size=4, seed=seed, cache=cache)
        return [prints(batches) for _ in range(3)]

    first, second, third = epochs(seed=1)
    assert first != second != third != first
    assert epochs(seed=1) == [first, second, third]
    assert epochs(seed=2)[0] != first


def test_fewer_clips_than_a_batch_is_an_error(info):
    with pytest.raises(ValueError, match=r"'train' of .* has 24 clips, fewer .* --batch_size \(32"):
        input_pipeline.training_batches(info, batch_size=32, seed=0)


def test_a_split_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path):
    info = write_dataset(tmp_path / "tiny", shards={"train": (4,), "validation": (2,)})

    with pytest.raises(ValueError, match="no clips in split 'test'; it has: train, validation"):
        input_pipeline.evaluation_batches(info, "test", batch_size=2)


def test_a_damaged_shard_is_named_with_the_byte(tmp_path):
    info = write_dataset(tmp_path / "tiny")
    damaged = tmp_path / "tiny" / "tiny-train.tfrecord-00001-of-00002"
    damage(damaged)

    with (
        pytest.raises(ValueError, match=rf"{damaged.name}: the record at byte \d+ is damaged"),
        input_pipeline.readable_errors(info, "train"),
    ):
        list(input_pipeline.training_batches(info, batch_size=4, seed=0))


def test_a_shard_with_too_few_records_is_named(tmp_path):
    info = write_dataset(tmp_path / "tiny")
    short = tmp_path / "tiny" / "tiny-test.tfrecord-00000-of-00001"
    records = list(tfrecord.read_records(str(short)))
    short.write_bytes(b"".join(piece for r in records[:2] for piece in tfrecord.frame([r])))

    with (
        pytest.raises(ValueError, match=rf"{short.name} has 2 records, not 4"),
        input_pipeline.readable_errors(info, "test"),
    ):
        list(input_pipeline.evaluation_batches(info, "test", batch_size=1))
