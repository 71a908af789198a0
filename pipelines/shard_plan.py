"""How many shards, which recording in which, in what order: nothing but counts and hashes.

>>> make_plan(shares, sizing=Sizing(), clip_bytes=50_500).num_shards
{'train': 16, 'validation': 3, 'test': 3, 'excluded': 1}
"""

import dataclasses
import hashlib
from collections.abc import Iterator

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
        if not 0.001 <= self.shard_mb <= 1e9:
            raise ValueError(f"--shard_mb must be from 0.001 to 1e9; got {self.shard_mb}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
    """What the counted names come to: the published numbers that decide what is drawn.

    `num_words` and `num_silences` are clips of each split; `unknown_fraction` is the chance that a
    word that is not wanted is drawn; `noises` are (id, path) of the background noises.
    """

    labels: tuple[str, ...]
    num_words: dict[str, int]
    num_silences: dict[str, int]
    unknown_fraction: dict[str, float]
    num_found: int
    noises: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Shares):
    """The shape of a dataset, known once its names are counted.

    `num_clips` is about how many records each split will have, copies included.
    """

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


def make_plan(shares: Shares, *, sizing: Sizing, clip_bytes: int, train_copies: int = 0) -> Plan:
    """Plans shards for the clips of each split; `clip_bytes` is one record's size.

    Raises:
      ValueError: no recording is in any split, or there would be over 99,999 shards.
    """
    if not sum(shares.num_words.values()):
        raise ValueError(f"none of the {shares.num_found:,} recordings has a label and a split")
    num_clips = {split: shares.num_words[split] + shares.num_silences[split] for split in SPLITS}
    num_clips["train"] += shares.num_words["train"] * train_copies
    num_shards = {split: _num_shards(num_clips, split, sizing, clip_bytes) for split in SPLITS}
    num_shards[EXCLUDED] = _num_excluded_parts(shares)
    if max(num_shards.values()) > 99_999:
        raise ValueError(f"{max(num_shards.values()):,} shards are too many: raise --shard_mb")
    return Plan(**vars(shares), num_shards=num_shards, num_clips=num_clips)


def _num_shards(num_clips: dict[str, int], split: str, sizing: Sizing, clip_bytes: int) -> int:
    clips = num_clips[split]
    if not clips:
        return 0
    if sizing.num_shards is not None:
        return max(1, round(sizing.num_shards * clips / (num_clips["train"] or clips)))
    split_bytes = clips * clip_bytes
    fewest = -(-split_bytes // round(sizing.shard_mb * 1_000_000))
    return int(max(fewest, min(LEAST_SHARDS, split_bytes // LEAST_SHARD_BYTES), 1))


def _num_excluded_parts(shares: Shares) -> int:
    """Parts of the manifest for recordings that no split takes: how many is not known exactly."""
    excluded = shares.num_found - sum(shares.num_words.values())
    drawn = any(0 < fraction < 1 for fraction in shares.unknown_fraction.values())
    return max(int(drawn), -(-excluded // EXCLUDED_ROWS_PER_PART))
