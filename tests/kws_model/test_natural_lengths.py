"""Clips that keep their natural lengths (`--clip_ms None`): every reader still tells them apart."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from kws_model import cli, example, network, tfrecord
from kws_model.dataset_info import DatasetInfo
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from tests.pipelines.recordings import tone, wav_bytes

LENGTHS = {"go/a.wav": 8_000, "go/b.wav": 16_000, "stop/c.wav": 23_456, "stop/d.wav": 100}
FEATURES = ("log_spectrogram", "log_mel", "mfcc", "waveform")


@pytest.fixture(scope="module", params=FEATURES)
def info(request, tmp_path_factory) -> DatasetInfo:
    """A dataset of four recordings of different lengths, all for training."""
    folder = tmp_path_factory.mktemp("natural")
    for name, num_samples in LENGTHS.items():
        (folder / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "corpus" / name).write_bytes(wav_bytes(tone(name, num_samples=num_samples)))
    flags = ["--input", folder / "corpus", "--output", folder / "out", "--feature", request.param]
    flags += ["--clip_ms", "None", "--split", "random", "--validation_percent", 0]
    flags += ["--test_percent", 0]
    with pytest.raises(SystemExit) as done:
        cli.main(["prepare", *map(str, flags), "--", "--direct_num_workers=1"])
    assert done.value.code == 0
    return DatasetInfo.read(folder / "out")


def records(info: DatasetInfo) -> list[bytes]:
    (shard,) = info.split_shards("train")
    return list(tfrecord.read_records(str(info.folder / shard.filename)))


def expected(info: DatasetInfo, name: str) -> np.ndarray:
    return Frontend(info.spec).one(tone(name, num_samples=LENGTHS[name]).astype(np.float32) / 32768)


def test_each_record_holds_its_whole_clip_and_its_length(info):
    found = records(info)
    assert len(found) == 4
    for record in found:
        fields = example.decode(record)
        name = fields["id"].decode()
        feature = example.decode_feature(record, info.spec)
        np.testing.assert_array_equal(feature, expected(info, name))
        assert fields["num_frames"] == len(feature)
        if info.spec.feature == "waveform":
            assert len(feature) == LENGTHS[name]
        else:
            assert len(feature) == max(1, 1 + (LENGTHS[name] - 480) // 160)


def test_a_batch_is_padded_with_zeros_to_its_longest_clip(info):
    parse = tf.function(lambda batch: example.parse_batch(batch, info.spec))
    batch = parse(tf.constant(records(info)))
    features = batch[info.spec.feature].numpy()
    assert features.shape[1] == batch["num_frames"].numpy().max()
    assert features.shape[2:] == info.spec.inner_shape
    for name, feature, length in zip(
        batch["id"].numpy(), features, batch["num_frames"].numpy(), strict=True
    ):
        np.testing.assert_array_equal(feature[:length], expected(info, name.decode()))
        assert not feature[length:].any()


def test_tensorflow_datasets_reads_them(info):
    builder = tfds.builder_from_directory(info.folder)
    for clip in tfds.as_numpy(builder.as_dataset(split="train")):
        feature = expected(info, clip["id"].decode())
        np.testing.assert_array_equal(clip[info.spec.feature], feature)
        assert clip["num_frames"] == len(feature)


def test_nothing_is_trimmed_and_only_what_is_shorter_than_a_window_is_padded(info):
    rows = pd.read_parquet(info.folder / "manifest").set_index("id")
    assert not rows["trimmed"].any()
    least = 1 if info.spec.feature == "waveform" else 480
    assert rows["padded"].to_dict() == {name: size < least for name, size in LENGTHS.items()}


def test_what_needs_one_length_says_so(info):
    message = "these clips keep their natural lengths .--clip_ms None.*prepare the dataset with"
    with pytest.raises(ValueError, match=message):
        network.build("cnn", info.spec, num_classes=2)


def test_a_data_card_can_be_made_of_them(info):
    with pytest.raises(SystemExit) as done:
        cli.main(["inspect", "--dataset", str(info.folder)])
    assert done.value.code == 0
    assert (info.folder / "data_card.html").stat().st_size > 10_000


def test_a_spec_without_a_length_survives_its_json():
    spec = FeatureSpec(clip_ms=None)
    assert FeatureSpec.from_dict(spec.to_dict()) == spec
    assert spec.inner_shape == (257,)
    assert spec.shape_of(16_000) == (98, 257)
