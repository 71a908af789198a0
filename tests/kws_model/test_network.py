import keras
import numpy as np
import pytest

from kws_model import network
from kws_model.feature_spec import FeatureSpec

SMALL = ("log_mel", "mfcc")


def shapes(model):
    """(kind, output shape without the batch) of each layer with a shape of its own."""
    return [
        (type(layer).__name__, layer.output.shape[1:])
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.MaxPooling2D | keras.layers.Dense)
    ]


def test_the_cnn_is_the_tutorials():
    # From the layer-by-layer listing of its R code, with 30 words.
    model = network.build("cnn", FeatureSpec(), num_classes=30)

    assert shapes(model) == [
        ("Conv2D", (96, 255, 32)),
        ("MaxPooling2D", (48, 127, 32)),
        ("Conv2D", (46, 125, 64)),
        ("MaxPooling2D", (23, 62, 64)),
        ("Conv2D", (21, 60, 128)),
        ("MaxPooling2D", (10, 30, 128)),
        ("Conv2D", (8, 28, 256)),
        ("MaxPooling2D", (4, 14, 256)),
        ("Dense", (128,)),
        ("Dense", (30,)),
    ]
    convolutions = sum(9 * a * b + b for a, b in ((1, 32), (32, 64), (64, 128), (128, 256)))
    assert model.count_params() == convolutions + 4 * 14 * 256 * 128 + 128 + 128 * 30 + 30
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [
        0.25,
        0.5,
    ]


@pytest.mark.parametrize("model", network.MODELS)
@pytest.mark.parametrize("feature", SMALL)
def test_a_kernel_never_reaches_past_a_small_picture(model, feature):
    spec = FeatureSpec(feature=feature)

    built = network.build(model, spec, num_classes=4)

    last = [shape for kind, shape in shapes(built) if kind == "MaxPooling2D"][-1]
    assert last[:2] == (4, 1)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_model_takes_the_stored_type_and_gives_probabilities(dtype):
    spec = FeatureSpec(feature="mfcc", dtype=dtype)
    model = network.build("cnn_small", spec, num_classes=5)

    probabilities = model.predict_on_batch(np.zeros((3, *spec.shape), dtype))

    assert (model.inputs[0].dtype, probabilities.dtype) == (dtype, np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_the_small_model_is_small():
    assert network.build("cnn_small", FeatureSpec(), num_classes=30).count_params() < 140_000


def test_a_waveform_is_refused():
    spec = FeatureSpec(feature="waveform")

    with pytest.raises(ValueError, match=r"cnn needs a picture .* is waveform: prepare .* mfcc"):
        network.check("cnn", spec)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="no model 'rnn'; the models are: cnn, cnn_small"):
        network.check("rnn", FeatureSpec())
