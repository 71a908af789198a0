"""TensorFlow without its start-up chatter, and the devices that a run trains on.

>>> mirrored_strategy(cpu_replicas=2).num_replicas_in_sync
2
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def load_tensorflow() -> None:
    """Imports TensorFlow and Keras and finds the devices, before anything else imports them.

    TensorFlow prints a dozen lines while it loads that no setting silences (2.21 ignores
    TF_CPP_MIN_LOG_LEVEL until it is up), "failed call to cuInit" on every machine without a GPU
    among them. They are held back, and shown after all if it does not load.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever ~/.keras/keras.json says
    if "tensorflow" in sys.modules:
        return
    with _stderr_held_back():
        tensorflow = importlib.import_module("tensorflow")
        importlib.import_module("keras")
        tensorflow.config.list_physical_devices()


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keeps what is written to file descriptor 2, by C++ too; shows it only after an exception."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def mirrored_strategy(*, cpu_replicas: int = 1) -> tf.distribute.MirroredStrategy:
    """Every GPU of this machine; without one, or if several CPU replicas are asked for, the CPU.

    Args:
      cpu_replicas: the CPU as this many devices, to try out what several GPUs would do.

    Raises:
      ValueError: TensorFlow has already set up its devices as others.
    """
    import tensorflow as tf

    if cpu_replicas == 1:
        return tf.distribute.MirroredStrategy()
    (cpu,) = tf.config.list_physical_devices("CPU")
    replicas = [tf.config.LogicalDeviceConfiguration()] * cpu_replicas
    try:
        tf.config.set_logical_device_configuration(cpu, replicas)
    except RuntimeError as error:
        raise ValueError("--cpu_replicas must be set before TensorFlow is first used") from error
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(cpu_replicas)])
