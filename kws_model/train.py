"""Trains a model on the TFRecords of a dataset, on every GPU of the machine or on the CPU.

$ kws train --dataset datasets/sc --run_dir runs/sc
runs/sc: best validation accuracy 92.60% after epoch 8 of 10, 63 clips/s, 727 s
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import sys
from typing import TYPE_CHECKING, Any, Literal

from kws_model import devices, input_pipeline, network
from kws_model.dataset_info import DatasetInfo
from kws_model.run import Record, Run, check_new
from kws_model.validation import validator

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# The tutorial's Adadelta had 1.0; Keras's default has since become 0.001, which hardly learns.
LEARNING_RATES = {"adadelta": 1.0, "adam": 0.001}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `kws train` learns from, how, and where the run goes."""

    dataset: str
    """Folder of a dataset that kws prepare made."""
    run_dir: str
    """Folder for the run: configuration, history, weights, TensorBoard logs."""
    model: network.Model = "cnn"
    """cnn: the Keras tutorial's, 2.2 M weights; cnn_small: for small devices, 0.13 M."""
    epochs: int = 10
    """How often every clip is seen; fewer if early stopping is on."""
    batch_size: int = 64
    """Clips in a step, over all replicas together."""
    optimizer: Literal["adadelta", "adam"] = "adadelta"
    """The rule by which gradients change weights."""
    learning_rate: float | None = None
    """Size of a step. By default 1.0 for adadelta and 0.001 for adam."""
    early_stopping_patience: int = 0
    """Stop after this many epochs without a better one; 0 never does."""
    seed: int = 0
    """Of the first weights, the order of clips and dropout."""
    cpu_replicas: int = 1
    """More than 1: train on the CPU as if it were so many devices, to try out multi-GPU runs."""
    cache: bool = False
    """Keep the training split's records in memory after the first epoch."""
    overwrite: bool = False
    """Replace the run that run_dir already holds."""

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch_size", 1),
            ("early_stopping_patience", 0),
            ("seed", 0),
            ("cpu_replicas", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}; got {getattr(self, name)}")
        if not self.step_size > 0:
            raise ValueError(f"--learning_rate must be positive; got {self.learning_rate}")

    @property
    def step_size(self) -> float:
        """The learning rate (never None)."""
        if self.learning_rate is None:
            return LEARNING_RATES[self.optimizer]
        return self.learning_rate


def run(options: Options) -> None:
    """Trains, writes the run folder and prints a summary.

    Raises:
      ValueError: the dataset is missing, unfinished or damaged, has fewer clips than a batch or a
        feature that the model cannot take; the run folder holds a run; the batch does not divide
        among the replicas; or the loss became NaN.
    """
    check_new(options.run_dir, overwrite=options.overwrite)
    info = DatasetInfo.read(options.dataset)
    network.check(options.model, info.spec)
    input_pipeline.check_batch_size(info, options.batch_size)
    devices.start_tensorflow(cpu_replicas=options.cpu_replicas)
    strategy = devices.mirrored_strategy(cpu_replicas=options.cpu_replicas)
    check_batch_size(options.batch_size, replicas=strategy.num_replicas_in_sync)
    train(options, info, strategy)


def check_batch_size(batch_size: int, *, replicas: int) -> None:
    """Raises ValueError if a batch does not divide among the replicas."""
    if batch_size % replicas:
        raise ValueError(
            f"--batch_size {batch_size} does not divide among {replicas} replicas: "
            f"take a multiple of {replicas}"
        )


