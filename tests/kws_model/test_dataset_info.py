"""What a dataset says of itself: TensorFlow Datasets and we read it, and damage has a name."""

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kws_model import example, tfrecord
from kws_model.dataset_info import DatasetInfo, Shard, check_labels, shard_filename
from kws_model.feature_spec import FeatureSpec
from tests.kws_model.datasets import write_dataset

SPECS = {
    "log_spectrogram": FeatureSpec(clip_ms=50),
    "log_mel": FeatureSpec(clip_ms=50, feature="log_mel", dtype="float32"),
    "mfcc": FeatureSpec(clip_ms=50, feature="mfcc"),
    "waveform": FeatureSpec(clip_ms=50, feature="waveform"),
}
SMALL = SPECS["mfcc"]
METADATA = ("dataset_info.json", "feature_spec.json", "preparation.json")


@pytest.fixture
def dataset(tmp_path) -> DatasetInfo:
    return write_dataset(tmp_path / "sc", spec=SMALL)


def info_of(**changes) -> DatasetInfo:
    """A dataset that is nowhere: 3 shards, of which the one for testing is empty."""
    sizes = [("train", 0, 5), ("train", 1, 4), ("test", 0, 0)]
    shards = [
        Shard(
            split=split,
            index=index,
            filename=shard_filename(name="kws", split=split, index=index, count=2),
            num_examples=size,
            num_bytes=100 * size,
            xxh3_128=f"{split}{index}",
        )
        for split, index, size in sizes
    ]
    info = DatasetInfo(
        name="kws",
        spec=FeatureSpec(),
        labels=("no", "yes"),
        shards=tuple(shards),
        account={"made": {"train": {"no": 5, "yes": 4}}, "rejected": {"too long": 1}},
        preparation={"seed": 0, "split": "speaker_hash"},
    )
    return dataclasses.replace(info, **changes)


# Written and read.


def test_the_files_are_those_of_tensorflow_datasets_and_two_of_ours():
    files = info_of().to_files()
    assert list(files) == [
        "features.json",
        "label.labels.txt",
        "feature_spec.json",
        "preparation.json",
        "dataset_info.json",  # last: it is what makes a dataset finished
    ]
    assert files["label.labels.txt"] == "no\nyes\n"
    # Numbers are strings, as protobuf's JSON has them. Changes only with TensorFlow Datasets.
    assert json.loads(files["dataset_info.json"]) == {
        "fileFormat": "tfrecord",
        "name": "kws",
        "version": "1.0.0",
        "splits": [
            {
                "name": "train",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": "900",
                "shardLengths": ["5", "4"],
            },
            {
                "name": "test",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": "0",
                "shardLengths": ["0"],
            },
        ],
    }


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_dataset_is_read_as_it_was_written(tmp_path, spec):
    info = write_dataset(tmp_path / "sc", spec=spec)
    assert DatasetInfo.read(tmp_path / "sc") == info
    assert DatasetInfo.read(str(tmp_path / "sc")).fingerprint == info.fingerprint


def test_what_was_counted_and_how_it_was_prepared_is_read_as_it_was_written(dataset):
    account = {"made": {"train": {"да": 5}}, "rejected": {"too long": 1}, "none": None}
    counted = dataclasses.replace(dataset, account=account, preparation={"seed": 7, "x": [1.5]})
    write_metadata(counted)
    assert DatasetInfo.read(dataset.folder) == counted


def write_metadata(info: DatasetInfo) -> None:
    for name, text in info.to_files().items():
        (info.folder / name).write_bytes(text.encode())


LABELS = ("#", "no way", "né", "sí\u2028señor", "да", "ゼロ", "🎤\x85\x1c")


def test_labels_may_be_any_line(tmp_path):
    info = write_dataset(tmp_path / "sc", spec=SMALL, labels=LABELS)
    assert DatasetInfo.read(info.folder).labels == LABELS
    builder = tfds.builder_from_directory(info.folder)
    assert builder.info.features["label"].num_classes == len(LABELS)
    assert builder.info.features["label"].str2int("да") == LABELS.index("да")


def test_labels_are_utf_8_whatever_the_locale(tmp_path):
    info = write_dataset(tmp_path / "sc", spec=SMALL, labels=LABELS)
    code = (
        "import locale, sys; from kws_model.dataset_info import DatasetInfo; "
        "print(locale.getpreferredencoding()); print(ascii(DatasetInfo.read(sys.argv[1]).labels))"
    )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    output = subprocess.check_output(
        [sys.executable, "-c", code, info.folder], env=os.environ | ascii_only, text=True
    )
    encoding, labels = output.splitlines()
    assert encoding.lower() not in ("utf-8", "utf8")
    assert labels == ascii(LABELS)


