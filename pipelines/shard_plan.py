"""How many shards, which recording in which, in what order: nothing but counts and hashes.

>>> make_plan([(("train", "go"), 3000)], sizing=Sizing(), clip_bytes=50_500).num_shards
{'train': 9}
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator

from kws_model.dataset_info import SPLITS

EXCLUDED = "excluded"  # Recordings that no split takes: rows in the manifest, no TFRecords.
EXCLUDED_ROWS_PER_PART = 100_000

# Small datasets still get some shards, to share out among workers and to interleave when reading.
LEAST_SHARDS = 16
LEAST_SHARD_BYTES = 8_000_000

ShardKey = tuple[str, int]  # split, index


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizing:
    """How large shards are."""

    num_shards: int | None = None
    """Shards of the training split; the others get theirs in proportion. Overrides --shard_mb."""

    shard_mb: float = 128.0
    """The most megabytes in a shard, about; small datasets get more, smaller shards."""

    def __post_init__(self) -> None:
        if self.num_shards is not None and not 1 <= self.num_shards <= 99_999:
            raise ValueError(f"--num_shards must be from 1 to 99999; got {self.num_shards}")
        if not self.shard_mb > 0:
            raise ValueError(f"--shard_mb must be positive; got {self.shard_mb}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The shape of a dataset, known once its names are counted."""

    labels: tuple[str, ...]
    num_shards: dict[str, int]
    num_clips: dict[str, int]

    def shard_keys(self) -> Iterator[ShardKey]:
        """Every shard, those that no recording will fall into as well."""
        for split, count in self.num_shards.items():
            yield from ((split, index) for index in range(count))

    def shard_of(self, split: str, order: int) -> ShardKey:
        """The shard of a recording whose `order_key` is given: equal stretches of the hash's range.

        Shards read one after another therefore give one order, however many there are.
        """
        return split, order * self.num_shards[split] >> 64


def order_key(clip_id: str, seed: int) -> int:
    """Where a recording stands in its split: 64 bits of a hash, uniform, so order is shuffled."""
    return int.from_bytes(hashlib.sha256(f"order/{seed}/{clip_id}".encode()).digest()[:8])


def make_plan(
    counts: Iterable[tuple[tuple[str, str], int]], *, sizing: Sizing, clip_bytes: int
) -> Plan:
    """Plans shards from the clips counted per (split, label); `clip_bytes` is one record's size.

    Raises:
      ValueError: no recording is in any split, or there would be over 99,999 shards.
    """
    by_split = dict.fromkeys((*SPLITS, EXCLUDED), 0)
    labels = set()
    for (split, label), count in counts:
        by_split[split] += count
        if split != EXCLUDED:
            labels.add(label)
    if not labels:
        raise ValueError(f"none of the {by_split[EXCLUDED]} recordings has a label and a split")
    num_shards = {split: _num_shards(by_split, split, sizing, clip_bytes) for split in by_split}
    if max(num_shards.values()) > 99_999:
        raise ValueError(f"{max(num_shards.values())} shards are too many: raise --shard_mb")
    return Plan(labels=tuple(sorted(labels)), num_shards=num_shards, num_clips=by_split)


def _num_shards(by_split: dict[str, int], split: str, sizing: Sizing, clip_bytes: int) -> int:
    clips = by_split[split]
    if not clips:
        return 0
    if split == EXCLUDED:
        return -(-clips // EXCLUDED_ROWS_PER_PART)
    if sizing.num_shards is not None:
        return max(1, round(sizing.num_shards * clips / (by_split["train"] or clips)))
    split_bytes = clips * clip_bytes
    fewest = -(-split_bytes // round(sizing.shard_mb * 1_000_000))
    return int(max(fewest, min(LEAST_SHARDS, split_bytes // LEAST_SHARD_BYTES), 1))