def train(options: Options, info: DatasetInfo, strategy: tf.distribute.Strategy) -> None:
    """Fits the model under a strategy; see `run`."""
    import keras

    keras.utils.set_random_seed(options.seed)  # first: tf.data's order depends on it, too
    batches = input_pipeline.training_batches(
        info, batch_size=options.batch_size, seed=options.seed, cache=options.cache
    )
    validation = validation_data(info, options)
    with strategy.scope():
        model = compiled_model(options, info)
    run_ = Run.create(options.run_dir, configuration(options, info, model, strategy))
    validate = validation and validator(model, validation, strategy)
    record = Record(run_, model, batch_size=options.batch_size, validate=validate)
    splits = ("train",) if validation is None else ("train", "validation")
    with input_pipeline.readable_errors(info, *splits):
        model.fit(
            batches,
            epochs=options.epochs,
            shuffle=False,  # the pipeline does; Keras would only warn that it cannot
            callbacks=callbacks(options, record),
            # A line per epoch where a bar would fill a log file.
            verbose=1 if sys.stdout.isatty() else 2,
        )
    record.finish()
    print(summary(run_, options))


def validation_data(info: DatasetInfo, options: Options) -> tf.data.Dataset | None:
    """The validation split, or None if the dataset has none.

    Raises:
      ValueError: early stopping is on and there is none.
    """
    if any(shard.num_examples for shard in info.shards if shard.split == "validation"):
        return input_pipeline.validation_batches(info, batch_size=options.batch_size)
    if options.early_stopping_patience:
        raise ValueError(
            f"{info.folder} has no validation split, and --early_stopping_patience needs one"
        )
    print(f"{info.folder} has no validation split: the last epoch's weights count as the best")
    return None


def compiled_model(options: Options, info: DatasetInfo) -> keras.Model:
    """A new model with its loss, accuracy and optimizer; call it in the strategy's scope."""
    import keras

    rules = {"adadelta": keras.optimizers.Adadelta, "adam": keras.optimizers.Adam}
    model = network.build(options.model, info.spec, num_classes=len(info.labels))
    # jit_compile stays "auto", which is off under a strategy: XLA does not compile its all-reduce.
    model.compile(
        rules[options.optimizer](learning_rate=options.step_size),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def callbacks(options: Options, record: Record) -> list[keras.callbacks.Callback]:
    """What happens beside the training itself."""
    import keras

    logs = str(record.run.folder / "tensorboard")
    chosen = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=record.begin_epoch,
            on_train_batch_end=record.end_batch,
            on_epoch_end=record.end_epoch,
        ),
        keras.callbacks.TensorBoard(logs, write_graph=False),
    ]
    if options.early_stopping_patience:
        patience = options.early_stopping_patience
        chosen.append(keras.callbacks.EarlyStopping("val_accuracy", patience=patience, mode="max"))
    return chosen


def configuration(
    options: Options, info: DatasetInfo, model: keras.Model, strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    """All that shapes a run, as JSON values."""
    settings = model.optimizer.get_config()
    return {
        "options": dataclasses.asdict(options),
        "model": options.model,
        "layers": [str(step) for step in network.MODELS[options.model]],
        "num_weights": model.count_params(),
        "optimizer": {
            name: value if isinstance(value, str | int | float | bool | None) else str(value)
            for name, value in settings.items()
        },
        "labels": list(info.labels),
        "spec": info.spec.to_dict(),
        "dataset": {
            "path": str(info.folder.resolve()),
            "name": info.name,
            "fingerprint": info.fingerprint,
        },
        "seed": options.seed,
        "replicas": list(strategy.extended.worker_devices),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("keras", "numpy", "tensorflow")},
        },
    }


def summary(run_: Run, options: Options) -> str:
    """The result in a few lines, and what to do next."""
    result = run_.config["result"]
    best, count = result["best"], result["epochs"]
    if "val_accuracy" in best:
        score = f"best validation accuracy {best['val_accuracy']:.2%} after epoch {best['epoch']}"
    else:
        score = f"training accuracy {best['accuracy']:.2%} after epoch {best['epoch']}"
    return (
        f"{options.run_dir}: {score} of {count}, "
        f"{result['clips_per_second']:,.0f} clips/s, {result['seconds']:,.0f} s\n"
        f"next: kws evaluate --run_dir {options.run_dir}"
    )


if __name__ == "__main__":
    from kws_model import cli

    cli.main(["train", *sys.argv[1:]])
