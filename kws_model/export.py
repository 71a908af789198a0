"""A trained model as one folder to deploy, from waveform to probabilities.

$ kws export --run_dir runs/sc --output exports/sc --format tflite
exports/sc: model.tflite, labels.txt and feature_spec.json, 8.9 MB
takes waveform, float32 [batch, 16000] at 16000 Hz; gives probabilities, float32 [batch, 30]
written, read back and compared with the run on 4 clips: at most 2.9e-06 apart

    saved_model   tf.saved_model.load(DIR).signatures["serving_default"](waveform=clips)
                  ... .signatures["wav"](wav=[bytes]): 16-bit WAV files of that sample rate
    tflite        tf.lite.Interpreter(DIR/model.tflite): built-in operations alone
    onnx          onnxruntime.InferenceSession(DIR/model.onnx), opset 17
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib
import sys
import tempfile
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kws_model import devices
from kws_model.feature_spec import FeatureSpec
from kws_model.new_folder import check_new_folder, new_folder
from kws_model.run import Run, Weights

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from kws_model import frontend_tf

Format = Literal["saved_model", "tflite", "onnx"]
MODEL_FILES: dict[str, str] = {
    "saved_model": "saved_model.pb",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
}
Float32 = NDArray[np.float32]

# Apart from rounding, an export and its run compute the same: a feature between two float16s may go
# either way. On 500 real recordings that moved no probability by more than 2e-5, and in ONNX, where
# the spectrum comes from matrix products, by 5e-4.
TOLERANCE = 1e-3
ONNX_OPSET = 17


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `kws export` writes, and where."""

    run_dir: str
    """Folder of a run that kws train made."""
    output: str
    """Folder for the model, its labels.txt and its feature_spec.json."""
    format: Format = "saved_model"
    """saved_model: TensorFlow and its servers; tflite: phones and small computers; onnx: others, of
    which ONNX Runtime is checked (needs the packages onnxruntime and tf2onnx)."""
    weights: Weights = "best"
    """Of the best epoch or the last."""
    overwrite: bool = False
    """Replace the export that output already holds."""


def run(options: Options) -> None:
    """Writes the folder, whole or not at all, once what was written has been read and checked.

    Raises:
      ValueError: no run or no weights there; the output holds something; or the exported model does
        not give the trained model's probabilities.
      ImportError: the format needs a package that is not installed.
    """
    run_ = Run.read(options.run_dir)
    run_.check_weights(options.weights)
    check_output(options.output, overwrite=options.overwrite)
    check_packages(options.format)
    devices.start_tensorflow()
    model = run_.load_model(options.weights)
    with new_folder(options.output, overwrite=options.overwrite) as folder:
        write(model, run_.spec, folder, format_=options.format)
        (folder / "labels.txt").write_text("".join(f"{label}\n" for label in run_.labels), "utf-8")
        spec = json.dumps(run_.spec.to_dict(), indent=2, sort_keys=True)
        (folder / "feature_spec.json").write_text(f"{spec}\n")
        difference = check(model, run_.spec, folder, format_=options.format)
    print(summary(options, run_, difference))


def check_output(output: str, *, overwrite: bool) -> None:
    """Raises ValueError if the output holds something that may not be replaced."""
    target = check_new_folder(output, overwrite=overwrite)
    is_empty = not target.exists() or not any(target.iterdir())
    if not is_empty and not any((target / name).exists() for name in MODEL_FILES.values()):
        raise ValueError(f"--output {output} holds something else than an export: name another")


def check_packages(format_: Format) -> None:
    """Raises ImportError, before any work, if a package that the format needs is missing."""
    needed = {"onnx": ("onnxruntime", "tf2onnx")}.get(format_, ())
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"--format {format_} needs packages that are not installed: "
            f"pip install {' '.join(missing)}"
        )


def write(model: keras.Model, spec: FeatureSpec, folder: pathlib.Path, *, format_: Format) -> None:
    """Writes the model's file or files alone into an empty folder."""
    writers = {"saved_model": write_saved_model, "tflite": write_tflite, "onnx": write_onnx}
    writers[format_](model, spec, folder)


def write_saved_model(model: keras.Model, spec: FeatureSpec, folder: pathlib.Path) -> None:
    """Writes a SavedModel with the signatures `serving_default` and `wav`."""
    import tensorflow as tf

    from kws_model import frontend_tf

    serve = serving_function(model, spec, magnitude=frontend_tf.fft_magnitude)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="wav")])
    def serve_wav(wav: tf.Tensor) -> dict[str, tf.Tensor]:
        clip = tf.TensorSpec([spec.clip_samples], tf.float32)
        clips = tf.map_fn(lambda content: _decode_wav(content, spec), wav, fn_output_signature=clip)
        return serve(clips)  # [batch, labels]

    _write_archive(folder, serving_default=serve, wav=serve_wav)


def write_tflite(model: keras.Model, spec: FeatureSpec, folder: pathlib.Path) -> None:
    """Writes model.tflite, of built-in operations alone: it runs wherever TensorFlow Lite does."""
    import tensorflow as tf

    from kws_model import frontend_tf

    # Its FFT takes powers of two alone.
    is_power_of_two = spec.fft_size.bit_count() == 1
    magnitude = frontend_tf.fft_magnitude if is_power_of_two else frontend_tf.dft_magnitude
    serve = serving_function(model, spec, magnitude=magnitude)
    with tempfile.TemporaryDirectory() as saved_model:
        _write_archive(pathlib.Path(saved_model), serving_default=serve)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = converter.convert()
    (folder / MODEL_FILES["tflite"]).write_bytes(content)


