import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws_model.dataset_info import SPLITS
from pipelines.shard_plan import EXCLUDED, Shares, Sizing, make_plan, order_key


def plan(*, clip_bytes=50_000, excluded=0, unknown=0.0, silences=0, train_copies=0, **options):
    num_words = {split: options.pop(split, 0) for split in SPLITS}
    shares = Shares(
        labels=("go",),
        num_words=num_words,
        num_silences=dict.fromkeys(SPLITS, silences),
        unknown_fraction=dict.fromkeys(SPLITS, unknown),
        num_found=sum(num_words.values()) + excluded,
        noises=(),
    )
    sizing = Sizing(**options)
    return make_plan(shares, sizing=sizing, clip_bytes=clip_bytes, train_copies=train_copies)


@pytest.mark.parametrize(
    ("clips", "shards"),
    [
        (1, 1),  # 50 kB
        (159, 1),  # just under 8 MB
        (320, 2),  # 16 MB: two of 8 MB
        (3_000, 16),  # 150 MB: no fewer than 16
        (40_960, 16),  # 16 x 128 MB
        (40_961, 17),
        (1_000_000, 391),  # 50 GB in files of 128 MB
    ],
)
def test_shards_are_few_large_and_enough_to_share_out(clips, shards):
    assert plan(train=clips).num_shards["train"] == shards


def test_shard_mb_bounds_a_shard():
    assert plan(train=40_000, shard_mb=10).num_shards["train"] == 200


def test_num_shards_is_for_training_and_the_others_are_in_proportion():
    assert plan(train=800, validation=100, test=1, num_shards=24).num_shards == {
        "train": 24,
        "validation": 3,
        "test": 1,
        EXCLUDED: 0,
    }


def test_copies_and_silence_are_planned_for():
    made = plan(train=100, validation=10, silences=5, train_copies=2)
    assert made.num_clips == {"train": 305, "validation": 15, "test": 5}


@pytest.mark.parametrize(
    ("excluded", "unknown", "parts"),
    [(0, 0.0, 0), (0, 1.0, 0), (0, 0.99, 1), (1, 0.0, 1), (100_001, 0.5, 2)],
)
def test_excluded_recordings_have_parts_of_the_manifest_whenever_there_may_be_some(
    excluded, unknown, parts
):
    made = plan(train=1, excluded=excluded, unknown=unknown)
    assert made.num_shards[EXCLUDED] == parts
    assert set(made.shard_keys()) == {("train", 0), *((EXCLUDED, part) for part in range(parts))}


def test_nothing_to_make_is_refused():
    with pytest.raises(ValueError, match="none of the 3 recordings has a label and a split"):
        plan(excluded=3)


@pytest.mark.parametrize(
    ("sizing", "message"),
    [
        ({"num_shards": 0}, "--num_shards must be from 1"),
        ({"num_shards": 100_000}, "--num_shards must be from 1"),
        ({"shard_mb": 0}, "--shard_mb must be from 0.001"),
    ],
)
def test_impossible_sizes_are_refused(sizing, message):
    with pytest.raises(ValueError, match=message):
        Sizing(**sizing)


# SHA-256 of "order/<seed>/<id>": a change would move every recording of every dataset.
@pytest.mark.parametrize(
    ("clip_id", "seed", "key"),
    [("go/a.wav", 0, 8872752275107611141), ("go/a.wav", 1, 15203620247248178135)],
)
def test_order_is_pinned(clip_id, seed, key):
    assert order_key(clip_id, seed) == key


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.integers(1, 40))
def test_shards_in_turn_hold_the_order_of_the_hashes(orders, shards):
    made = plan(train=100, num_shards=shards)
    in_order = [made.shard_of("train", order)[1] for order in sorted(orders)]
    assert in_order == sorted(in_order)
    assert all(0 <= index < shards for index in in_order)


def test_shards_are_about_equally_full():
    made = plan(train=10_000, num_shards=10)
    keys = (made.shard_of("train", order_key(f"go/{number}", 0)) for number in range(10_000))
    sizes = [len(list(group)) for _, group in itertools.groupby(sorted(keys))]
    assert len(sizes) == 10
    assert min(sizes) > 900
