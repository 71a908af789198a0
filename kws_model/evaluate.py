"""How good a trained model is, on any split of its dataset, and where it errs.

$ kws evaluate --run_dir runs/sc9
kws, validation split, 500 clips, weights best (seed 0)
accuracy 92.60%   top-2 95.60%   loss 0.3007
most confused (truth -> prediction, clips): ...
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pathlib
import sys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kws_model import devices, input_pipeline
from kws_model.dataset_info import DatasetInfo, check_labels
from kws_model.run import Run, Weights, write_text

if TYPE_CHECKING:
    import keras

Matrix = NDArray[np.int64]  # [truth, prediction]: clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `kws evaluate` measures."""

    run_dir: str
    """Folder of a run that kws train made."""
    split: Literal["train", "validation", "test"] = "validation"
    """The split to evaluate on, every clip once."""
    dataset: str | None = None
    """Another place of the dataset, or another one with the same labels and features."""
    weights: Weights = "best"
    """Of the best epoch or the last."""
    batch_size: int = 256
    """Clips in a step; it changes the speed alone."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1; got {self.batch_size}")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model says of n clips, in the order of the split's files."""

    ids: list[str]
    speakers: list[str]
    truth: NDArray[np.int64]  # [n], a label's index
    probabilities: NDArray[np.float32]  # [n, labels]

    @property
    def prediction(self) -> NDArray[np.int64]:
        """The likeliest label's index, [n]; of equals the first."""
        return np.argmax(self.probabilities, axis=1)


def run(options: Options) -> None:
    """Evaluates, writes RUN/evaluation-SPLIT/ and prints a summary.

    Raises:
      ValueError: no run or no weights there; a dataset that is missing, unfinished or damaged, or
        whose labels or features are not those of the run.
    """
    run_ = Run.read(options.run_dir)
    run_.check_weights(options.weights)
    info = DatasetInfo.read(options.dataset or run_.dataset)
    check_dataset(run_, info)
    info.num_examples(options.split)
    devices.start_tensorflow()
    predictions = predict(
        run_.load_model(options.weights), info, options.split, batch_size=options.batch_size
    )
    metrics = {**describe(run_, info, options), **measure(predictions, info.labels)}
    folder = write(run_, metrics, predictions, info.labels)
    print(summary(metrics))
    print(f"written to {folder}")


def check_dataset(run_: Run, info: DatasetInfo) -> None:
    """Raises ValueError unless a dataset's labels and features are those of the run."""
    check_labels(info, run_.labels, owner=f"the run {run_.folder}")
    ours, theirs = run_.spec.to_dict(), info.spec.to_dict()
    differences = [f"{key} {ours[key]} / {theirs[key]}" for key in ours if ours[key] != theirs[key]]
    if differences:
        raise ValueError(
            f"the features of {info.folder} are not those that the run {run_.folder} was trained "
            f"on (run / dataset: {', '.join(differences)}): prepare it with the run's settings"
        )


def predict(model: keras.Model, info: DatasetInfo, split: str, *, batch_size: int) -> Predictions:
    """The model's probabilities for every clip of a split, once; raises as `readable_errors`."""
    batches = input_pipeline.evaluation_batches(info, split, batch_size=batch_size)
    parts = []
    with input_pipeline.readable_errors(info, split):
        for batch in batches:
            probabilities = model.predict_on_batch(batch[info.spec.feature])  # [batch, labels]
            parts.append(
                (
                    batch["id"].numpy(),
                    batch["speaker"].numpy(),
                    batch["label"].numpy(),
                    probabilities,
                )
            )
    ids, speakers, truth, probabilities = map(np.concatenate, zip(*parts, strict=True))
    return Predictions(
        [name.decode() for name in ids], [name.decode() for name in speakers], truth, probabilities
    )


def describe(run_: Run, info: DatasetInfo, options: Options) -> dict[str, Any]:
    """Which run, dataset and split a result is of."""
    return {
        "dataset": {
            "name": info.name,
            "path": str(info.folder.resolve()),
            "fingerprint": info.fingerprint,
            "same_as_trained_on": info.fingerprint == run_.config["dataset"]["fingerprint"],
        },
        "split": options.split,
        "weights": options.weights,
        "run_finished": "result" in run_.config,
        "model": run_.config["model"],
        "seed": run_.config["seed"],
    }


def measure(predictions: Predictions, labels: tuple[str, ...]) -> dict[str, Any]:
    """Every figure that metrics.json holds.

    Returns:
      `clips`; `accuracy` and `top_2` in [0, 1]: the truth is the likeliest, or one of the two
      likeliest; `loss`: the mean of -ln(probability of the truth), which is taken as at least
      1e-7, as Keras does; and per class `precision`, `recall`, `f1` and `support`.
    """
    truth, probabilities = predictions.truth, predictions.probabilities
    of_truth = probabilities[np.arange(len(truth)), truth]  # [n]
    # How many labels come before the truth, likelier or as likely and first: 0 if it is predicted.
    indices = np.arange(probabilities.shape[1])
    likelier = probabilities > of_truth[:, None]
    first = (probabilities == of_truth[:, None]) & (indices < truth[:, None])
    rank = (likelier | first).sum(axis=1)  # [n]
    matrix = confusion_matrix(truth, predictions.prediction, num_classes=len(labels))
    return {
        "clips": len(truth),
        "accuracy": float(np.mean(rank == 0)),
        "top_2": float(np.mean(rank < 2)),
        "loss": float(-np.log(np.maximum(of_truth, 1e-7), dtype=np.float64).mean()),
        "classes": per_class(matrix, labels),
        "most_confused": [
            {"truth": labels[row], "prediction": labels[column], "clips": int(matrix[row, column])}
            for row, column in most_confused(matrix, count=5)
        ],
    }


