"""`kws`: exit status 0, 1 or 2, and one plain line on stderr for whatever goes wrong."""

import dataclasses
import os
import pty
import subprocess
import sys
import types
from typing import Annotated

import pytest
import tyro

from kws_model import cli
from kws_model.feature_spec import FeatureSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Do as you are told."""

    input_dir: str
    """Folder to read."""

    count: int = 3
    """How many."""

    mode: str = "done"
    """What becomes of it."""

    features: FeatureSpec

    beam_options: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """What follows the bare -- on the command line."""

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"--count must not be negative;\n  got {self.count}")
        if "--runner=Nobody" in self.beam_options:
            raise ValueError("no runner 'Nobody'")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainOptions:
    """A command that has nothing to do with Beam."""

    count: int = 3
    """How many."""


OUTCOMES = {
    "done": None,
    "mistake": ValueError("sc/down/1.wav: no clips:\n  give   another folder"),
    "silent": ValueError(),
    "no file": FileNotFoundError(2, "No such file or directory", "sc/labels"),
    "full": OSError(28, "No space left on device"),
    "other": OSError("the store\nsaid no"),
    "library": ImportError("pip install tensorflow"),
    "interrupted": KeyboardInterrupt(),
    "bug": ZeroDivisionError("a bug"),
}


@pytest.fixture
def ran(monkeypatch) -> list:
    """The options of every run of the commands `act` and `plain`, added here."""
    runs = []

    def run(options) -> None:
        runs.append(options)
        error = OUTCOMES[getattr(options, "mode", "done")]
        if error is not None:
            raise error

    for name, options in (("act", Options), ("plain", PlainOptions)):
        module = types.SimpleNamespace(Options=options, run=run)
        monkeypatch.setitem(sys.modules, f"command_{name}", module)
        monkeypatch.setitem(cli.COMMANDS, name, (f"command_{name}", "as told"))
    monkeypatch.setenv("KWS_VERBOSE", "")
    return runs


def kws(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    return exit_.value.code


def assert_one_line(capsys, expected: str) -> None:
    """Nothing on stdout, and on stderr one line, without a frame, that begins as expected."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert not set("│╭╮╰╯─\x1b") & set(err)
    assert "---" not in err
    assert err.startswith(expected)


# Which command.


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command_and_exits_0(capsys, flag):
    assert kws(flag) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: kws COMMAND [flags]\n")
    assert all(f"\n  {command} " in out for command in cli.COMMANDS)
    assert err == ""


def test_no_command_is_wrong_usage(capsys):
    assert kws() == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", cli.usage() + "\n")


def test_an_unknown_command_is_wrong_usage(capsys, ran):
    assert kws("trian", "--epochs", "3") == 2
    expected = "kws: no command 'trian'; the commands are: synthesize, download, prepare, train"
    assert_one_line(capsys, expected)


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_command_explains_its_flags_and_exits_0(capsys, command):
    assert kws(command, "--help") == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: kws {command} ")
    assert "(required)" in out
    assert "--beam_options" not in out
    assert err == ""


# Flags.


def test_flags_become_options(ran):
    assert kws("act", "--input_dir", "x", "--count=7", "--window_ms", "25") == 0
    assert ran == [Options(input_dir="x", count=7, features=FeatureSpec(window_ms=25))]


def test_hyphens_are_accepted_like_underscores(ran):
    assert kws("act", "--input-dir", "x", "--sample-rate-hz=8000", "--log_offset", "1e-6") == 0
    assert ran[0].input_dir == "x"
    assert ran[0].features == FeatureSpec(sample_rate_hz=8000, log_offset=1e-6)


X = ("--input_dir", "x")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "Missing from kws act: --input_dir STR Folder to read. (required)"),
        (("--input_dir",), "Missing value for argument '--input_dir'."),
        ((*X, "--cuont", "4"), "Unrecognized options: --cuont, 4 Perhaps you meant: --count INT"),
        ((*X, "--bogus"), "Unrecognized options: --bogus"),
        ((*X, "stray"), "Unrecognized options: stray"),
        ((*X, "--bogus", "y" * 300), "Unrecognized options: --bogus, yyyyyy"),
        ((*X, "--beam_options", "x"), "Unrecognized options: --beam_options"),
        ((*X, "--count", "four"), "Error parsing --count: invalid literal for int()"),
        ((*X, "--count", "4.5"), "Error parsing --count: invalid literal for int()"),
        ((*X, "--count", "-1"), "Error parsing Options: --count must not be negative; got -1"),
        ((*X, "--feature", "spectrum"), "invalid choice 'spectrum' for argument '--feature'."),
        (
            (*X, "--window_ms", "0.03"),
            "Error parsing features: --window_ms 0.03 is 0.48 samples at 16000 Hz; it must be a "
            "whole, positive number of samples",
        ),
        ((*X, "--clip_ms", "inf"), "Error parsing features: --clip_ms inf is inf samples"),
        ((*X, "--", "--runner=Nobody"), "no runner 'Nobody'"),
    ],
)
@pytest.mark.parametrize("width", ["80", "30"])
def test_a_wrong_flag_is_one_line_and_status_2(capsys, monkeypatch, ran, flags, message, width):
    monkeypatch.setenv("COLUMNS", width)  # to which tyro wraps its message
    assert kws("act", *flags) == 2
    assert_one_line(capsys, f"kws act: {message}")
    assert ran == []


