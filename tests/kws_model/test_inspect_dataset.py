import base64
import dataclasses
import io
import pathlib
import re
import subprocess
import sys
from collections import Counter

import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest
import xxhash

from kws_model import card_examples, card_html, cli, example, inspect_dataset, tfrecord
from kws_model.dataset_info import SPLITS, DatasetInfo, Shard, shard_filename
from kws_model.feature_spec import FeatureSpec
from pipelines import manifest
from tests.kws_model.datasets import damage
from tests.pipelines.recordings import tone, wav_bytes

SPEC = FeatureSpec(feature="mfcc")  # 98 x 13: the smallest picture
SOURCE = "/recordings"
NOT_MADE = ("rejected", "excluded")


def content_hash(content: str) -> bytes:
    return xxhash.xxh3_128_digest(content.encode())


def clip(name: str, split: str = "train", **fields) -> manifest.Row:
    """A row of WORD/NAME in the corpus, made unless its `status` says otherwise."""
    word = name.partition("/")[0]
    row = manifest.Row(
        id=name, path=f"{SOURCE}/{name}", label=word, word=word, speaker=name, split=split,
        status="made", content_xxh3=content_hash(name), sample_rate_hz=16_000,
        num_channels=1, container="WAV", encoding="PCM_16", num_samples=16_000, seconds=1.0,
        truncated=False, resampled=False, mixed_down=False, padded=False, trimmed=False,
        peak_dbfs=-6.0, rms_dbfs=-20.0,
    )  # fmt: skip
    return row._replace(**fields)


def lost(name: str, status: str, reason: str, detail: str | None = None) -> manifest.Row:
    """A recording of which there is no record."""
    row = manifest.Row(
        id=name, path=f"{SOURCE}/{name}", label="go", word="go", speaker="",
        split="train" if status == "rejected" else "excluded", status=status,
    )  # fmt: skip
    return row._replace(reason=reason, detail=detail)


CLIPS = (
    *(clip(f"go/{i}") for i in range(4)),
    *(clip(f"stop/{i}") for i in range(4)),
    clip("go/v", "validation"),
    clip("stop/v", "validation"),
    clip("go/t", "test"),
    clip("stop/t", "test"),
)


def write(folder: pathlib.Path, rows, spec: FeatureSpec = SPEC) -> pathlib.Path:
    """A dataset with one shard per split, whose features are noise."""
    (folder / "manifest").mkdir(parents=True)
    labels = tuple(sorted({row.label for row in rows if row.status == "made"}))
    shards = []
    for split in (*SPLITS, "excluded"):
        mine = [row for row in rows if row.split == split]
        if split in SPLITS:
            shard, mine = write_shard(folder, split, mine, labels, spec)
            shards.append(shard)
        with open(folder / manifest.part_filename(split, 0), "wb") as file:
            manifest.write_part(file, mine)
    info = DatasetInfo(
        name="kws", spec=spec, labels=labels, shards=tuple(shards), account=account(rows),
        preparation={"source": SOURCE, "seed": 0, "splits": {"split": "random"}}, folder=folder,
    )  # fmt: skip
    for name, text in info.to_files().items():
        (folder / name).write_text(text)
    return folder


def write_shard(folder, split, rows, labels, spec) -> tuple[Shard, list[manifest.Row]]:
    name = shard_filename(name="kws", split=split, index=0, count=1)
    rng, placed, size = np.random.default_rng(0), [], 0
    with open(folder / name, "wb") as file:
        for row in rows:
            if row.status == "made":
                feature = rng.normal(0, 1, spec.shape).astype(spec.stored_dtype)
                data = example.encode(
                    clip_id=row.id, speaker=row.speaker, word=row.word,
                    label=labels.index(row.label), name=spec.feature, value=feature.tobytes(),
                )  # fmt: skip
                row = row._replace(shard=name, offset=size)
                size += sum(file.write(piece) for piece in tfrecord.frame(data))
            placed.append(row)
    count = sum(row.status == "made" for row in placed)
    shard = Shard(
        split=split, index=0, filename=name, num_examples=count, num_bytes=size, xxh3_128=""
    )
    return shard, placed


def account(rows) -> dict:
    made = [row for row in rows if row.status == "made"]
    return {
        "splits": {s: Counter(row.label for row in made if row.split == s) for s in SPLITS},
        **{s: Counter(row.reason for row in rows if row.status == s) for s in NOT_MADE},
    }


@dataclasses.dataclass(frozen=True)
class Card:
    said: str  # in the terminal, wrapping undone
    page: str

    @property
    def warnings(self) -> list[str]:
        return re.findall(r"^WARNING +(.*)$", self.said, re.MULTILINE)

    @property
    def notes(self) -> list[str]:
        return re.findall(r"^note +(.*)$", self.said, re.MULTILINE)


