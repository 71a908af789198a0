import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.shard_plan import EXCLUDED, Sizing, make_plan, order_key


def plan(counts, *, clip_bytes=50_000, **sizing):
    return make_plan(counts.items(), sizing=Sizing(**sizing), clip_bytes=clip_bytes)


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
    assert plan({("train", "go"): clips}).num_shards["train"] == shards


def test_shard_mb_bounds_a_shard():
    assert plan({("train", "go"): 40_000}, shard_mb=10).num_shards["train"] == 200


def test_num_shards_is_for_training_and_the_others_are_in_proportion():
    counts = {("train", "go"): 800, ("validation", "go"): 100, ("test", "go"): 1}
    assert plan(counts, num_shards=24).num_shards == {
        "train": 24,
        "validation": 3,
        "test": 1,
        EXCLUDED: 0,
    }


def test_labels_are_sorted_and_those_of_excluded_recordings_left_out():
    made = plan({("train", "up"): 1, ("test", "go"): 1, (EXCLUDED, ""): 1})
    assert made.labels == ("go", "up")
    assert set(made.shard_keys()) == {("train", 0), ("test", 0), (EXCLUDED, 0)}


def test_nothing_to_make_is_refused():
    with pytest.raises(ValueError, match="none of the 3 recordings has a label and a split"):
        plan({(EXCLUDED, ""): 3})


@pytest.mark.parametrize(
    ("sizing", "message"),
    [
        ({"num_shards": 0}, "--num_shards must be from 1"),
        ({"num_shards": 100_000}, "--num_shards must be from 1"),
        ({"shard_mb": 0}, "--shard_mb must be positive"),
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
    made = plan({("train", "go"): 100}, num_shards=shards)
    in_order = [made.shard_of("train", order)[1] for order in sorted(orders)]
    assert in_order == sorted(in_order)
    assert all(0 <= index < shards for index in in_order)


def test_shards_are_about_equally_full():
    made = plan({("train", "go"): 10_000}, num_shards=10)
    keys = (made.shard_of("train", order_key(f"go/{number}", 0)) for number in range(10_000))
    sizes = [len(list(group)) for _, group in itertools.groupby(sorted(keys))]
    assert len(sizes) == 10
    assert min(sizes) > 900