@pytest.mark.parametrize("label", ["", " ", "\t", "a\nb", "a\rb", "yes\n"])
def test_a_label_that_is_no_line_is_refused(label):
    # TensorFlow Datasets would read one class more or less, and shift those that follow.
    message = rf"^a label must be one line that is not blank; got {re.escape(repr(label))}$"
    with pytest.raises(ValueError, match=message):
        info_of(labels=("no", label)).to_files()


@pytest.mark.parametrize(
    ("index", "count", "expected"),
    [
        (0, 1, "kws-train.tfrecord-00000-of-00001"),
        (3, 26, "kws-train.tfrecord-00003-of-00026"),
        (99999, 100000, "kws-train.tfrecord-99999-of-100000"),
    ],
)
def test_shards_are_named_as_tensorflow_datasets_names_them(index, count, expected):
    assert shard_filename(name="kws", split="train", index=index, count=count) == expected


# TensorFlow Datasets.


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_tensorflow_datasets_reads_the_folder(tmp_path, spec):
    shards = {"train": (5, 3), "validation": (2,), "test": (1,)}
    info = write_dataset(tmp_path / "sc", spec=spec, labels=("нет", "yes"), shards=shards)
    builder = tfds.builder_from_directory(info.folder)
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert sizes == {"train": 8, "validation": 2, "test": 1}
    assert builder.info.splits["train"].shard_lengths == [5, 3]
    assert builder.info.features["label"].names == ["нет", "yes"]
    assert builder.info.features[spec.feature].shape == spec.shape
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    for split in shards:
        expected = [
            (example.decode(record), example.decode_feature(record, spec))
            for shard in info.split_shards(split)
            for record in tfrecord.read_records(info.folder / shard.filename)
        ]
        clips = list(tfds.as_numpy(builder.as_dataset(split=split, read_config=in_order)))
        assert len(clips) == len(expected)
        for clip, (fields, feature) in zip(clips, expected, strict=True):
            assert set(clip) == set(fields)
            for name in ("id", "speaker", "word", "label"):
                assert clip[name] == fields[name]
            assert clip[spec.feature].dtype == spec.stored_dtype
            np.testing.assert_array_equal(clip[spec.feature], feature)


# Splits.


def test_a_split_has_its_shards_and_clips():
    info = info_of()
    assert [shard.index for shard in info.split_shards("train")] == [0, 1]
    assert info.num_examples("train") == 9


@pytest.mark.parametrize("split", ["validation", "test", "dev"])
def test_a_split_without_clips_is_refused_with_those_that_there_are(split):
    info = info_of(folder="sc")
    message = rf"^sc has no clips in split '{split}'; it has: train$"
    with pytest.raises(ValueError, match=message):
        info.split_shards(split)
    with pytest.raises(ValueError, match=message):
        info.num_examples(split)


# Fingerprint.


def changed_shard(**changes) -> dict[str, tuple[Shard, ...]]:
    first, *others = info_of().shards
    return {"shards": (dataclasses.replace(first, **changes), *others)}


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": FeatureSpec(log_offset=0.02)},
        {"labels": ("yes", "no")},
        {"labels": ("no", "yes", "up")},
        {"shards": info_of().shards[:2]},
        {"shards": info_of().shards[::-1]},
        changed_shard(xxh3_128="train1"),  # the same size, other bytes
        changed_shard(num_bytes=501),
        changed_shard(num_examples=6),
        changed_shard(split="validation"),
    ],
)
def test_the_fingerprint_changes_with_what_the_records_hold(changes):
    assert info_of(**changes).fingerprint != info_of().fingerprint


@pytest.mark.parametrize(
    "changes", [{"folder": "elsewhere"}, {"account": {}}, {"preparation": {"seed": 1}}]
)
def test_the_fingerprint_is_that_of_the_records_alone(changes):
    assert info_of(**changes).fingerprint == info_of().fingerprint


# What can be wrong with a folder.