@pytest.fixture
def inspect(tmp_path, capsys):
    """Writes a dataset of some rows, inspects it, and returns what is said of it."""

    def inspect_rows(*rows, spec=SPEC, **options) -> Card:
        folder = write(tmp_path / "dataset", rows, spec)
        inspect_dataset.run(inspect_dataset.Options(dataset=str(folder), **options))
        said = capsys.readouterr().out.replace("\n" + " " * 9, " ")
        return Card(said, (folder / "data_card.html").read_text("utf-8"))

    return inspect_rows


# ---------------------------------------------------------------------------------------- counts


def test_every_recording_is_accounted_for(inspect):
    card = inspect(
        *CLIPS,
        lost("go/bad", "rejected", "bad_header", "0 bits per sample"),
        lost("_background_noise_/tap", "excluded", "background_noise"),
    )
    assert "14 found = 12 made + 1 rejected + 1 excluded" in card.said
    assert "14 found = 12 made + 1 rejected + 1 excluded" in card.page
    assert re.search(r"clips +8 +2 +2\n", card.said)
    for seen in ("/recordings/go/bad", "0 bits per sample", "_background_noise_/tap"):
        assert seen in card.page
    assert card.warnings == []
    assert card.notes == ["Rejected: 1 of 13 recordings (7.7%), bad_header."]
    assert "No leak found" in card.page


def test_copies_and_silence_are_counted_apart_and_are_no_leak(inspect):
    original = CLIPS[0]
    copies = [original._replace(id=f"go/0#{i}", copy=i, padded=True) for i in (1, 2)]
    noise = clip("_silence_/1", path="/recordings/_background_noise_/tap", speaker="")
    silence = [noise, noise._replace(id="_silence_/2", split="validation")]
    card = inspect(*CLIPS, *copies, *silence)
    assert "12 found + 4 generated = 16 made" in card.said
    assert card.warnings == []
    assert "padded" not in card.said
    assert card.notes == ["The test split has no clips of _silence_."]


def test_repairs_are_counted_by_split(inspect):
    card = inspect(*CLIPS, clip("go/a", padded=True), clip("go/b", "test", padded=True))
    assert re.search(r"padded +1 +0 +1\n", card.said)


def test_silence_full_scale_and_what_lies_beyond_are_counted(inspect):
    card = inspect(
        *CLIPS,
        clip("go/silent", peak_dbfs=-np.inf, rms_dbfs=-np.inf),
        clip("go/clipped", peak_dbfs=-0.0003),  # 32767 of 32768
        clip("go/just_below", peak_dbfs=-0.01),
        clip("go/loud", peak_dbfs=66.5, encoding="FLOAT"),
    )
    assert "1 silent, 1 at 0 dBFS, 1 beyond" in card.said
    assert "Digital silence: 1 clip." in card.notes
    assert "Beyond 0 dBFS: 1 clip, up to +66.5 dBFS." in card.notes
    assert "/recordings/go/loud" in card.page


def test_a_label_that_a_split_lacks_is_noted(inspect):
    card = inspect(*CLIPS, clip("yes/1"))
    assert "The test split has no clips of yes." in card.notes


# ----------------------------------------------------------------------------------------- leaks


def test_identical_recordings_in_two_splits_are_a_warning_with_their_paths(inspect):
    card = inspect(*CLIPS, clip("go/twin", "test", content_xxh3=CLIPS[0].content_xxh3))
    (warning,) = card.warnings
    assert warning.startswith(
        "2 clips in 1 group of byte-identical recordings are in more than one split"
    )
    assert warning in card.page
    assert "/recordings/go/0" in card.page and "/recordings/go/twin" in card.page


def test_identical_recordings_with_two_labels_are_a_warning(inspect):
    card = inspect(*CLIPS, clip("stop/twin", content_xxh3=CLIPS[0].content_xxh3))
    (warning,) = card.warnings
    assert "1 group of byte-identical recordings have different labels" in warning


def test_identical_recordings_of_one_split_and_label_are_only_counted(inspect):
    card = inspect(*CLIPS, clip("go/twin", content_xxh3=CLIPS[0].content_xxh3))
    assert card.warnings == []
    assert "identical recordings: 2 clips in 1 group\n" in card.said
    assert "/recordings/go/twin" in card.page


def test_the_worst_groups_come_first_and_only_they_are_listed(inspect):
    harmless = [
        clip(f"go/{name}{i}", content_xxh3=content_hash(str(i)))
        for i in range(20)
        for name in "xyz"
    ]
    twin = clip("stop/twin", "test", content_xxh3=CLIPS[0].content_xxh3)
    card = inspect(*harmless, *CLIPS, twin)
    assert "groups shown: 10 of 21" in card.page
    assert card.page.index("/recordings/stop/twin") < card.page.index("/recordings/go/x")


