"""Beam's own flags, the runner they name, and its failures in one line."""

import argparse
import contextlib
import dataclasses
import difflib
import io
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from pipelines import local_workers

# While it is imported, Beam warns of BigQuery clients that nothing here uses.
logging.disable(logging.WARNING)
from apache_beam.options.pipeline_options import (  # noqa: E402
    DirectOptions,
    PipelineOptions,
    StandardOptions,
)

logging.disable(logging.NOTSET)

LOCAL = (None, "DirectRunner", "FnApiRunner")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamRunner:
    """Where a job runs."""

    options: PipelineOptions
    num_workers: int | None
    """Local processes; None where Beam's own runner decides."""

    @property
    def name(self) -> str:
        """The runner's name, for Beam and for people."""
        name = self.options.view_as(StandardOptions).runner
        return "FnApiRunner" if name in LOCAL else str(name)

    def runner(self) -> Any:
        """What `beam.Pipeline(runner=...)` takes."""
        return self.name if self.num_workers is None else local_workers.runner(self.num_workers)

    def __str__(self) -> str:
        if self.num_workers is None:
            return self.name
        plural = "es" if self.num_workers > 1 else ""
        return f"FnApiRunner (Beam's local runner) on {self.num_workers} process{plural}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"after --: {message}")


def parse(flags: Sequence[str]) -> BeamRunner:
    """Beam's flags -> where the job runs.

    `--runner=DirectRunner` is the in-process runner: Beam's current DirectRunner first tries to
    download the Prism binary, which hangs behind a firewall.

    Raises:
      ValueError: a flag that no options class of Beam knows, or a value it refuses.
    """
    parser = _Parser(allow_abbrev=False)
    for options_class in _subclasses(PipelineOptions):
        # Beam itself only warns of unknown flags, after the job has started.
        with contextlib.suppress(argparse.ArgumentError):
            options_class._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(flags))
    if unknown:
        raise ValueError(_unknown_flag(unknown[0], parser))
    options = PipelineOptions(list(flags))
    direct = options.view_as(DirectOptions)
    given = {flag.partition("=")[0] for flag in flags}
    is_local = options.view_as(StandardOptions).runner in LOCAL
    if not is_local or "--direct_running_mode" in given:
        return BeamRunner(options=options, num_workers=None)
    if "--direct_num_workers" not in given or direct.direct_num_workers == 0:
        direct.direct_num_workers = cores()
    # Neither of Beam's modes: workers are forked, see local_workers. "in_memory" makes it warn.
    direct.direct_running_mode = "forked" if direct.direct_num_workers > 1 else "in_memory"
    return BeamRunner(options=options, num_workers=direct.direct_num_workers)


def cores() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone tells
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _subclasses(options_class: type) -> Iterator[Any]:
    subclass: Any
    for subclass in options_class.__subclasses__():
        if subclass.__module__.startswith("apache_beam."):
            yield subclass
            yield from _subclasses(subclass)


def _unknown_flag(flag: str, parser: argparse.ArgumentParser) -> str:
    if not flag.startswith("--"):
        return f"after --: {flag!r} is no flag of Beam"
    name = flag.partition("=")[0]
    known = [option for action in parser._actions for option in action.option_strings]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"after --: Beam has no option {name}{hint}"


@contextlib.contextmanager
def one_line_failures() -> Iterator[None]:
    """Turns a failed job's pages of workers' tracebacks into the ValueError or OSError inside."""
    quiet = contextlib.ExitStack()
    if not local_workers.verbose():
        # Beam logs and prints a traceback four times over; what counts is in the exception.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
    try:
        with quiet:
            yield
    except (Exception, KeyboardInterrupt) as error:
        for code in local_workers.DEATHS:
            how = f"signal {-code}; 9 is what a lack of memory sends" if code < 0 else str(code)
            raise ValueError(f"a worker process died ({how}): run the command again") from error
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ValueError(failure_line(f"{type(error).__name__}: {error}")) from error


def failure_line(report: str) -> str:
    """The exception that ended a worker, from Beam's report of it.

    >>> failure_line("Traceback ...\\nOSError: [Errno 28] No space left: '/x' [while running 'W']")
    '/x: No space left'
    """
    lines = re.findall(r"^(?:\w+\.)*(\w*(?:Error|Exception): .+)$", report, re.MULTILINE)
    if not lines:
        return f"the job failed: {' '.join(report.split())[-500:]}"
    line = re.sub(r" \[while running .*$", "", lines[-1]).replace("\\n", " ")
    line = re.sub(r"^(RuntimeError: )+(?=\w+Error: )", "", line)  # Beam's wrapping
    name, _, message = line.partition(": ")
    if file := re.fullmatch(r"\[Errno \d+\] (.+?): (?:'.+' -> )?'(.+)'", message):
        return f"{file[2]}: {file[1]}"
    return message if name == "ValueError" else line
