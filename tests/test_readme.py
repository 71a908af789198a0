"""Everything that the README tells people to type is typed here."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from kws_model import cli
from pipelines import synthesize

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)( torch)?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, torch, text in BLOCKS if language == "python" and not torch]
COMMANDS = [
    shlex.split(line, comments=True)
    for language, _, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
]
# CI runs the first two; the third needs the network (its parts run against a local server) and the
# fourth does not end.
ELSEWHERE = (["make"], ["kws", "download"], ["tensorboard"])


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> pathlib.Path:
    """A folder with the corpus and the table that the README speaks of, and all that it makes."""
    folder = tmp_path_factory.mktemp("readme")
    corpus = folder / "speech_commands"
    words = ("go", "stop", "up", "down")
    synthesize.run(synthesize.Options(output=str(corpus), words=words, clips_per_word=40))
    rows = ["path,label,split"]
    for number, path in enumerate(sorted(corpus.glob("[a-z]*/*.wav"))):
        split = "validation" if number % 5 == 0 else "train"
        rows.append(f"{path.relative_to(folder)},{path.parent.name},{split}")
    (folder / "recordings.csv").write_text("\n".join(rows))
    for command in COMMANDS:
        if not any(command[: len(start)] == start for start in ELSEWHERE):
            assert command[0] == "kws"
            run(folder, *command[1:])
    return folder


def run(folder: pathlib.Path, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "kws_model.cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stderr)


def test_the_commands_leave_what_the_readme_says(home):
    for dataset in ("sc", "mel", "own", "one", "few"):
        assert (home / "datasets" / dataset / "dataset_info.json").exists()
    for picture in ("alluvial.png", "confusion_matrix.png"):
        assert (home / "runs" / "mel" / "evaluation-test" / picture).stat().st_size > 10_000


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_each_snippet_runs_and_prints(home, monkeypatch, capsys, number):
    monkeypatch.chdir(home)
    exec(compile(PYTHON[number], f"README snippet {number}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_table_of_commands_is_that_of_kws():
    listed = re.findall(r"^\| `kws (\w+)` \|", README, re.MULTILINE)
    assert listed == list(cli.COMMANDS)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http|#)([^)]+)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()