def assert_refused(folder, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        DatasetInfo.read(folder)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_missing_folder_is_refused(tmp_path):
    message = r"^no dataset at .*/sc: it is not a folder; make one with kws prepare$"
    assert_refused(tmp_path / "sc", message)
    (tmp_path / "sc").write_bytes(b"")
    assert_refused(tmp_path / "sc", message)


def test_a_dataset_without_its_last_file_is_unfinished(dataset):
    (dataset.folder / "dataset_info.json").unlink()
    assert_refused(
        dataset.folder,
        r"^the dataset at .*/sc is unfinished \(it has no dataset_info.json\): "
        r"run kws prepare on it again$",
    )


@pytest.mark.parametrize("name", ["feature_spec.json", "preparation.json", "label.labels.txt"])
def test_missing_metadata_is_refused(dataset, name):
    (dataset.folder / name).unlink()
    assert_refused(
        dataset.folder,
        rf"^the metadata of .*/sc can't be read \(.*No such file.*{name}'\): "
        r"run kws prepare --overwrite, or copy the dataset again$",
    )


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b'{"a": 1}}', b"[]", b"[1]", b"null", b"7", b'"text"', b'{"a": 1}'],
)
def test_damaged_metadata_is_refused(dataset, name, text):
    (dataset.folder / name).write_bytes(text)
    assert_refused(dataset.folder, r"^the metadata of .*/sc can't be read \(\w+: .+\): run kws")


def test_metadata_that_is_no_json_is_named(dataset):
    (dataset.folder / "preparation.json").write_text('{\n"shards": [\n')
    assert_refused(dataset.folder, r"can't be read \(ValueError: preparation.json: Expecting value")


def test_a_spec_of_another_version_is_refused_with_what_is_unknown(dataset):
    settings = SMALL.to_dict() | {"delta": True}
    (dataset.folder / "feature_spec.json").write_text(json.dumps(settings))
    assert_refused(dataset.folder, r"can't be read \(ValueError: unknown feature settings: delta\)")


def places(value, path=()):
    """The path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inner:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


def replaced(value, path, part):
    value = copy.deepcopy(value)
    *outer, last = path
    inner = value
    for key in outer:
        inner = inner[key]
    if part is None:
        del inner[last]
    else:
        inner[last] = part[0]
    return value


@pytest.mark.parametrize("name", METADATA)
def test_any_one_wrong_value_is_read_or_refused_in_one_line(dataset, name):
    path = dataset.folder / name
    whole = json.loads(path.read_text())
    refused = 0
    for place in places(whole):
        for part in (None, [None], [[]], [{}], ["x"], [-1], [1.5]):
            path.write_text(json.dumps(replaced(whole, place, part)))
            try:
                DatasetInfo.read(dataset.folder)
            except ValueError as error:
                refused += 1
                assert str(dataset.folder) in str(error)
                assert len(str(error).splitlines()) == 1
    assert refused


def test_a_missing_shard_is_refused(dataset):
    name = dataset.split_shards("validation")[1].filename
    (dataset.folder / name).unlink()
    assert_refused(
        dataset.folder,
        rf"^.*/sc/{name} is missing: run kws prepare --overwrite, or copy the dataset again$",
    )


@pytest.mark.parametrize("change", [-1, 1])
def test_a_shard_of_another_size_is_refused(dataset, change):
    path = dataset.folder / dataset.split_shards("train")[0].filename
    content = path.read_bytes()
    path.write_bytes(content[:-1] if change < 0 else content + b"\0")
    size = len(content)
    assert_refused(
        dataset.folder,
        rf"^{path} has {size + change:,} bytes, not {size:,}: run kws prepare --overwrite, "
        r"or copy the dataset again$",
    )


# A run's labels.


def test_the_labels_of_a_run_are_accepted_as_any_sequence():
    check_labels(info_of(), ["no", "yes"], owner="runs/a")
    check_labels(info_of(), ("no", "yes"), owner="runs/a")


@pytest.mark.parametrize(
    ("expected", "difference"),
    [
        (["yes", "no"], "the same words in another order"),
        (["no"], "only in the dataset: yes"),
        (["no", "up", "down", "yes"], "only in the run: down, up"),
        (["да", "no"], "only in the run: да; only in the dataset: yes"),
    ],
)
def test_other_labels_are_refused_with_the_difference(expected, difference):
    message = (
        rf"^the labels of sc are not those of runs/a \({difference}\): "
        r"use the dataset it was trained on$"
    )
    with pytest.raises(ValueError, match=message):
        check_labels(info_of(folder="sc"), expected, owner="runs/a")