def test_what_follows_a_bare_double_hyphen_is_beams(ran):
    beam = ("--runner=FlinkRunner", "--count", "4", "--", "stray", "--help")
    assert kws("act", "--input_dir", "x", "--", *beam) == 0
    assert ran == [Options(input_dir="x", features=FeatureSpec(), beam_options=beam)]


def test_nothing_need_follow_the_double_hyphen(ran):
    assert kws("act", "--input_dir", "x", "--") == 0
    assert ran == [Options(input_dir="x", features=FeatureSpec())]


def test_a_command_without_beam_has_no_beam_options(capsys, ran):
    assert kws("plain", "--", "--runner=FlinkRunner") == 2
    assert_one_line(capsys, "kws plain: ")
    assert ran == []


# What becomes of it.


@pytest.mark.parametrize(
    ("mode", "status", "message"),
    [
        ("mistake", 1, "kws act: sc/down/1.wav: no clips: give another folder\n"),
        ("silent", 1, "kws act: ValueError\n"),
        ("no file", 1, "kws act: sc/labels: No such file or directory\n"),
        ("full", 1, "kws act: No space left on device\n"),
        ("other", 1, "kws act: the store said no\n"),
        ("library", 1, "kws act: pip install tensorflow\n"),
        ("interrupted", 130, "kws act: interrupted\n"),
    ],
)
def test_a_failure_is_one_line_and_its_status(capsys, ran, mode, status, message):
    assert kws("act", "--input_dir", "x", "--mode", mode) == status
    assert_one_line(capsys, message)


def test_success_is_silent_and_status_0(capsys, ran):
    assert kws("act", "--input_dir", "x") == 0
    assert capsys.readouterr() == ("", "")


def test_our_own_bug_keeps_its_traceback(ran):
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["act", "--input_dir", "x", "--mode", "bug"])


@pytest.mark.parametrize("mode", ["mistake", "no file", "interrupted"])
@pytest.mark.parametrize("first", [True, False])
def test_verbose_lets_the_traceback_through_and_tells_child_processes(ran, mode, first):
    flags = ["--input_dir", "x", "--mode", mode]
    flags.insert(0 if first else len(flags), "--verbose")
    with pytest.raises(type(OUTCOMES[mode])):
        cli.main(["act", *flags])
    assert os.environ["KWS_VERBOSE"] == "1"


def test_verbose_after_a_bare_double_hyphen_is_beams(capsys, ran):
    assert kws("act", *X, "--mode", "mistake", "--", "--verbose") == 1
    assert ran[0].beam_options == ("--verbose",)
    assert os.environ["KWS_VERBOSE"] == ""


def test_a_command_that_cannot_be_imported_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "act", ("kws_model.no_such_module", "as told"))
    assert kws("act") == 1
    assert_one_line(capsys, "kws act: No module named 'kws_model.no_such_module'")


# The process.


def test_the_module_runs_as_a_process_with_the_same_status():
    command = [sys.executable, "-m", "kws_model.cli", "nope"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("kws: no command 'nope'; the commands are: synthesize, ")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_gets_no_frame_and_no_colours_either(encoding):
    # tyro draws its frame for stdout's encoding, and colours it if stdout is a terminal.
    controller, terminal = pty.openpty()
    try:
        process = subprocess.run(
            [sys.executable, "-m", "kws_model.cli", "synthesize", "--output", "x", "--bogus"],
            stdout=terminal,
            stderr=subprocess.PIPE,
            env=os.environ | {"TERM": "xterm-256color", "PYTHONIOENCODING": encoding},
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(controller)
    assert process.returncode == 2
    message = process.stderr.decode()
    assert message.startswith("kws synthesize: Unrecognized options: --bogus ")
    assert message.count("\n") == 1
    assert not set("│╭╮╰╯─\x1b") & set(message)
    assert "---" not in message


IMPORT_ALL = """
import sys
from kws_model import cli, dataset_info, example, feature_spec, frontend, tfrecord
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_what_beam_workers_import_does_not_import_tensorflow_or_beam():
    imported = subprocess.check_output([sys.executable, "-c", IMPORT_ALL], text=True).split()
    assert {"kws_model", "numpy", "scipy"} <= set(imported)
    assert not {"tensorflow", "keras", "apache_beam", "pipelines", "tyro"} & set(imported)
