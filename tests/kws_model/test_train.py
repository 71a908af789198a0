import csv
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kws_model import cli, network, train
from kws_model.feature_spec import FeatureSpec
from kws_model.run import Record, Run, check_new
from tests.kws_model.datasets import damage, write_dataset


def history(run):
    """The rows of history.csv as numbers."""
    with open(run.folder / "history.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def failure(capsys, *flags):
    """Runs `kws train` to its end; its exit status and what it said, which must be one line."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", *map(str, flags)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return exit_.value.code, lines[0]


def test_a_run_holds_what_shaped_it_and_what_came_of_it(tiny_run, tiny_dataset):
    config = json.loads((tiny_run.folder / "config.json").read_text())

    assert config["options"]["batch_size"] == 4
    assert config["options"]["learning_rate"] is None
    assert config["optimizer"]["learning_rate"] == pytest.approx(0.001)
    assert config["layers"] == [str(step) for step in network.MODELS["cnn_small"]]
    assert config["labels"] == list(tiny_dataset.labels)
    assert FeatureSpec.from_dict(config["spec"]) == tiny_dataset.spec
    assert config["dataset"]["fingerprint"] == tiny_dataset.fingerprint
    assert len(config["replicas"]) == 1
    assert set(config["versions"]) == {"python", "keras", "numpy", "tensorflow"}
    assert config["result"]["epochs"] == 3
    assert any((tiny_run.folder / "tensorboard").iterdir())


def test_the_history_has_a_row_for_each_epoch(tiny_run):
    rows = history(tiny_run)

    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "clips_per_second"} <= set(rows[0])


def test_the_best_epoch_of_the_history_is_the_result(tiny_run):
    best = max(history(tiny_run), key=lambda row: row["val_accuracy"])

    result = tiny_run.config["result"]
    assert (result["best_epoch"], result["best"]["val_loss"]) == (best["epoch"], best["val_loss"])


def test_a_seed_repeats_a_run(tmp_path, tiny_run):
    again = train.Options(**tiny_run.config["options"] | {"run_dir": str(tmp_path)})

    train.run(again)

    losses = [[row["loss"] for row in history(run)] for run in (tiny_run, Run.read(tmp_path))]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


class EpochWriter:
    """Stands for a model: its weights are the number of times that they were saved as "last"."""

    epoch = 0

    def save_weights(self, path):
        self.epoch += "last" in path.name
        path.write_text(str(self.epoch))


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [([0.5, 0.7, 0.6], 2), ([0.5, 0.7, 0.7], 2), ([0.0, 0.0], 1), (None, 3)],
    ids=["highest", "first of equals", "all wrong", "no validation: the last"],
)
def test_the_best_weights_are_those_of_the_best_epoch(tmp_path, accuracies, best):
    scores = iter(accuracies or ())
    validate = accuracies and (lambda: {"val_accuracy": next(scores), "val_loss": 1.0})
    record = Record(Run.create(tmp_path, {}), EpochWriter(), batch_size=1, validate=validate)

    for epoch in range(len(accuracies or "abc")):
        record.begin_epoch(epoch)
        record.end_batch(0, {"loss": 1.0})
        record.end_epoch(epoch, {"loss": 1.0, "accuracy": 0.5})
    record.finish()

    assert record.run.weights_path("best").read_text() == str(best)
    assert json.loads((tmp_path / "config.json").read_text())["result"]["best_epoch"] == best


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path, loss):
    record = Record(Run.create(tmp_path, {}), EpochWriter(), batch_size=1, validate=None)

    with pytest.raises(ValueError, match=rf"loss became {loss} in epoch 1, step 8: lower --learn"):
        record.end_batch(7, {"loss": loss})


def test_an_interrupted_run_keeps_its_epochs_and_is_no_finished_one(
    tmp_path, tiny_dataset, monkeypatch
):
    def interrupted(*_):
        results = iter([{"val_accuracy": 0.5, "val_loss": 1.0}])

        def validate():
            try:
                return next(results)
            except StopIteration:
                raise KeyboardInterrupt from None

        return validate

    monkeypatch.setattr(train, "validator", interrupted)
    folder = str(tiny_dataset.folder)
    options = train.Options(
        dataset=folder, run_dir=str(tmp_path / "run"), model="cnn_small", batch_size=8
    )

    with pytest.raises(KeyboardInterrupt):
        train.run(options)

    run = Run.read(tmp_path / "run")
    assert [row["epoch"] for row in history(run)] == [1]
    assert "result" not in run.config
    run.load_model("best")
    run.load_model("last")


def test_a_folder_with_a_run_is_refused(tiny_run):
    with pytest.raises(ValueError, match=r"already holds a run: .* --overwrite"):
        check_new(tiny_run.folder, overwrite=False)


def test_overwrite_removes_a_run_and_nothing_else(tmp_path, tiny_run):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    (folder / "evaluation-test").mkdir()
    (folder / "notes.txt").write_text("mine")

    Run.create(folder, {})

    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "notes.txt"]


# Runs in a process of its own: the number of CPU devices is set once.
TWO_REPLICAS = """
import sys
from kws_model import devices, network, train
from kws_model.dataset_info import DatasetInfo

devices.start_tensorflow(cpu_replicas=2)
import keras
import tensorflow as tf

steps = network.MODELS["cnn_small"]
network.MODELS["cnn_small"] = tuple(s for s in steps if not isinstance(s, network.Dropout))
keras.optimizers.Adadelta = keras.optimizers.SGD  # its steps are as large as the gradients
dataset, runs = sys.argv[1:]
for replicas in (1, 2):
    options = train.Options(
        dataset=dataset, run_dir=f"{runs}/{replicas}", model="cnn_small", cpu_replicas=replicas,
        epochs=2, batch_size=4, learning_rate=0.01,
    )
    strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])
    train.train(options, DatasetInfo.read(dataset), strategy)
