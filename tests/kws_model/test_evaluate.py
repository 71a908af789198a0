import csv
import json
import math
import shutil

import numpy as np
import pyarrow.parquet
import pytest

from kws_model import cli, evaluate
from kws_model.feature_spec import FeatureSpec
from tests.kws_model.datasets import damage, write_dataset

LABELS = ("no", "up", "yes")
# Truth, then probabilities of no, up, yes.
CLIPS = [
    (0, 0.7, 0.2, 0.1),  # right
    (0, 0.6, 0.4, 0.0),  # right
    (0, 0.1, 0.8, 0.1),  # up; no shares the second place and comes first
    (1, 0.5, 0.4, 0.1),  # no; up is second
    (1, 0.1, 0.8, 0.1),  # right
    (1, 0.5, 0.0, 0.5),  # no, the first of equals; up is last and impossible
]


def predictions(clips=CLIPS):
    table = np.array(clips)
    return evaluate.Predictions(
        ids=[f"clip {number}" for number in range(len(clips))],
        speakers=["s"] * len(clips),
        truth=table[:, 0].astype(np.int64),
        probabilities=table[:, 1:].astype(np.float32),
    )


def failure(capture, *flags):
    """Runs `kws evaluate` to its end; its exit status and what it said, which must be one line."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["evaluate", *map(str, flags)])
    lines = capture.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return exit_.value.code, lines[0]


def test_metrics_are_those_worked_by_hand():
    metrics = evaluate.measure(predictions(), LABELS)

    assert metrics["clips"] == 6
    assert metrics["accuracy"] == pytest.approx(3 / 6)
    assert metrics["top_2"] == pytest.approx(5 / 6)
    logs = [math.log(p) for p in (0.7, 0.6, 0.1, 0.4, 0.8, 1e-7)]
    assert metrics["loss"] == pytest.approx(-sum(logs) / 6, rel=1e-6)
    # Confusion: no -> no 2, up 1; up -> no 2, up 1; yes has no clips and is never predicted.
    assert metrics["classes"] == {
        "no": {
            "precision": pytest.approx(2 / 4),
            "recall": pytest.approx(2 / 3),
            "f1": pytest.approx(4 / 7),
            "support": 3,
        },
        "up": {
            "precision": pytest.approx(1 / 2),
            "recall": pytest.approx(1 / 3),
            "f1": pytest.approx(2 / 5),
            "support": 3,
        },
        "yes": {"precision": None, "recall": None, "f1": None, "support": 0},
    }
    assert metrics["most_confused"] == [
        {"truth": "up", "prediction": "no", "clips": 2},
        {"truth": "no", "prediction": "up", "clips": 1},
    ]


def test_a_row_of_the_confusion_table_is_a_truth():
    clips = predictions()
    matrix = evaluate.confusion_matrix(clips.truth, clips.prediction, num_classes=3)

    assert evaluate.confusion_csv(matrix, LABELS) == (
        "truth,no,up,yes\nno,2,1,0\nup,2,1,0\nyes,0,0,0\n"
    )


def test_with_two_labels_or_one_everything_is_in_the_top_2():
    assert evaluate.measure(predictions([(1, 0.9, 0.1)]), ("a", "b"))["top_2"] == 1
    assert evaluate.measure(predictions([(0, 1.0)]), ("a",))["accuracy"] == 1


@pytest.fixture(scope="module")
def evaluated(tiny_run):
    """The folder of an evaluation in batches that leave a remainder."""
    evaluate.run(evaluate.Options(run_dir=str(tiny_run.folder), batch_size=3))
    return tiny_run.folder / "evaluation-validation"


def test_every_clip_of_the_split_is_predicted_once(evaluated, tiny_dataset):
    table = pyarrow.parquet.read_table(evaluated / "predictions.parquet").to_pydict()

    assert table["id"] == [f"validation/{number}" for number in range(7)]
    assert table["speaker"] == [f"speaker {number // 2}" for number in range(7)]
    assert table["truth"] == [tiny_dataset.labels[number % 3] for number in range(7)]
    of_labels = np.array([table[f"p_{label}"] for label in tiny_dataset.labels])
    np.testing.assert_allclose(of_labels.sum(axis=0), 1, rtol=1e-5)
    likeliest = [tiny_dataset.labels[index] for index in of_labels.argmax(axis=0)]
    assert table["prediction"] == likeliest
    assert table["correct"] == [a == b for a, b in zip(table["truth"], likeliest, strict=True)]


def test_the_figures_are_those_that_training_noted(evaluated, tiny_run):
    metrics = json.loads((evaluated / "metrics.json").read_text())

    best = tiny_run.config["result"]["best"]
    assert metrics["accuracy"] == pytest.approx(best["val_accuracy"])
    assert metrics["loss"] == pytest.approx(best["val_loss"], rel=1e-4)
    assert metrics["clips"] == 7
    assert metrics["dataset"]["same_as_trained_on"] is True


def test_an_evaluation_is_these_files(evaluated):
    assert sorted(path.name for path in evaluated.iterdir()) == [
        "alluvial.png",
        "confusion.csv",
        "confusion_matrix.png",
        "metrics.json",
        "predictions.parquet",
    ]
    with open(evaluated / "confusion.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert sum(int(cell) for row in rows for cell in row[1:]) == 7


def test_the_last_weights_leave_the_evaluation_of_the_best_alone(evaluated, tiny_run, capsys):
    before = (evaluated / "metrics.json").read_bytes()

    evaluate.run(evaluate.Options(run_dir=str(tiny_run.folder), weights="last", split="test"))

    assert "tiny, test split, 4 clips, weights last (seed 0)" in capsys.readouterr().out
    assert (tiny_run.folder / "evaluation-test-last" / "metrics.json").exists()
    assert (evaluated / "metrics.json").read_bytes() == before


def test_the_summary_names_what_was_measured():
    metrics = {
        "dataset": {"name": "sc"},
        "split": "test",
        "weights": "best",
        "seed": 3,
        "run_finished": False,
        **evaluate.measure(predictions(), LABELS),
    }

    assert evaluate.summary(metrics).splitlines() == [
        "sc, test split, 6 clips, weights best (seed 3)",
        "accuracy 50.00%   top-2 83.33%   loss 3.4046",
        "the run was stopped before its end",
        "most confused (truth -> prediction, clips):",
        "            up -> no                2",
        "            no -> up                1",
    ]


def test_a_dataset_with_other_labels_is_one_line(tmp_path, tiny_run, capsys):
    write_dataset(tmp_path / "other", labels=("no", "up", "stop"))

    status, line = failure(capsys, "--run_dir", tiny_run.folder, "--dataset", tmp_path / "other")

    assert status == 1
    assert "only in the run: yes; only in the dataset: stop" in line


def test_a_dataset_with_other_features_is_one_line(tmp_path, tiny_run, capsys):
    write_dataset(tmp_path / "other", spec=FeatureSpec(feature="mfcc", lifter=22))

    status, line = failure(capsys, "--run_dir", tiny_run.folder, "--dataset", tmp_path / "other")

    assert status == 1
    assert "(run / dataset: lifter 0 / 22)" in line


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    status, line = failure(capsys, "--run_dir", tmp_path)

    assert (status, "it has no config.json" in line) == (1, True)


def test_a_run_that_was_killed_in_its_first_epoch_is_one_line(tmp_path, tiny_run, capsys):
    folder = tmp_path / "killed"
    folder.mkdir()
    shutil.copy(tiny_run.folder / "config.json", folder)

    status, line = failure(capsys, "--run_dir", folder)

    assert status == 1
    assert "has no best.weights.h5: it stopped before its first epoch was over" in line


def test_a_damaged_shard_is_one_line(tmp_path, tiny_run, capfd):
    write_dataset(tmp_path / "tiny")
    shard = tmp_path / "tiny" / "tiny-validation.tfrecord-00001-of-00002"
    damage(shard)

    status, line = failure(capfd, "--run_dir", tiny_run.folder, "--dataset", tmp_path / "tiny")

    assert status == 1
    assert f"{shard.name}: the record at byte " in line
