"""A run folder: what `kws train` writes and every later command reads.

RUN/config.json         all that shaped the run, written first; its results, added at the end
RUN/history.csv         one row per finished epoch
RUN/best.weights.h5     of the epoch with the best validation accuracy (without one, the last)
RUN/last.weights.h5     of the last finished epoch
RUN/tensorboard/        for `tensorboard --logdir`
RUN/evaluation-*/       what `kws evaluate` adds
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from kws_model.feature_spec import FeatureSpec

if TYPE_CHECKING:
    import keras

Weights = Literal["best", "last"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has begun, finished or not."""

    folder: pathlib.Path
    config: dict[str, Any]

    @classmethod
    def create(cls, folder: str | pathlib.Path, config: dict[str, Any]) -> Self:
        """Makes the folder and writes the configuration; an older run there is removed."""
        run = cls(pathlib.Path(folder), config)
        run.folder.mkdir(parents=True, exist_ok=True)
        # Only what a run writes is removed: the folder may be someone's home.
        for name in ("config.json", "history.csv", "best.weights.h5", "last.weights.h5"):
            (run.folder / name).unlink(missing_ok=True)
        for old in (run.folder / "tensorboard", *run.folder.glob("evaluation-*")):
            shutil.rmtree(old, ignore_errors=True)
        run.write_config()
        return run

    @classmethod
    def read(cls, folder: str | pathlib.Path) -> Self:
        """Reads a run's configuration.

        Raises:
          ValueError: the folder holds no run.
        """
        path = pathlib.Path(folder) / "config.json"
        try:
            config = json.loads(path.read_text())
            FeatureSpec.from_dict(config["spec"])
        except FileNotFoundError:
            raise ValueError(f"no run in {folder}: it has no config.json; see kws train") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a run's configuration: {error}") from error
        return cls(pathlib.Path(folder), config)

    @property
    def spec(self) -> FeatureSpec:
        """What the model takes."""
        return FeatureSpec.from_dict(self.config["spec"])

    @property
    def labels(self) -> tuple[str, ...]:
        """What each of its probabilities is of."""
        return tuple(self.config["labels"])

    @property
    def dataset(self) -> pathlib.Path:
        """The dataset that it was trained on."""
        return pathlib.Path(self.config["dataset"]["path"])

    def weights_path(self, weights: Weights) -> pathlib.Path:
        """The file of the best or the last epoch's weights, there or not."""
        return self.folder / f"{weights}.weights.h5"

    def write_config(self) -> None:
        """Writes config.json, whole or not at all."""
        write_text(self.folder / "config.json", json.dumps(self.config, indent=2) + "\n")

    def check_weights(self, weights: Weights) -> None:
        """Raises ValueError if no epoch of the run was finished."""
        if not self.weights_path(weights).exists():
            raise ValueError(
                f"the run in {self.folder} has no {self.weights_path(weights).name}: it stopped "
                "before its first epoch was over; run kws train again with --overwrite"
            )

    def load_model(self, weights: Weights = "best") -> keras.Model:
        """The trained model, as `kws_model.network.build` describes it; raises `check_weights`."""
        from kws_model import network

        self.check_weights(weights)
        model = network.build(self.config["model"], self.spec, num_classes=len(self.labels))
        model.load_weights(self.weights_path(weights))
        return model


class Record:
    """Writes what is known after every epoch, so that a run that is stopped keeps its epochs."""

    def __init__(
        self,
        run: Run,
        model: keras.Model,
        *,
        batch_size: int,
        validate: Callable[[], dict[str, float]] | None,
    ) -> None:
        self.run = run
        self._validate = validate
        self._model = model
        self._batch_size = batch_size
        self._rows: list[dict[str, float]] = []
        self._best = -1.0
        self._begun = self._trained = self._started = time.monotonic()
        self._num_batches = 0

    def begin_epoch(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock of an epoch."""
        self._begun = time.monotonic()

    def end_batch(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Raises ValueError if the loss, a mean over the epoch so far, is no longer a number."""
        if not math.isfinite(logs["loss"]):
            raise ValueError(
                f"the loss became {float(logs['loss'])} in epoch {len(self._rows) + 1}, step "
                f"{batch + 1}: lower --learning_rate, or look for odd values with kws inspect"
            )
        self._num_batches, self._trained = batch + 1, time.monotonic()

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """Validates (adding to `logs`, which the later callbacks get), saves and notes it all."""
        seconds = self._trained - self._begun
        logs.update(self._validate() if self._validate else {})
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        row["train_seconds"] = round(seconds, 3)
        row["clips_per_second"] = round(self._num_batches * self._batch_size / seconds, 1)
        self._rows.append(row)
        self._save("last")
        # Accuracy, not loss: it is what the model is for, and the loss of a model that grows too
        # sure of its errors rises while it still improves. Of equals, the earlier epoch.
        score = row.get("val_accuracy", float(epoch))
        if score > self._best:
            self._best = score
            self._save("best")
        self._write_history()

    def finish(self) -> None:
        """Adds the results to config.json, which makes the run a finished one."""
        key = "val_accuracy" if "val_accuracy" in self._rows[0] else "epoch"
        best = max(self._rows, key=lambda row: row[key])  # the first of equals
        # The first epoch holds TensorFlow's tracing.
        speeds = [row["clips_per_second"] for row in self._rows[1:] or self._rows]
        self.run.config["result"] = {
            "epochs": len(self._rows),
            "best_epoch": best["epoch"],
            "best": best,
            "seconds": round(time.monotonic() - self._started, 1),
            "clips_per_second": statistics.median(speeds),
        }
        self.run.write_config()

    def _save(self, weights: Weights) -> None:
        path = self.run.weights_path(weights)
        unfinished = path.with_name(f"unfinished.{path.name}")  # Keras insists on the ending
        self._model.save_weights(unfinished)
        os.replace(unfinished, path)

    def _write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.run.folder / "history.csv", text.getvalue())


def check_new(folder: str | pathlib.Path, *, overwrite: bool) -> None:
    """Raises ValueError if the folder holds a run that may not be overwritten."""
    if not overwrite and (pathlib.Path(folder) / "config.json").exists():
        raise ValueError(
            f"{folder} already holds a run: name another --run_dir, or pass --overwrite"
        )


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)
