import hashlib
import importlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from pipelines import synthesize
from pipelines.espeak import Espeak

pytest.importorskip("espeakng_loader")  # the "synth" extra

SPEAKERS = synthesize.make_speakers(0, 10)


def make(folder: Path, **settings: object) -> Path:
    settings = {"words": ("yes", "no"), "clips_per_word": 6, "speakers": 4} | settings
    settings = {"background_seconds": 0} | settings
    synthesize.run(synthesize.Options(output=str(folder), **settings))  # type: ignore[arg-type]
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.wav"))
    }


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_names_and_folders_are_those_of_speech_commands(tmp_path):
    corpus = make(tmp_path / "corpus", background_seconds=1)
    one, two, three, four = (speaker.id for speaker in SPEAKERS[:4])
    clips = [f"{one}_nohash_0", f"{one}_nohash_1", f"{two}_nohash_0", f"{two}_nohash_1"]
    clips += [f"{three}_nohash_0", f"{four}_nohash_0"]
    assert {path.stem for path in (corpus / "yes").iterdir()} == set(clips)
    assert {path.stem for path in (corpus / "no").iterdir()} == set(clips)
    background = {path.stem for path in (corpus / "_background_noise_").iterdir()}
    assert background == {
        "white_noise", "pink_noise", "brown_noise", "mains_hum", "tapping", "babble",
    }  # fmt: skip


def test_speaker_ids_never_change():
    # They decide the split of every clip: another value moves recordings between the splits.
    assert [speaker.id for speaker in SPEAKERS[:3]] == ["ac73ec03", "f38f365f", "dbd3a50c"]
    assert [speaker.id for speaker in synthesize.make_speakers(1, 2)] == ["58b15368", "ebb96320"]


def test_every_ten_speakers_reach_every_split():
    def published_split(speaker_id: str) -> str:
        number = int(hashlib.sha1(speaker_id.encode()).hexdigest(), 16)
        percent = number % 2**27 * (100 / (2**27 - 1))
        return "validation" if percent < 10 else "test" if percent < 20 else "train"

    splits = [published_split(speaker.id) for speaker in synthesize.make_speakers(0, 40)]
    for block in range(0, 40, 10):
        assert sorted(splits[block : block + 10]) == ["test", *["train"] * 8, "validation"]
    assert set(splits[:3]) == {"train", "validation", "test"}


def test_more_speakers_keep_the_first_ones():
    assert synthesize.make_speakers(0, 25)[:10] == SPEAKERS


def test_lists_name_the_clips_of_their_split(tmp_path):
    corpus = make(tmp_path / "corpus")
    _, validation, test, _ = (speaker.id for speaker in SPEAKERS[:4])
    names = [f"no/{validation}_nohash_0.wav", f"no/{validation}_nohash_1.wav"]
    names += [f"yes/{validation}_nohash_0.wav", f"yes/{validation}_nohash_1.wav"]
    assert (corpus / "validation_list.txt").read_text().splitlines() == names
    names = [f"no/{test}_nohash_0.wav", f"yes/{test}_nohash_0.wav"]
    assert (corpus / "testing_list.txt").read_text().splitlines() == names


def test_two_processes_write_the_same_bytes(tmp_path):
    script = (
        "import sys; from pipelines import synthesize as s; s.run(s.Options(output=sys.argv[1],"
        " words=('marvin', 'six'), clips_per_word=12, speakers=5, background_seconds=2))"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=True)
    assert len(digests(tmp_path / "a")) == 2 * 12 + 6
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_fewer_words_or_clips_are_the_same_bytes(tmp_path):
    whole = digests(make(tmp_path / "whole", words=("yes", "no", "seven"), clips_per_word=9))
    part = digests(make(tmp_path / "part", words=("seven", "yes"), clips_per_word=5))
    assert len(part) == 10
    assert part.items() <= whole.items()


def test_another_seed_makes_other_speakers(tmp_path):
    zero, one = make(tmp_path / "zero"), make(tmp_path / "one", seed=1)
    assert not set(digests(zero).values()) & set(digests(one).values())
    assert not set(digests(zero)) & set(digests(one))


def test_espeak_says_the_same_in_any_order():
    # It carries flutter, echo, roughness, breath, gain and formants from one utterance to the next.
    utterances = [
        (word + mark, speaker, rate, pitch)
        for word in ("zero", "stop", "house")
        for mark in (".", "?")
        for speaker in SPEAKERS
        for rate, pitch in ((110, 50), (150, 44), (190, 58))
    ]

    def say(order):
        with Espeak(SPEAKERS) as espeak:
            return {
                (text, speaker, rate, pitch): espeak.say(
                    text, speaker=speaker, words_per_minute=rate, pitch=pitch
                ).tobytes()
                for text, speaker, rate, pitch in order
            }

    assert say(utterances) == say(random.Random(0).sample(utterances, len(utterances)))