def test_segments_of_one_file_in_two_splits_are_a_warning_of_their_own(inspect):
    whole = clip("go/long@0-1", path="/recordings/long.wav")
    card = inspect(*CLIPS, whole, whole._replace(id="go/long@1-2", split="test", speaker="b"))
    (warning,) = card.warnings
    assert warning.startswith("1 file with clips in more than one split (2 clips)")
    assert "identical recordings: 0 clips" in card.said


def test_speakers_in_two_splits_are_a_warning_and_unknown_ones_a_note(inspect):
    card = inspect(
        *CLIPS,
        clip("go/ann", speaker="ann"),
        clip("go/ann2", "test", speaker="ann"),
        clip("go/x", speaker=""),
        clip("go/y", "test", speaker=""),
    )
    (warning,) = card.warnings
    assert warning.startswith(
        "1 speaker in more than one split, with 10.0% of train, 0.0% of validation, 25.0% of test"
    )
    assert "Unknown speakers: 2 clips (12.5%), whose voices may cross splits unseen." in card.notes
    assert ">ann</td>" in card.page


# ------------------------------------------------------------------------------------------ page


def test_the_page_loads_nothing_and_runs_nothing(inspect, tmp_path):
    (tmp_path / "corpus/go").mkdir(parents=True)
    content = wav_bytes(tone("0"))
    (tmp_path / "corpus/go/0").write_bytes(content)
    first = CLIPS[0]._replace(content_xxh3=xxhash.xxh3_128_digest(content))
    card = inspect(first, *CLIPS[1:], corpus=str(tmp_path / "corpus"))
    references = re.findall(
        r"""(?:src|href|srcset|action|data|url)\s*[=(]\s*["']?(\w+)""", card.page
    )
    assert set(references) == {"data"}
    assert not re.search(r"https?:|[\"'(]//|@import|<script|<link|<iframe| on\w+=", card.page)


def test_every_string_of_the_data_is_escaped(inspect):
    evil = "<script>alert(1)</script>\"'&"
    name = f"{evil}/1"
    card = inspect(
        *CLIPS,
        clip(name, id=evil, speaker=evil, label=evil, container=evil, peak_dbfs=3.0),
        clip("go/2nd", "test", speaker=evil, content_xxh3=content_hash(name)),
        lost(evil, "rejected", evil, evil),
    )
    assert "<script" not in card.page
    assert "\"'&" not in card.page
    assert card.page.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;") >= 6


def test_the_same_dataset_is_the_same_page(tmp_path):
    folder = write(tmp_path / "dataset", CLIPS)
    pages = []
    for name in ("a.html", "b.html"):
        inspect_dataset.run(
            inspect_dataset.Options(dataset=str(folder), output=str(tmp_path / name))
        )
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize("feature", ["log_spectrogram", "log_mel", "mfcc", "waveform"])
def test_every_label_has_its_pictures(inspect, feature):
    card = inspect(*CLIPS, spec=FeatureSpec(feature=feature), examples_per_class=2)
    assert len(re.findall(r'class="feature', card.page)) == 2 * 2


def test_a_page_of_many_labels_stays_small(inspect):
    rows = [clip(f"word{i:02d}/{name}") for i in range(60) for name in "abc"]
    card = inspect(*rows, spec=FeatureSpec())
    assert len(re.findall(r'class="feature', card.page)) == card_examples.MAX_EXAMPLES
    assert all(f"<h3>word{i:02d}</h3>" in card.page for i in range(60))
    assert len(card.page) + card_examples.ALL_WAVS_BYTES * 4 / 3 < 3_000_000


def test_time_runs_to_the_right_and_frequency_up():
    spec = FeatureSpec()
    feature = np.zeros(spec.shape, np.float16)
    feature[:49, 200:] = 1  # the first half second, high
    (picture,) = card_examples.draw([feature], spec)
    image = decoded(picture).mean(axis=2)  # [rows, columns]
    rows, columns = image.shape
    high = round(rows * 57 / 257)
    assert image[: high - 1, : columns // 2 - 1].min() > 0.9
    assert image[high + 1 :].max() < 0.1 and image[:, columns // 2 + 1 :].max() < 0.1


def decoded(picture: str) -> np.ndarray:
    content = re.search(r"base64,([^\"]+)", picture)[1]
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(content)))[..., :3]


def test_a_picture_has_the_colours_of_its_codes():
    codes = np.array([[0, card_examples.PICTURE_COLORS - 1]], np.uint8)
    image = matplotlib.image.imread(io.BytesIO(card_examples.png(codes)))
    np.testing.assert_allclose(image[0, :, :3] * 255, [(0, 0, 4), (252, 253, 191)], atol=0.5)


