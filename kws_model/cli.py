"""`kws`: command names -> modules, imported only when called.

$ kws prepare --help
"""

import contextlib
import dataclasses
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

# Each module has a frozen dataclass `Options` (the flags) and a function `run(options)`.
COMMANDS = {
    "synthesize": ("pipelines.synthesize", "speak a corpus with eSpeak NG"),
    "download": ("pipelines.download", "fetch and unpack Speech Commands"),
    "prepare": (
        "pipelines.prepare_dataset",
        "recordings -> sharded TFRecords (an Apache Beam job)",
    ),
    "train": ("kws_model.train", "TFRecords -> a model, on every GPU"),
    "evaluate": ("kws_model.evaluate", "how good a model is, and where it errs"),
    "predict": ("kws_model.predict", "a model's answers for new recordings"),
    "export": ("kws_model.export", "a model -> one folder to deploy"),
    "inspect": (
        "kws_model.inspect_dataset",
        "a dataset's data card: what is in it, what was mended, what leaks",
    ),
}
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 1 the job failed, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    command, *flags = arguments
    if command not in COMMANDS:
        _fail(f"kws: no command {command!r}; the commands are: {', '.join(COMMANDS)}", status=2)
    own_flags = flags[: flags.index("--")] if "--" in flags else flags
    verbose = "--verbose" in own_flags
    if verbose:
        flags = [flag for flag in own_flags if flag != "--verbose"] + flags[len(own_flags) :]
        os.environ["KWS_VERBOSE"] = "1"  # for the processes that a command starts
    try:
        run_command(command, flags)
    except KeyboardInterrupt:
        if verbose:
            raise
        _fail(f"kws {command}: interrupted", status=INTERRUPTED)
    except (ValueError, OSError, ImportError) as error:
        if verbose:
            raise
        _fail(f"kws {command}: {_one_line(error)}", status=1)
    sys.exit(0)


def usage() -> str:
    """The help of `kws` itself."""
    rows = "\n".join(f"  {name:11s} {summary}" for name, (_, summary) in COMMANDS.items())
    return f"usage: kws COMMAND [flags]\n\n{rows}\n\nkws COMMAND --help lists a command's flags."


def run_command(command: str, flags: Sequence[str]) -> None:
    """Parses the flags of one command and runs it."""
    module = importlib.import_module(COMMANDS[command][0])
    options = parse(module.Options, flags, command=command)
    module.run(options)


def parse(options_class: type, flags: Sequence[str], *, command: str) -> Any:
    """Flags -> the command's dataclass; a wrong flag or value is one line on stderr and exit 2.

    A class with a field `beam_options` gets all that follows a bare `--` there, as a tuple.
    """
    import tyro  # Flags from typed, frozen dataclasses: nothing is declared twice.

    own, beam = list(flags), []
    fields = {field.name for field in dataclasses.fields(options_class)}
    if "beam_options" in fields and "--" in own:
        cut = own.index("--")
        own, beam = own[:cut], own[cut + 1 :]
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            options: Any = tyro.cli(
                options_class,
                args=own,
                prog=f"kws {command}",
                use_underscores=True,
                config=(tyro.conf.OmitArgPrefixes,),
            )
        return dataclasses.replace(options, beam_options=tuple(beam)) if beam else options
    except SystemExit as exit_:
        if exit_.code:
            _fail(f"kws {command}: {_unbox(words.getvalue())}", status=2)
        raise
    except ValueError as error:  # raised by the dataclass's own checks
        _fail(f"kws {command}: {_one_line(error)}", status=2)


def _unbox(message: str) -> str:
    """tyro's error as one line.

    Its frame is of hyphens where stdout is not UTF-8, and coloured where stdout is a terminal.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message)
    lines = (line.strip("│╭╮╰╯─ ") for line in plain.splitlines()[1:])
    return " ".join(line for line in lines if line.strip("-"))


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _fail(message: str, *, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.stderr.flush()
    sys.exit(status)


if __name__ == "__main__":
    main()
