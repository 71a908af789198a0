import itertools

import numpy as np
import pytest

from kws_model.feature_spec import FeatureSpec
from pipelines import noise
from pipelines.classes import ClassRule, classify, draw, share_out, silence, silences
from pipelines.corpus import Recording
from pipelines.shard_plan import EXCLUDED, Sizing, make_plan
from tests.pipelines.recordings import tone, wav_bytes

COUNTS = [
    (("train", "yes"), 700),
    (("train", "no"), 300),
    (("train", "bed"), 4000),
    (("train", "cat"), 1000),
    (("validation", "yes"), 80),
    (("validation", "no"), 20),
    (("validation", "bed"), 5),
    ((EXCLUDED, ""), 6),
]
NOISES = [Recording("n/b.wav", "/n/b.wav", ""), Recording("n/a.wav", "/n/a.wav", "")]
TWELVE = ClassRule(wanted_words=("yes", "no"), unknown_percent=10, silence_percent=20)


def plan(rule: ClassRule, *, counts=COUNTS, noises=NOISES):
    shares = share_out(counts, rule, noises=noises, source="/corpus")
    return make_plan(shares, sizing=Sizing(), clip_bytes=1000)


def recording(number: int, word: str, split: str = "train") -> Recording:
    return Recording(f"{word}/{number}.wav", f"/{word}/{number}.wav", word, split=split)


def test_every_word_is_a_class_by_default_in_alphabetical_order():
    made = plan(ClassRule())
    assert made.labels == ("bed", "cat", "no", "yes")
    assert made.num_words == {"train": 6000, "validation": 105, "test": 0}
    assert classify(recording(1, "cat"), made, seed=0).label == "cat"


def test_wanted_words_come_in_the_order_given_after_silence_and_unknown():
    made = plan(TWELVE)
    assert made.labels == ("_silence_", "_unknown_", "yes", "no")
    assert made.num_silences == {"train": 200, "validation": 20, "test": 0}
    assert made.num_words == {"train": 1100, "validation": 105, "test": 0}  # 5 of 10 are all
    assert made.unknown_fraction == {"train": 0.02, "validation": 1.0, "test": 0.0}
    assert made.noises == (("n/a.wav", "/n/a.wav"), ("n/b.wav", "/n/b.wav"))


def test_unknown_is_drawn_evenly_from_the_other_words_and_keeps_what_is_said():
    made = plan(TWELVE)
    others = [recording(number, word) for word in ("bed", "cat") for number in range(9000)]
    classed = [classify(other, made, seed=0) for other in others]
    drawn = [r for r in classed if r.label == "_unknown_"]
    assert len(drawn) == pytest.approx(360, abs=60)  # 2 %, within three standard deviations
    assert {r.word for r in drawn} == {"bed", "cat"}
    left = [r for r in classed if r.label != "_unknown_"]
    assert {(r.split, r.exclusion) for r in left} == {(EXCLUDED, "not_sampled")}


def test_what_is_drawn_depends_on_the_seed_and_the_id_alone():
    rule = ClassRule(wanted_words=("yes",), unknown_percent=10)
    made = plan(rule, counts=[(("train", "yes"), 10), (("train", "bed"), 2)])
    ids = [recording(number, "bed") for number in range(50)]
    first = [classify(r, made, seed=0).label for r in ids]
    assert [classify(r._replace(path="/x", speaker="y"), made, seed=0).label for r in ids] == first
    assert [classify(r, made, seed=1).label for r in ids] != first
    assert set(first) == {"_unknown_", "bed"}


def test_without_unknown_the_other_words_are_not_wanted():
    made = plan(ClassRule(wanted_words=("yes",)))
    assert classify(recording(1, "bed"), made, seed=0).exclusion == "not_wanted"
    assert classify(recording(1, "yes"), made, seed=0).split == "train"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"wanted_words": ("yes", "maybe")},
            "/corpus has no recordings of maybe; it has: bed",
        ),
        (
            {"silence_percent": 1.0},
            "--silence_percent needs recordings in /corpus/_background",
        ),
        ({"unknown_percent": 1.0}, "--unknown_percent needs --wanted_words"),
        ({"wanted_words": ("no", "no")}, "--wanted_words names a word twice"),
        ({"silence_percent": -1.0}, "must not be negative"),
    ],
)
def test_rules_that_the_corpus_cannot_meet_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        plan(ClassRule(**rule), noises=[])


def test_silences_are_numbered_names_for_each_split():
    names = list(silences(plan(TWELVE), seed=0))
    assert len(names) == 220
    assert len({name.id for name in names}) == 220
    assert {name.path for name in names} == {"/n/a.wav", "/n/b.wav"}
    assert {name.label for name in names} == {name.word for name in names} == {"_silence_"}


# SHA-256 of what/seed/id: a change would draw other clips for every dataset.
def test_draws_are_pinned():
    assert draw("unknown", 0, "go/a.wav") == pytest.approx(0.39066105563497067, abs=1e-12)


@pytest.fixture
def ramp(tmp_path) -> str:
    """Noise whose every sample tells where it was: 0 to 32,000 over ten seconds."""
    path = tmp_path / "ramp.wav"
    path.write_bytes(wav_bytes(np.linspace(0, 32_000, 160_000).astype(np.int16)))
    return str(path)


@pytest.mark.parametrize("split", list(noise.STRETCHES))
def test_no_two_splits_hear_the_same_stretch_of_noise(ramp, split):
    low, high = noise.STRETCHES[split]
    pieces = [noise.excerpt(ramp, split, where, 16_000, 4_000) for where in (0.0, 0.3, 1.0)]
    heard = np.concatenate(pieces) * 32768 / 32_000
    assert low - 1e-3 <= heard.min()
    assert heard.max() <= high + 1e-3
    assert [len(piece) for piece in pieces] == [4_000] * 3


def test_stretches_are_disjoint():
    bounds = sorted(noise.STRETCHES.values())
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(bounds))


def test_noise_shorter_than_a_clip_is_repeated(tmp_path):
    path = tmp_path / "short.wav"
    path.write_bytes(wav_bytes(np.arange(100, dtype=np.int16)))
    piece = noise.excerpt(str(path), "validation", 0.5, 16_000, 25) * 32768
    assert piece.tolist() == [*range(80, 90), *range(80, 90), *range(80, 85)]


def test_silence_is_noise_at_a_gain_below_one_and_pure_in_seed_and_id(tmp_path):
    path = tmp_path / "hum.wav"
    path.write_bytes(wav_bytes(tone("hum", num_samples=160_000)))
    spec = FeatureSpec()
    names = [Recording(f"_silence_/train/{i}", str(path), "_", split="train") for i in (1, 2, 1)]
    clips = [silence(name, spec, seed=0) for name in names]
    np.testing.assert_array_equal(clips[0], clips[2])
    assert not np.array_equal(clips[0], clips[1])
    loudest = float(np.abs(tone("hum", num_samples=160_000)).max()) / 32768
    assert all(0 < np.abs(clip).max() < loudest for clip in clips)
