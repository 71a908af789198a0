"""Exports: what is deployed answers for a WAV as the trained model does for its record."""

import importlib.util
import io
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from kws_model import cli, example, export, network
from kws_model.export import MODEL_FILES
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from kws_model.run import Run
from pipelines import clip, wav
from tests.corpora import corpora_dir

# ONNX needs packages that not everyone wants.
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnxruntime", "tf2onnx"))
FORMATS = ("saved_model", "tflite", "onnx") if HAS_ONNX else ("saved_model", "tflite")
LABELS = ("hiss", "low", "über")

SPECS = {
    "default": FeatureSpec(),
    # An FFT of no power of two, and every setting away from its default.
    "log_mel": FeatureSpec(
        feature="log_mel",
        dtype="float32",
        sample_rate_hz=8000,
        clip_ms=750,
        window_ms=25,
        fft_length=300,
        window_function="hamming",
        spectrum="magnitude",
        pre_emphasis=0.97,
        log_offset=0.1,
        num_mel_bins=24,
        mel_scale="slaney",
    ),
    "mfcc": FeatureSpec(feature="mfcc", lifter=22),
}


def sound(label: int, seconds: float, *, rate_hz: int, seed: int) -> np.ndarray:
    """Noise, a low tone or a high one, [samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = rng.normal(0, 0.05, len(time))
    return noise + (0.4 * np.sin(2 * np.pi * (300 + 900 * label) * time) if label else 0)


def wav_bytes(samples: np.ndarray, *, rate_hz: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


def wavs_for(spec: FeatureSpec) -> list[bytes]:
    """WAV files that fit, are too short, too long, loud, silent, and of two channels."""
    rate_hz, seconds = spec.sample_rate_hz, spec.clip_ms / 1000
    sounds = [
        sound(number % 3, seconds * share, rate_hz=rate_hz, seed=100 + number)
        for number, share in enumerate((1, 1, 1, 0.4, 0.7, 1.9))
    ]
    sounds += [30 * sounds[0], 0 * sounds[0], np.stack(sounds[:2], axis=1)]
    return [wav_bytes(samples, rate_hz=rate_hz) for samples in sounds]


def clips_of(wavs: list[bytes], spec: FeatureSpec) -> np.ndarray:
    """float32 [wavs, clip_samples], read without our own code."""
    clips = np.zeros((len(wavs), spec.clip_samples), np.float32)
    for row, content in zip(clips, wavs, strict=True):
        samples = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]
        mono = samples.mean(axis=1)[: spec.clip_samples]
        row[: len(mono)] = mono
    return clips


def record_of(content: bytes, spec: FeatureSpec) -> bytes:
    """The record that `kws prepare` makes of a WAV file."""
    made = clip.make_clip(wav.decode(content), spec.sample_rate_hz)
    feature = Frontend(spec)(clip.fit(made.mono, spec.clip_samples)[None])[0]
    return b"".join(
        example.encode(
            clip_id="x", speaker="", word="", label=0, name=spec.feature, value=feature.tobytes()
        )
    )


def answers_on_records(run: Run, wavs: list[bytes]) -> np.ndarray:
    """What the trained model says of their records, float32 [wavs, labels]."""
    records = tf.constant([record_of(content, run.spec) for content in wavs])
    parsed = example.parse_batch(records, run.spec)
    return run.load_model("best").predict_on_batch(parsed[run.spec.feature])


@pytest.fixture(scope="module", params=SPECS)
def run_of_spec(request, tmp_path_factory) -> Run:
    return train_run(tmp_path_factory.mktemp("runs") / request.param, SPECS[request.param])


def train_run(folder: pathlib.Path, spec: FeatureSpec) -> Run:
    """A run whose model has learnt to tell the three sounds; `last` is the untrained model."""
    config = {"model": "cnn_small", "spec": spec.to_dict(), "labels": list(LABELS)}
    run = Run.create(folder, config)
    keras.utils.set_random_seed(0)
    model = network.build("cnn_small", spec, num_classes=len(LABELS))
    model.save_weights(run.weights_path("last"))
    labels = np.arange(24) % 3
    sounds = [
        sound(label, spec.clip_ms / 1000, rate_hz=spec.sample_rate_hz, seed=seed)
        for seed, label in enumerate(labels)
    ]
    features = Frontend(spec)(np.stack(sounds).astype(np.float32))
    model.compile(keras.optimizers.Adam(0.002), loss="sparse_categorical_crossentropy")
    model.fit(features, labels, batch_size=4, epochs=8, verbose=0)
    model.save_weights(run.weights_path("best"))
    return run


@pytest.fixture(scope="module", params=FORMATS)
def format_(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def exported(run_of_spec, format_, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("exports") / format_
    export.run(options(run_of_spec, folder, format=format_))
    return folder


def options(run: Run, folder: pathlib.Path, **settings) -> export.Options:
    return export.Options(run_dir=str(run.folder), output=str(folder), **settings)


# The promise that the whole project is built around.


def test_an_export_answers_for_a_wav_as_the_model_does_for_its_record(
    run_of_spec, exported, format_
):
    wavs = wavs_for(run_of_spec.spec)
    expected = answers_on_records(run_of_spec, wavs)
    assert list(expected[:3].argmax(axis=1)) == [0, 1, 2]  # the model has learnt something
    answers = export.probabilities(exported, clips_of(wavs, run_of_spec.spec), format_=format_)
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_number_of_clips_can_be_asked_at_once(run_of_spec, exported, format_, batch):
    clips = clips_of(wavs_for(run_of_spec.spec), run_of_spec.spec)
    all_at_once = export.probabilities(exported, clips, format_=format_)
    answers = export.probabilities(exported, clips[:batch], format_=format_)
    assert answers.shape == (batch, len(LABELS))
    np.testing.assert_allclose(answers, all_at_once[:batch], rtol=0, atol=1e-4)


def test_labels_and_spec_lie_beside_the_model(run_of_spec, exported, format_):
    assert (exported / MODEL_FILES[format_]).is_file()
    assert (exported / "labels.txt").read_text("utf-8") == "hiss\nlow\nüber\n"
    settings = json.loads((exported / "feature_spec.json").read_text())
    assert FeatureSpec.from_dict(settings) == run_of_spec.spec


# Each format's own.


@pytest.fixture(scope="module")
def default_run(tmp_path_factory) -> Run:
    return train_run(tmp_path_factory.mktemp("runs") / "default", SPECS["default"])


@pytest.fixture(scope="module")
def saved_model(default_run, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("exports") / "saved_model"
    export.run(options(default_run, folder))
    return folder


def test_a_saved_model_also_takes_the_bytes_of_wav_files(default_run, saved_model):
    wavs = wavs_for(default_run.spec)
    answer = tf.saved_model.load(str(saved_model)).signatures["wav"](wav=tf.constant(wavs))
    expected = answers_on_records(default_run, wavs)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-3)


def test_a_wav_of_another_sample_rate_is_refused(saved_model):
    other = wav_bytes(np.zeros(8000), rate_hz=8000)
    signature = tf.saved_model.load(str(saved_model)).signatures["wav"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="takes WAV files of 16000 Hz"):
        signature(wav=tf.constant([other]))


def test_a_saved_model_holds_each_weight_once(default_run, saved_model):
    size = sum(path.stat().st_size for path in (saved_model / "variables").iterdir())
    assert size < 1.1 * 4 * default_run.load_model("best").count_params()


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tflite_needs_no_operation_beyond_the_built_in_ones(default_run, tmp_path):
    export.run(options(default_run, tmp_path / "x", format="tflite"))
    content = (tmp_path / "x" / "model.tflite").read_bytes()
    operations = {
        operation["op_name"]
        for operation in tf.lite.Interpreter(model_content=content)._get_ops_details()
    }
    assert {"RFFT2D", "CONV_2D"} <= operations
    assert not any("Flex" in name or "VAR" in name for name in operations)


# What is written, and when.


def test_what_was_done_is_printed(default_run, tmp_path, capsys):
    export.run(options(default_run, tmp_path / "x", weights="last"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'x'}: saved_model.pb, labels.txt and feature_spec")
    takes, gives = lines[1].split("; ")
    assert takes == "takes waveform, float32 [batch, 16000] at 16000 Hz"
    assert gives == "gives probabilities, float32 [batch, 3]"
    assert lines[2].startswith("written, read back and compared with the run on 4 clips: at most ")
    # And the weights are those asked for.
    clips = clips_of(wavs_for(default_run.spec), default_run.spec)
    expected = default_run.load_model("last").predict_on_batch(Frontend(default_run.spec)(clips))
    answers = export.probabilities(tmp_path / "x", clips, format_="saved_model")
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("answer", [0.0, np.nan])
def test_an_export_that_answers_otherwise_is_not_kept(default_run, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(export, "write", lambda *arguments, **settings: None)
    wrong = np.full((1, len(LABELS)), answer, np.float32)
    monkeypatch.setattr(export, "probabilities", lambda *arguments, **settings: wrong)
    with pytest.raises(ValueError, match=r"^the exported tflite gives .*: nothing was written$"):
        export.run(options(default_run, tmp_path / "x", format="tflite"))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def quick(monkeypatch):
    """Exports that take no time: a file instead of a model, not checked."""

    def write(model, spec, folder, *, format_):
        (folder / MODEL_FILES[format_]).write_text("new")

    monkeypatch.setattr(export, "write", write)
    monkeypatch.setattr(export, "check", lambda *arguments, **settings: 0.0)


def test_an_export_is_only_replaced_when_asked(default_run, tmp_path, quick):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "model.tflite").write_text("old")
    (folder / "notes").write_text("old")
    with pytest.raises(ValueError, match=r"is not empty: choose another, or pass --overwrite$"):
        export.run(options(default_run, folder, format="tflite"))
    assert (folder / "model.tflite").read_text() == "old"
    export.run(options(default_run, folder, format="tflite", overwrite=True))
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["feature_spec.json", "labels.txt", "model.tflite"]
    assert (folder / "model.tflite").read_text() == "new"


def test_a_folder_that_holds_no_export_is_never_replaced(default_run, tmp_path, quick):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="thesis holds something else than an export: name anoth"):
        export.run(options(default_run, folder, overwrite=True))
    assert (folder / "thesis.tex").read_text() == "x"


def test_a_run_without_weights_is_refused_before_tensorflow_starts(tmp_path):
    Run.create(tmp_path / "run", {"spec": FeatureSpec().to_dict(), "labels": list(LABELS)})
    with pytest.raises(ValueError, match=r"has no best\.weights\.h5: it stopped before"):
        export.run(export.Options(run_dir=str(tmp_path / "run"), output=str(tmp_path / "x")))
    with pytest.raises(ValueError, match=r"no run in .*: it has no config\.json"):
        export.run(export.Options(run_dir=str(tmp_path), output=str(tmp_path / "x")))


def test_missing_packages_are_named_with_the_way_to_get_them(default_run, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"not installed: pip install onnxruntime tf2onnx$"):
        export.run(options(default_run, tmp_path / "x", format="onnx"))


def test_wrong_flags_are_refused_without_waiting_for_tensorflow():
    program = (
        "import sys; from kws_model import cli, export; "
        "cli.parse(export.Options, sys.argv[1:], command='export'); "
        "print({'tensorflow', 'keras', 'apache_beam'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, "--run_dir", "r", "--output", "o"]
    assert subprocess.check_output(command, text=True) == "set()\n"


def test_an_unknown_format_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["export", "--run_dir", "r", "--output", "o", "--format", "h5"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("kws export: ")


# Real recordings.

if (corpora := corpora_dir()) is not None and (corpora / "speech_commands_9").is_dir():
    RECORDINGS = sorted((corpora / "speech_commands_9").glob("[a-z]*/*.wav"))[::100]

    def test_an_export_answers_for_recordings_as_the_model_does_for_their_records(
        run_of_spec, exported, format_
    ):
        assert RECORDINGS
        wavs = [path.read_bytes() for path in RECORDINGS]
        if run_of_spec.spec.sample_rate_hz != 16000:  # the same samples, called a lower rate
            wavs = [wav_bytes(soundfile.read(path)[0], rate_hz=8000) for path in RECORDINGS]
        answers = export.probabilities(exported, clips_of(wavs, run_of_spec.spec), format_=format_)
        expected = answers_on_records(run_of_spec, wavs)
        np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-3)
