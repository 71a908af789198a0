"""The validation split after each epoch, on all replicas, every clip counted once.

`keras.Model.fit` can do this too, but under a strategy Keras 3.15 with TensorFlow 2.21 stops at a
first batch that does not divide among the replicas and at a last one that leaves a replica with no
clip. So the batches here are filled up with clips of weight zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def validator(
    model: keras.Model, batches: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> Callable[[], dict[str, float]]:
    """What measures a model that is being trained under a strategy.

    Args:
      model: from features [batch, frames, bins] to probabilities [batch, labels].
      batches: of (feature, label, weight), as `input_pipeline.validation_batches` makes them.
      strategy: the model's; it must divide the batches evenly.

    Returns:
      A function that reads the batches once and returns `val_accuracy` and `val_loss` (the mean
      cross-entropy, in nats), each weighted by the weights.
    """
    import keras
    import tensorflow as tf

    distributed = strategy.experimental_distribute_dataset(batches)

    def sums(feature: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """[3] of one replica: the sums of the weights, of what is right and of the losses."""
        probabilities = model(feature, training=False)  # [batch, labels]
        right = keras.metrics.sparse_categorical_accuracy(label, probabilities)  # [batch]
        loss = keras.losses.sparse_categorical_crossentropy(label, probabilities)  # [batch]
        ones = tf.ones_like(weight)
        return tf.linalg.matvec(tf.stack([ones, right, loss]), weight)

    @tf.function
    def step(batch: tuple[tf.Tensor, ...]) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(sums, batch), axis=None)

    def validate() -> dict[str, float]:
        weight, right, loss = sum(step(batch).numpy().astype("float64") for batch in distributed)
        return {"val_accuracy": float(right / weight), "val_loss": float(loss / weight)}

    return validate
