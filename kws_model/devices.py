"""TensorFlow without its start-up chatter, and the devices that a run trains on.

>>> start_tensorflow(cpu_replicas=2)
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


def start_tensorflow(*, cpu_replicas: int = 1) -> None:
    """Imports TensorFlow and Keras and sets up the devices, without a word if all goes well.

    TensorFlow 2.21 prints a dozen lines while it starts, "failed call to cuInit" on every machine
    without a GPU among them, which no setting silences. They are held back, and shown after all if
    it does not start. To see why a GPU is not found:
    `python -c "import tensorflow as tf; tf.config.list_physical_devices()"`.

    Args:
      cpu_replicas: the CPU as this many devices, to try out what several GPUs would do.

    Raises:
      ValueError: TensorFlow has been started before, with fewer.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever ~/.keras/keras.json says
    with _stderr_held_back():
        tf = importlib.import_module("tensorflow")
        importlib.import_module("keras")
        if cpu_replicas > 1:
            (cpu,) = tf.config.list_physical_devices("CPU")
            replicas = [tf.config.LogicalDeviceConfiguration()] * cpu_replicas
            try:
                tf.config.set_logical_device_configuration(cpu, replicas)
            except RuntimeError as error:
                raise ValueError("--cpu_replicas comes too late: TensorFlow has started") from error
        tf.zeros(
            [], tf.float16
        )  # The first use of a type prints too: which CPUs do it in hardware.


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
    """Every GPU of this machine; the CPU if there is none, or if it is to be several replicas."""
    import tensorflow as tf

    if cpu_replicas == 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(cpu_replicas)])