"""


def test_two_replicas_learn_what_one_does(tmp_path, tiny_dataset):
    # 7 validation clips in batches of 4: the last batch leaves a replica with 1 clip and a filler.
    command = [sys.executable, "-c", TWO_REPLICAS, str(tiny_dataset.folder), str(tmp_path)]
    subprocess.run(command, check=True)

    one, two = (Run.read(tmp_path / replicas) for replicas in "12")
    assert [len(run.config["replicas"]) for run in (one, two)] == [1, 2]
    for row, other in zip(history(one), history(two), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert other[name] == pytest.approx(row[name], rel=1e-4), name
    weights = [run.load_model("last").get_weights() for run in (one, two)]
    for expected, actual in zip(*weights, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-6)


def test_a_batch_must_divide_among_the_replicas():
    with pytest.raises(ValueError, match="--batch_size 9 does not divide among 2 replicas"):
        train.check_batch_size(9, replicas=2)


def test_an_unfinished_dataset_is_one_line(tmp_path, capsys):
    write_dataset(tmp_path / "tiny")
    (tmp_path / "tiny" / "dataset_info.json").unlink()

    status, line = failure(capsys, "--dataset", tmp_path / "tiny", "--run_dir", tmp_path / "run")

    assert status == 1
    assert "is unfinished (it has no dataset_info.json)" in line
    assert not (tmp_path / "run").exists()


def test_a_truncated_shard_is_one_line(tmp_path, capsys):
    write_dataset(tmp_path / "tiny")
    shard = tmp_path / "tiny" / "tiny-train.tfrecord-00000-of-00002"
    shard.write_bytes(shard.read_bytes()[:-1])

    status, line = failure(capsys, "--dataset", tmp_path / "tiny", "--run_dir", tmp_path / "run")

    assert status == 1
    assert shard.name in line
    assert not (tmp_path / "run").exists()


def test_a_damaged_shard_is_one_line(tmp_path, capfd):
    write_dataset(tmp_path / "tiny")
    shard = tmp_path / "tiny" / "tiny-train.tfrecord-00000-of-00002"
    damage(shard)
    flags = ("--model", "cnn_small", "--batch_size", 4)

    status, line = failure(
        capfd, "--dataset", tmp_path / "tiny", "--run_dir", tmp_path / "run", *flags
    )

    assert status == 1
    assert f"{shard.name}: the record at byte " in line


def test_a_dataset_of_waveforms_is_one_line(tmp_path, capsys):
    write_dataset(tmp_path / "tiny", spec=FeatureSpec(feature="waveform"))

    status, line = failure(capsys, "--dataset", tmp_path / "tiny", "--run_dir", tmp_path / "run")

    assert (status, "model cnn needs a picture" in line) == (1, True)


def test_early_stopping_needs_a_validation_split(tmp_path, capsys):
    write_dataset(tmp_path / "tiny", shards={"train": (4,)})
    flags = ("--early_stopping_patience", 1, "--batch_size", 2)

    status, line = failure(
        capsys, "--dataset", tmp_path / "tiny", "--run_dir", tmp_path / "run", *flags
    )

    assert (status, "has no validation split" in line) == (1, True)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("epochs", 0, "--epochs must be at least 1; got 0"),
        ("batch_size", 0, "--batch_size must be at least 1; got 0"),
        ("learning_rate", -1.0, "--learning_rate must be positive; got -1.0"),
        ("cpu_replicas", 0, "--cpu_replicas must be at least 1; got 0"),
    ],
)
def test_a_wrong_option_is_refused_before_tensorflow_loads(flag, value, message):
    with pytest.raises(ValueError, match=message):
        train.Options(dataset="d", run_dir="r", **{flag: value})


def test_the_learning_rate_is_the_tutorials_unless_named():
    rates = {
        optimizer: train.Options(dataset="d", run_dir="r", optimizer=optimizer).step_size
        for optimizer in ("adadelta", "adam")
    }
    assert rates == {"adadelta": 1.0, "adam": 0.001}