def confusion_matrix(
    truth: NDArray[np.int64], prediction: NDArray[np.int64], *, num_classes: int
) -> Matrix:
    """Clips by label, [truth, prediction]."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (truth, prediction), 1)
    return matrix


def per_class(matrix: Matrix, labels: tuple[str, ...]) -> dict[str, dict[str, float | int | None]]:
    """Precision, recall, F1 and support of each label.

    Precision: of the clips predicted so, the part that is. Recall: of the clips that are, the part
    predicted so. F1: their harmonic mean, 2 TP / (2 TP + FP + FN). None where there is nothing to
    divide by: 0 would say that the model erred.
    """
    correct, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return {
        label: {
            "precision": _ratio(correct[index], predicted[index]),
            "recall": _ratio(correct[index], truth[index]),
            "f1": _ratio(2 * correct[index], truth[index] + predicted[index]),
            "support": int(truth[index]),
        }
        for index, label in enumerate(labels)
    }


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None


def most_confused(matrix: Matrix, *, count: int) -> list[tuple[int, int]]:
    """The cells (truth, prediction) off the diagonal with the most clips, most first."""
    errors = matrix.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    cells = [divmod(int(index), len(matrix)) for index in order]
    return [cell for cell in cells if errors[cell]]


def write(
    run_: Run, metrics: dict[str, Any], predictions: Predictions, labels: tuple[str, ...]
) -> pathlib.Path:
    """Writes the evaluation's files, metrics.json last, and returns their folder."""
    from kws_model import report  # matplotlib takes a second

    suffix = "" if metrics["weights"] == "best" else "-last"
    folder = run_.folder / f"evaluation-{metrics['split']}{suffix}"
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    matrix = confusion_matrix(predictions.truth, predictions.prediction, num_classes=len(labels))
    _write_predictions(folder / "predictions.parquet", predictions, labels)
    write_text(folder / "confusion.csv", confusion_csv(matrix, labels))
    title = f"{metrics['dataset']['name']}, {metrics['split']} split: "
    title += f"accuracy {metrics['accuracy']:.2%} on {metrics['clips']:,} clips"
    for name, figure in (
        ("confusion_matrix.png", report.confusion_figure(matrix, labels, title=title)),
        ("alluvial.png", report.alluvial_figure(matrix, labels, title=title)),
    ):
        report.save(figure, folder / name)
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    return folder


def confusion_csv(matrix: Matrix, labels: tuple[str, ...]) -> str:
    """A row per truth, a column per prediction."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth", *labels])
    writer.writerows([label, *row] for label, row in zip(labels, matrix.tolist(), strict=True))
    return text.getvalue()


def _write_predictions(
    path: pathlib.Path, predictions: Predictions, labels: tuple[str, ...]
) -> None:
    """One row per clip: id, speaker, truth, prediction, correct, and p_LABEL for each label."""
    import pyarrow as pa
    import pyarrow.parquet

    names = np.array(labels, dtype=object)
    columns = {
        "id": pa.array(predictions.ids, pa.string()),
        "speaker": pa.array(predictions.speakers, pa.string()),
        "truth": pa.array(names[predictions.truth], pa.string()),
        "prediction": pa.array(names[predictions.prediction], pa.string()),
        "correct": pa.array(predictions.truth == predictions.prediction),
        **{
            f"p_{label}": pa.array(predictions.probabilities[:, i])
            for i, label in enumerate(labels)
        },
    }
    unfinished = path.with_name(f".{path.name}.unfinished")
    pyarrow.parquet.write_table(pa.table(columns), unfinished)
    os.replace(unfinished, path)


def summary(metrics: dict[str, Any]) -> str:
    """The result as a small table."""
    lines = [
        f"{metrics['dataset']['name']}, {metrics['split']} split, {metrics['clips']:,} clips, "
        f"weights {metrics['weights']} (seed {metrics['seed']})",
        f"accuracy {metrics['accuracy']:.2%}   top-2 {metrics['top_2']:.2%}   "
        f"loss {metrics['loss']:.4f}",
    ]
    if not metrics["run_finished"]:
        lines.append("the run was stopped before its end")
    if metrics["most_confused"]:
        lines.append("most confused (truth -> prediction, clips):")
    for pair in metrics["most_confused"]:
        lines.append(f"  {pair['truth']:>12s} -> {pair['prediction']:12s} {pair['clips']:6,d}")
    return "\n".join(lines)


if __name__ == "__main__":
    from kws_model import cli

    cli.main(["evaluate", *sys.argv[1:]])
