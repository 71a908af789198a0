import os

import pytest

# As `kws` itself does; TensorFlow reads it once, and a test module may import Keras first.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kws_model import train
from kws_model.run import Run
from tests.kws_model.datasets import write_dataset


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """24 + 7 + 4 clips of 3 words; for reading."""
    return write_dataset(tmp_path_factory.mktemp("datasets") / "tiny")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_dataset):
    """Three epochs of the small model; for reading."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train.run(
        train.Options(
            dataset=str(tiny_dataset.folder),
            run_dir=str(folder),
            model="cnn_small",
            optimizer="adam",
            epochs=3,
            batch_size=4,
        )
    )
    return Run.read(folder)