def test_text_is_escaped_unless_it_was_made_here():
    assert card_html.tag("td", "<b>", card_html.tag("i", 1234)) == "<td>&lt;b&gt;<i>1,234</i></td>"


# ----------------------------------------------------------------------------------------- sound


def heard(card: Card) -> int:
    return len(re.findall(r"<audio", card.page))


@pytest.fixture
def corpus(tmp_path):
    """Recordings that are no longer where they were prepared from, and the rows that say so."""
    rows = []
    for row in CLIPS:
        content = wav_bytes(tone(row.id))
        path = tmp_path / "moved" / row.id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append(row._replace(content_xxh3=xxhash.xxh3_128_digest(content)))
    return tmp_path / "moved", rows


def test_recordings_that_moved_can_be_heard(inspect, corpus):
    folder, rows = corpus
    card = inspect(*rows, corpus=str(folder))
    assert heard(card) == 6
    assert "heard" not in card.page


def test_recordings_that_are_gone_are_named(inspect):
    card = inspect(*CLIPS)
    assert heard(card) == 0
    assert "/recordings/go/0 is not there; give --corpus" in card.page


def test_a_recording_that_is_another_by_now_is_not_played(inspect, corpus):
    folder, rows = corpus
    (folder / "go/0").write_bytes(wav_bytes(tone("another")))
    assert heard(inspect(*rows, corpus=str(folder))) == 5


def test_a_long_recording_is_left_out(inspect, corpus):
    folder, rows = corpus
    content = wav_bytes(tone("long", num_samples=card_examples.WAV_BYTES // 2))
    (folder / "go/0").write_bytes(content)
    rows[0] = rows[0]._replace(content_xxh3=xxhash.xxh3_128_digest(content))
    card = inspect(*rows, corpus=str(folder))
    assert heard(card) == 5
    assert "Not every recording can be heard" in card.page


# ---------------------------------------------------------------------------------------- errors


def without_part(folder):
    (folder / "manifest/part-train-00000.parquet").unlink()


def with_damaged_part(folder):
    path = folder / "manifest/part-train-00000.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def with_a_row_missing(folder):
    with open(folder / "manifest/part-test-00000.parquet", "wb") as file:
        manifest.write_part(file, [row for row in CLIPS if row.split == "test"][1:])


def with_damaged_record(folder):
    damage(folder / "kws-train.tfrecord-00000-of-00001")


def with_another_record(folder):
    path = folder / "kws-train.tfrecord-00000-of-00001"
    first, *others = tfrecord.read_records(str(path))
    swapped = [others[0], first, *others[1:]]
    path.write_bytes(b"".join(b"".join(tfrecord.frame([record])) for record in swapped))


def unfinished(folder):
    (folder / "dataset_info.json").unlink()


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (unfinished, "is unfinished"),
        (without_part, r"part-train-00000\.parquet is missing: run kws prepare --overwrite"),
        (with_damaged_part, r"part-train-00000\.parquet can't be read \(.*run kws prepare"),
        (with_a_row_missing, "has 11 recordings and kws prepare counted 12"),
        (with_damaged_record, "is damaged"),
        (with_another_record, "is not go/0, as the manifest says"),
    ],
)
def test_a_broken_dataset_is_one_line_and_leaves_no_page(tmp_path, capsys, breaks, message):
    folder = write(tmp_path / "dataset", CLIPS)
    breaks(folder)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["inspect", "--dataset", str(folder), "--examples_per_class", "4"])
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not list(folder.glob("*data_card*"))


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--output", "nowhere/card.html"], 1, r"nowhere/card\.html can't be written"),
        (["--output", "."], 1, "is a folder"),
        (["--corpus", "nowhere"], 2, "--corpus nowhere is not a folder"),
        (["--examples_per_class", "-1"], 2, "must not be negative; got -1"),
    ],
)
def test_wrong_flags_are_one_line(tmp_path, capsys, flags, status, message):
    folder = write(tmp_path / "dataset", CLIPS)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["inspect", "--dataset", str(folder), *flags])
    assert exit_.value.code == status
    assert re.search(message, capsys.readouterr().err)


def test_a_manifest_from_before_there_were_copies_is_read(tmp_path):
    folder = write(tmp_path / "dataset", CLIPS)
    for part in (folder / "manifest").iterdir():
        with pq.ParquetFile(part) as old:
            table = old.read()
        pq.write_table(table.drop_columns(["copy"]), part)
    inspect_dataset.run(inspect_dataset.Options(dataset=str(folder)))


def test_it_starts_without_tensorflow_beam_or_matplotlib(tmp_path):
    folder = write(tmp_path / "dataset", CLIPS)
    script = (
        "import sys; from kws_model import inspect_dataset as i; "
        f"i.run(i.Options(dataset={str(folder)!r})); "
        "print(sorted({'tensorflow', 'apache_beam', 'matplotlib', 'pipelines'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
