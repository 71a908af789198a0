"""Tiny datasets, written without Beam."""

import pathlib

import numpy as np

from kws_model import example, tfrecord
from kws_model.dataset_info import DatasetInfo, Shard, shard_filename
from kws_model.feature_spec import FeatureSpec

SPEC = FeatureSpec(feature="mfcc")  # 98 x 13: the smallest picture
LABELS = ("no", "up", "yes")
# Clips of each shard.
SHARDS = {"train": (11, 13), "validation": (5, 2), "test": (4,)}


def write_dataset(
    folder: pathlib.Path,
    *,
    spec: FeatureSpec = SPEC,
    labels: tuple[str, ...] = LABELS,
    shards: dict[str, tuple[int, ...]] = SHARDS,
) -> DatasetInfo:
    """Clips named SPLIT/0, SPLIT/1 ..., whose labels take turns and tell in their features."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = []
    for split, sizes in shards.items():
        numbers = iter(range(sum(sizes)))
        for index, size in enumerate(sizes):
            name = shard_filename(name="tiny", split=split, index=index, count=len(sizes))
            with open(folder / name, "wb") as file:
                for _ in range(size):
                    number = next(numbers)
                    label = number % len(labels)
                    feature = rng.normal(label, 0.5, spec.shape).astype(spec.stored_dtype)
                    record = example.encode(
                        clip_id=f"{split}/{number}",
                        speaker=f"speaker {number // 2}",
                        word=labels[label],
                        label=label,
                        name=spec.feature,
                        value=feature.tobytes(),
                    )
                    file.writelines(tfrecord.frame(record))
            written.append(
                Shard(
                    split=split,
                    index=index,
                    filename=name,
                    num_examples=size,
                    num_bytes=(folder / name).stat().st_size,
                    xxh3_128="",
                )
            )
    info = DatasetInfo(
        name="tiny",
        spec=spec,
        labels=labels,
        shards=tuple(written),
        account={},
        preparation={},
        folder=folder,
    )
    for name, text in info.to_files().items():
        (folder / name).write_text(text)
    return info


def damage(path: pathlib.Path) -> None:
    """Flips one bit in the middle of a file: its size stays, a checksum no longer matches."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
