"""The model zoo: each architecture is a table, from a picture of sound to a probability per word.

>>> build("cnn", FeatureSpec(), num_classes=30).count_params()
2226846
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from kws_model.feature_spec import FeatureSpec

if TYPE_CHECKING:
    import keras

Model = Literal["cnn", "cnn_small"]


@dataclasses.dataclass(frozen=True)
class Conv:
    """A 3 x 3 convolution without padding, then ReLU."""

    filters: int


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """The largest of each 2 x 2."""


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Sets a part of the values to zero, in training alone."""

    rate: float


@dataclasses.dataclass(frozen=True)
class Flatten:
    """Picture to vector: from here on no axis is time."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """All to all, then ReLU."""

    units: int


Step = Conv | MaxPool | Dropout | Flatten | Dense

# Shapes are [time, frequency, channel] for the default feature, 98 frames of 257 bins. A dense
# layer of one unit per class, with softmax, ends each model.
MODELS: dict[str, tuple[Step, ...]] = {
    # D. Falbel, "Simple Audio Classification with Keras" (2018),
    # https://blogs.rstudio.com/ai/posts/2018-06-06-simple-audio-classification-keras/
    # 30 classes: 2.2 M weights, 270 M multiplications a clip.
    "cnn": (  #          98 x 257 x 1
        Conv(32),  #     96 x 255 x 32
        MaxPool(),  #    48 x 127 x 32
        Conv(64),  #     46 x 125 x 64
        MaxPool(),  #    23 x  62 x 64
        Conv(128),  #    21 x  60 x 128
        MaxPool(),  #    10 x  30 x 128
        Conv(256),  #     8 x  28 x 256
        MaxPool(),  #     4 x  14 x 256
        Dropout(0.25),
        Flatten(),  #    14336
        Dense(128),  #   128
        Dropout(0.5),
    ),
    # For small devices. 30 classes: 0.13 M weights, 18 M multiplications a clip.
    "cnn_small": (  #    98 x 257 x 1
        Conv(8),  #      96 x 255 x 8
        MaxPool(),  #    48 x 127 x 8
        Conv(16),  #     46 x 125 x 16
        MaxPool(),  #    23 x  62 x 16
        Conv(32),  #     21 x  60 x 32
        MaxPool(),  #    10 x  30 x 32
        Conv(64),  #      8 x  28 x 64
        MaxPool(),  #     4 x  14 x 64
        Dropout(0.25),
        Flatten(),  #    3584
    ),
}


def check(model: str, spec: FeatureSpec) -> None:
    """Raises ValueError if there is no such model or it cannot take the spec's feature."""
    if model not in MODELS:
        raise ValueError(f"no model {model!r}; the models are: {', '.join(MODELS)}")
    if len(spec.shape) != 2:
        raise ValueError(
            f"model {model} needs a picture (time x frequency), and the dataset's feature is "
            f"{spec.feature}: prepare one with --feature log_spectrogram, log_mel or mfcc"
        )


def build(model: str, spec: FeatureSpec, *, num_classes: int) -> keras.Model:
    """Builds a model with new weights.

    Args:
      model: a key of `MODELS`.
      spec: the feature it takes; any with two axes.
      num_classes: how many probabilities it gives.

    Returns:
      A model from `spec.dtype` [batch, frames, bins], as stored, to float32 [batch, num_classes],
      each in [0, 1] with sum 1.

    Raises:
      ValueError: as `check`.
    """
    check(model, spec)
    import keras

    inputs = keras.Input(spec.shape, dtype=spec.dtype, name=spec.feature)  # [batch, frames, bins]
    x = keras.ops.cast(inputs, "float32")
    x = keras.ops.expand_dims(x, -1)  # [batch, frames, bins, 1]
    for step in MODELS[model]:
        x = _layer(step, x.shape)(x)
    outputs = keras.layers.Dense(num_classes, activation="softmax")(x)  # [batch, num_classes]
    return keras.Model(inputs, outputs, name=model)


def _layer(step: Step, shape: tuple[int, ...]) -> keras.Layer:
    """The Keras layer of a step that takes [batch, *shape].

    A kernel or pool never reaches past the picture: of 13 coefficients the third convolution sees
    but one, and is 3 x 1 there. The default's 98 x 257 is large enough for all of them.
    """
    import keras

    layers = keras.layers
    match step:
        case Conv(filters):
            kernel = tuple(min(3, size) for size in shape[1:3])
            return layers.Conv2D(filters, kernel, activation="relu")
        case MaxPool():
            return layers.MaxPooling2D(tuple(min(2, size) for size in shape[1:3]))
        case Dropout(rate):
            return layers.Dropout(rate)
        case Flatten():
            return layers.Flatten()
        case Dense(units):
            return layers.Dense(units, activation="relu")
