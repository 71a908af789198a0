"""Shards -> shuffled, batched, prefetched tf.data.

>>> next(iter(training_batches(info, batch_size=64, seed=0)))
(<tf.Tensor: shape=(64, 98, 257), dtype=float16, ...>, <tf.Tensor: shape=(64,), dtype=int64, ...>)
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kws_model import tfrecord
from kws_model.dataset_info import DatasetInfo
from kws_model.example import parse_batch
from kws_model.feature_spec import FeatureSpec

if TYPE_CHECKING:
    import tensorflow as tf

# On two busy cores this read 26,000-36,000 clips/s (42 us of CPU each) where decoding WAVs and an
# FFT inside tf.data did 3,600-5,800 (300 us). 2 to 16 shards at a time and buffers of 0.25 to 8 MB
# measured the same from a warm disk; several shards hide the latency of a cold one.
CYCLE_LENGTH = 4
READ_BUFFER_BYTES = 1 << 20
# Clips are shuffled at rest already (the order inside a split is that of a hash): this buffer and
# the order of the shards only have to make epochs differ. 10 to 200 MB measured the same.
SHUFFLE_BUFFER_BYTES = 100_000_000


def training_batches(
    info: DatasetInfo, *, batch_size: int, seed: int, cache: bool = False
) -> tf.data.Dataset:
    """The training split, in another order at each iteration.

    Args:
      info: the dataset.
      batch_size: clips in a batch, over all replicas. What is left over at the end of an epoch,
        other clips each time, is dropped: a replica without clips spoils the mean of the gradients.
      seed: the same seed, after the same `tf.random.set_seed`, gives the same batches, epoch by
        epoch.
      cache: keep the serialized records in memory; the buffer then holds them all.

    Returns:
      A dataset of (feature in `spec.stored_dtype` [batch_size, *spec.shape],
      label int64 [batch_size]); its length is known.

    Raises:
      ValueError: the split has no clips, or fewer than a batch.
    """
    import tensorflow as tf

    num_examples = info.num_examples("train")
    check_batch_size(info, batch_size)
    paths = tf.data.Dataset.from_tensor_slices(shard_paths(info, "train"))
    records = paths.shuffle(len(paths), seed=seed).interleave(
        _read_shard, cycle_length=CYCLE_LENGTH, num_parallel_calls=CYCLE_LENGTH, deterministic=True
    )
    buffer_size = min(num_examples, 1 + SHUFFLE_BUFFER_BYTES // info.spec.num_bytes)
    if cache:
        records, buffer_size = records.cache(), num_examples  # shares the cached bytes
    batches = (
        records.shuffle(buffer_size, seed=seed)
        .batch(batch_size, drop_remainder=True)
        .map(functools.partial(_parse_pair, spec=info.spec), num_parallel_calls=tf.data.AUTOTUNE)
    )
    return _finish(batches, num_batches=num_examples // batch_size)


def check_batch_size(info: DatasetInfo, batch_size: int) -> None:
    """Raises ValueError if the training split has fewer clips than a batch."""
    num_examples = info.num_examples("train")
    if num_examples < batch_size:
        raise ValueError(
            f"split 'train' of {info.folder} has {num_examples} clips, fewer than one batch: "
            f"lower --batch_size ({batch_size})"
        )


def evaluation_batches(info: DatasetInfo, split: str, *, batch_size: int) -> tf.data.Dataset:
    """Every clip of a split exactly once, in the order of the files; the last batch may be short.

    Returns:
      A dataset of the dicts of `kws_model.example.parse_batch`; its length is known.

    Raises:
      ValueError: the split has no clips.
    """
    return _finish(
        _file_order(info, split, batch_size=batch_size).map(
            functools.partial(parse_batch, spec=info.spec), num_parallel_calls=2
        ),
        num_batches=-(-info.num_examples(split) // batch_size),
    )


def validation_batches(info: DatasetInfo, *, batch_size: int) -> tf.data.Dataset:
    """Every clip of the validation split exactly once, in full batches that replicas can share.

    Returns:
      A dataset of (feature in `spec.stored_dtype` [batch_size, *spec.shape],
      label int64 [batch_size], weight float32 [batch_size]). The weight is 1, and 0 for the copies
      of the first clip that fill up the last batch.

    Raises:
      ValueError: the split has no clips.
    """
    import tensorflow as tf

    num_batches = -(-info.num_examples("validation") // batch_size)
    fill = num_batches * batch_size - info.num_examples("validation")
    records = tf.data.TFRecordDataset(shard_paths(info, "validation"))
    batches = (
        records.map(lambda record: (record, 1.0))
        .concatenate(records.take(1).repeat(fill).map(lambda record: (record, 0.0)))
        .batch(batch_size, drop_remainder=True)
        .map(
            lambda records, weights: (*_parse_pair(records, info.spec), weights),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    )
    return _finish(batches, num_batches=num_batches)


@contextlib.contextmanager
def readable_errors(info: DatasetInfo, *splits: str) -> Iterator[None]:
    """Turns TensorFlow's errors about damaged shards into a ValueError that names the file.

    TensorFlow says at which byte a record is damaged, and not of which file: on such an error the
    shards of the splits are read once more, without TensorFlow, up to the damaged record.
    """
    import tensorflow as tf

    damage = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError)
    try:
        yield
    except (*damage, tf.errors.FailedPreconditionError) as error:
        for split in splits:
            for shard in info.split_shards(split):
                path = str(info.folder / shard.filename)
                count = sum(1 for _ in tfrecord.read_records(path))  # raises ValueError
                if count != shard.num_examples:
                    raise ValueError(
                        f"{path} has {count} records, not {shard.num_examples}: "
                        "make the dataset again"
                    ) from error
        raise


def shard_paths(info: DatasetInfo, split: str) -> list[str]:
    """The paths of a split's shards, in order; raises as `DatasetInfo.split_shards`."""
    return [str(info.folder / shard.filename) for shard in info.split_shards(split)]


def _file_order(info: DatasetInfo, split: str, *, batch_size: int) -> tf.data.Dataset:
    """Batches of serialized records, string [batch], shard after shard."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset(shard_paths(info, split), buffer_size=READ_BUFFER_BYTES)
    return records.batch(batch_size)


def _finish(batches: tf.data.Dataset, *, num_batches: int) -> tf.data.Dataset:
    """States the length, reads ahead and leaves the shards undivided: there is one host."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return (
        batches.apply(tf.data.experimental.assert_cardinality(num_batches))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def _read_shard(path: tf.Tensor) -> tf.data.Dataset:
    import tensorflow as tf

    return tf.data.TFRecordDataset(path, buffer_size=READ_BUFFER_BYTES)


def _parse_pair(records: tf.Tensor, spec: FeatureSpec) -> tuple[tf.Tensor, tf.Tensor]:
    example = parse_batch(records, spec)
    return example[spec.feature], example["label"]
