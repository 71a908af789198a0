import pytest

from pipelines.corpus import Recording, list_folder
from pipelines.splits import SplitRule, check_split_rule, speaker_percent
from tests.corpora import corpora_dir


def clip(name: str, *, split: str = "", speaker: str = "") -> Recording:
    return Recording(id=name, path=f"/corpus/{name}", label="go", split=split, speaker=speaker)


# From Speech Commands' published lists (the first is in neither): never to change.
@pytest.mark.parametrize(
    ("speaker", "split"),
    [("0132a06d", "train"), ("8b775397", "validation"), ("2aa787cf", "test"), ("ffa76c4a", "test")],
)
def test_speaker_hash_is_the_published_rule(speaker, split):
    name = f"{speaker}_nohash_0.wav"
    assert SplitRule().of(clip(f"go/{name}", speaker=speaker)) == split
    assert speaker_percent(name) == speaker_percent(speaker)


def test_a_speaker_is_in_one_split_whatever_the_word_and_the_take():
    rule = SplitRule()
    for speaker in (f"{number:08x}" for number in range(200)):
        names = (f"{word}/{speaker}_nohash_{take}.wav" for word in ("go", "up") for take in (0, 1))
        assert len({rule.of(clip(name, speaker=speaker)) for name in names}) == 1


def test_a_file_without_a_speaker_is_placed_by_its_whole_name_as_published():
    assert SplitRule().of(clip("go/x.wav")) == SplitRule().of(clip("stop/x.wav"))
    assert speaker_percent("x.wav") != speaker_percent("x")


@pytest.mark.parametrize(("validation", "test"), [(10, 10), (30, 0), (0, 0), (5, 40)])
def test_random_split_meets_its_fractions(validation, test):
    rule = SplitRule(split="random", validation_percent=validation, test_percent=test)
    splits = [rule.of(clip(f"go/{number}.wav"), seed=1) for number in range(20_000)]
    for split, percent in (("validation", validation), ("test", test)):
        assert splits.count(split) / 200 == pytest.approx(percent, abs=1.0)


def test_random_split_depends_on_the_seed_and_the_id_alone():
    rule = SplitRule(split="random", validation_percent=50, test_percent=0)
    clips = [clip(f"go/{number}.wav") for number in range(64)]
    first = [rule.of(recording, seed=1) for recording in clips]
    assert [rule.of(c._replace(path="/moved", speaker="x"), seed=1) for c in clips] == first
    assert [rule.of(recording, seed=2) for recording in clips] != first


def test_lists_are_followed_line_by_line(tmp_path):
    (tmp_path / "validation_list.txt").write_text("go/v.wav\ngo/absent.wav\n")
    (tmp_path / "testing_list.txt").write_text("go/t.wav\n")
    rule = SplitRule(split="lists")
    check_split_rule(rule, str(tmp_path), is_table=False)
    splits = [
        rule.of(Recording(name, f"{tmp_path}/go/{name}", "go"), root=str(tmp_path))
        for name in ("v.wav", "t.wav", "other.wav")
    ]
    assert splits == ["validation", "test", "train"]


def test_a_column_may_use_the_field_s_synonyms_or_be_empty():
    rule = SplitRule(split="column")
    splits = [rule.of(clip("x", split=s)) for s in ("train", "dev", "Testing", "val", "")]
    assert splits == ["train", "validation", "test", "validation", ""]
    with pytest.raises(ValueError, match="the table's split 'holdout' of x is none of train"):
        rule.of(clip("x", split="holdout"))


@pytest.mark.parametrize("shares", [(-1, 10), (60, 40), (100, 0), (float("nan"), 0)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="--validation_percent and --test_percent must be"):
        SplitRule(validation_percent=shares[0], test_percent=shares[1])


@pytest.mark.parametrize(
    ("split", "is_table", "message"),
    [
        ("column", False, "is for a table"),
        ("lists", False, "needs validation_list.txt"),
        ("lists", True, "needs validation_list.txt"),
    ],
)
def test_a_rule_that_the_input_cannot_serve_is_refused(tmp_path, split, is_table, message):
    with pytest.raises(ValueError, match=message):
        check_split_rule(SplitRule(split=split), str(tmp_path), is_table=is_table)


if CORPORA := corpora_dir():

    def test_speaker_hash_agrees_with_every_line_of_the_official_lists():
        rule, corpus = SplitRule(), CORPORA / "speech_commands_9"
        for filename, split in (
            ("validation_list.txt", "validation"),
            ("testing_list.txt", "test"),
        ):
            names = (corpus / filename).read_text().split()
            assert len(names) > 6000
            assert {rule.of(clip(name)) for name in names} == {split}

    def test_speaker_hash_and_the_lists_place_every_real_clip_alike():
        corpus = str(CORPORA / "speech_commands_9")
        clips = [recording for recording in list_folder(corpus) if not recording.exclusion]
        assert len(clips) == 5000
        by_list = SplitRule(split="lists")
        assert [SplitRule().of(c) for c in clips] == [by_list.of(c, root=corpus) for c in clips]