def write_onnx(model: keras.Model, spec: FeatureSpec, folder: pathlib.Path) -> None:
    """Writes model.onnx."""
    import tf2onnx

    from kws_model import frontend_tf

    # tf2onnx 1.17 stops at the FFT of a batch whose size is unknown.
    serve = serving_function(model, spec, magnitude=frontend_tf.dft_magnitude)
    proto, _ = tf2onnx.convert.from_function(
        serve, input_signature=serve.input_signature, opset=ONNX_OPSET
    )
    (folder / MODEL_FILES["onnx"]).write_bytes(proto.SerializeToString())


def serving_function(
    model: keras.Model, spec: FeatureSpec, *, magnitude: frontend_tf.Magnitude
) -> tf.types.experimental.PolymorphicFunction:
    """The graph to deploy: waveform [batch, clip_samples] -> probabilities [batch, labels].

    `magnitude` is how it computes the spectrum: see `kws_model.frontend_tf`.
    """
    import tensorflow as tf

    from kws_model import frontend_tf

    signature = [tf.TensorSpec([None, spec.clip_samples], tf.float32, name="waveform")]

    @tf.function(input_signature=signature)
    def serve(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        values = frontend_tf.features(waveform, spec, magnitude=magnitude)
        stored = frontend_tf.quantize(values, spec)  # [batch, frames, bins], as in a record
        return {"probabilities": model(stored, training=False)}  # [batch, labels]

    return serve


def _decode_wav(content: tf.Tensor, spec: FeatureSpec) -> tf.Tensor:
    """The bytes of a 16-bit WAV file, string [] -> float32 [clip_samples], as `kws prepare` does.

    Channels are averaged, the end padded with zeros or cut off. Another sample rate is an error.
    """
    import tensorflow as tf

    samples, rate_hz = tf.audio.decode_wav(content, desired_samples=spec.clip_samples)
    message = f"the model takes WAV files of {spec.sample_rate_hz} Hz"
    with tf.control_dependencies(
        [tf.debugging.assert_equal(rate_hz, spec.sample_rate_hz, message)]
    ):
        return tf.reduce_mean(samples, axis=1)  # [clip_samples, channels] -> [clip_samples]


def _write_archive(
    folder: pathlib.Path, **endpoints: tf.types.experimental.PolymorphicFunction
) -> None:
    """Writes a SavedModel whose signatures are the endpoints."""
    import keras

    # Not tf.saved_model.save of a module that holds the model: from that, TensorFlow 2.21 converts
    # a .tflite file with variables in place of weights, which answers NaN. And no track(): the
    # endpoints' weights are found anyway, and would be written twice
    # (https://github.com/keras-team/keras/issues/23553).
    archive = keras.export.ExportArchive()
    for name, function in endpoints.items():
        archive.add_endpoint(name, function)
    archive.write_out(str(folder), verbose=False)


def probabilities(folder: pathlib.Path, clips: Float32, *, format_: Format) -> Float32:
    """What an exported model says: float32 [batch, clip_samples] -> float32 [batch, labels]."""
    path = folder / MODEL_FILES[format_]
    if format_ == "saved_model":
        import tensorflow as tf

        serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
        return serve(waveform=tf.constant(clips))["probabilities"].numpy()
    if format_ == "tflite":
        import tensorflow as tf

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow 2.21 says that 2.20 no longer has it
            interpreter = tf.lite.Interpreter(str(path))
        return interpreter.get_signature_runner()(waveform=clips)["probabilities"]
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"waveform": clips})[0]


def check(model: keras.Model, spec: FeatureSpec, folder: pathlib.Path, *, format_: Format) -> float:
    """Reads an export and returns how far it is, at most, from what the run says of the records.

    Raises:
      ValueError: further than `TOLERANCE`.
    """
    from kws_model.frontend import Frontend

    clips = example_clips(spec)
    expected = model.predict_on_batch(Frontend(spec)(clips))  # [clips, labels]
    together = probabilities(folder, clips, format_=format_)
    alone = probabilities(folder, clips[:1], format_=format_)
    answers = np.concatenate([together - expected, alone - expected[:1]])
    difference = float(np.abs(answers).max())
    if not difference <= TOLERANCE:  # NaN, too
        raise ValueError(
            f"the exported {format_} gives probabilities {difference:.2g} from the trained model's "
            f"(up to {TOLERANCE:g} is rounding): nothing was written"
        )
    return difference


def example_clips(spec: FeatureSpec) -> Float32:
    """Silence, a rising tone, noise and clipped noise: float32 [4, clip_samples]."""
    time = np.arange(spec.clip_samples) / spec.clip_samples
    noise = np.random.default_rng(0).normal(0, 0.05, spec.clip_samples)
    tone = 0.5 * np.sin(np.pi * spec.clip_samples * time * time / 4)
    return np.stack([0 * time, tone, noise, np.clip(40 * noise, -1, 1)]).astype(np.float32)


def summary(options: Options, run_: Run, difference: float) -> str:
    """What was written, what it takes and gives, and how far it is from the run."""
    files = [path for path in pathlib.Path(options.output).rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    spec = run_.spec
    return (
        f"{options.output}: {MODEL_FILES[options.format]}, labels.txt and feature_spec.json, "
        f"{megabytes:.1f} MB\n"
        f"takes waveform, float32 [batch, {spec.clip_samples}] at {spec.sample_rate_hz} Hz; "
        f"gives probabilities, float32 [batch, {len(run_.labels)}]\n"
        f"written, read back and compared with the run on 4 clips: at most {difference:.1e} apart"
    )


if __name__ == "__main__":
    from kws_model import cli

    cli.main(["export", *sys.argv[1:]])