def test_speakers_differ_in_voice_and_not_in_name_alone():
    with Espeak(SPEAKERS) as espeak:
        said = {
            espeak.say("seven.", speaker=speaker, words_per_minute=140).tobytes()
            for speaker in SPEAKERS
        }
    assert len(said) == len(SPEAKERS)


def test_speech_is_never_cut_or_clipped_and_noise_stays_below_it(tmp_path):
    corpus = make(tmp_path / "corpus", words=("marvin", "up"), clips_per_word=80, speakers=20)
    sizes = []
    for path in sorted(corpus.rglob("*.wav")):
        samples = samples_of(path) / 2**15
        peak = np.abs(samples).max()
        ends = np.concatenate([samples[:200], samples[-200:]])
        assert 0.02 < peak < 1
        assert np.abs(ends).max() < 0.7 * peak
        sizes.append(samples.size)
    short = [size for size in sizes if size < 16_000]
    assert max(sizes) == 16_000
    assert min(sizes) >= 6_400
    assert 4 <= len(short) <= 30  # a tenth of 160


def test_background_recordings_are_long_quiet_and_unlike(tmp_path):
    corpus = make(tmp_path / "corpus", background_seconds=3)
    spectra = {}
    for path in (corpus / "_background_noise_").iterdir():
        samples = samples_of(path) / 2**15
        assert samples.size == 3 * 16_000
        assert 20 * np.log10(np.sqrt(np.mean(samples**2))) == pytest.approx(-46, abs=0.1)
        power = np.abs(np.fft.rfft(samples)) ** 2
        spectra[path.stem] = power[3 * 1000 :].sum() / power.sum()  # the share above 1 kHz
    assert spectra["white_noise"] == pytest.approx(7 / 8, abs=0.02)
    assert spectra["brown_noise"] < spectra["pink_noise"] < spectra["white_noise"]
    assert spectra["mains_hum"] < 0.01 < spectra["babble"]


def test_a_long_word_is_spoken_faster_and_an_endless_one_refused(tmp_path):
    make(tmp_path / "long", words=("extraordinary",))
    with pytest.raises(ValueError, match="short enough for a clip of one second, got 'ab"):
        make(tmp_path / "endless", words=("abcdefghijklmnopqrstuvwxyz" * 3,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clips_per_word": 0}, "clips_per_word must be at least 1, got 0"),
        ({"speakers": -1}, "speakers must be at least 1, got -1"),
        ({"background_seconds": -1}, "background_seconds must be at least 0, got -1"),
        ({"words": ()}, "at least one word, got none"),
        ({"words": ("../up",)}, r"plain folder names such as yes, got '\.\./up'"),
        ({"words": ("_background_noise_",)}, "plain folder names"),
        ({"words": ("",)}, "plain folder names such as yes, got ''"),
        ({"words": ("yes", "Yes")}, "words must differ, got yes Yes"),
    ],
)
def test_options_refuse_what_cannot_be_made(settings, message):
    with pytest.raises(ValueError, match=message):
        synthesize.Options(output="corpus", **settings)


def test_an_output_that_holds_something_is_kept_unless_overwritten(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="corpus is not empty: choose another, or pass --over"):
        make(tmp_path / "corpus")
    assert (tmp_path / "corpus" / "thesis.txt").read_text() == "mine"
    make(tmp_path / "corpus", overwrite=True)
    names = {"yes", "no", "validation_list.txt", "testing_list.txt"}
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == names


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_run_leaves_nothing_and_keeps_the_old(tmp_path, monkeypatch, error):
    make(tmp_path / "corpus", words=("yes",))
    before = digests(tmp_path / "corpus")
    written = []

    def write_wav(path, waveform):
        written.append(path)
        if len(written) == 5:
            raise error
        return 0

    monkeypatch.setattr(synthesize, "write_wav", write_wav)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        make(tmp_path / "corpus", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert digests(tmp_path / "corpus") == before


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_while_espeak_speaks_ends_the_run_and_leaves_nothing(tmp_path):
    script = (
        "import sys; from pipelines import synthesize as s;"
        " s.run(s.Options(output=sys.argv[1], clips_per_word=100_000))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "corpus")], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob("*.wav")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "ignored" not in errors
    assert not list(tmp_path.iterdir())


def test_a_missing_espeak_names_the_extra(tmp_path, monkeypatch):
    def import_module(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(ValueError, match='install the "synth" extra'):
        make(tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_too_deep_for_espeak_is_named(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 170)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(OSError, match=r"folder is .*/ddd.*: set TMPDIR to a shorter"):
        make(tmp_path / "corpus")
    assert not list(deep.iterdir())


def test_the_summary_counts_what_was_written(tmp_path, capsys):
    corpus = make(tmp_path / "corpus", background_seconds=1)
    summary = capsys.readouterr().out
    assert "12 clips of 2 words by 4 speakers, 6 background recordings, 1 MB" in summary
    assert summary.count("\n") == 1
    assert sum(path.stat().st_size for path in corpus.rglob("*.wav")) == pytest.approx(
        0.56e6, rel=0.1
    )
