"""A folder that appears whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def new_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which takes its name once the block ends well.

    After an exception, Ctrl-C included, it is removed and `path` is as it was; a killed process
    leaves only a hidden folder, `.<name>.unfinished-<process id>`. An old folder is kept until
    the new one is complete.

    Raises:
      ValueError: `path` is a URL, a file, a folder that holds something (without `overwrite`),
        or a folder that this process stands in.
    """
    target = check_new_folder(path, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        if target.exists():
            target.rename(old)
        unfinished.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def check_new_folder(path: str | Path, *, overwrite: bool = False) -> Path:
    """Returns `path`, absolute, if `new_folder` may put a folder there; raises as it does."""
    if "://" in str(path):
        raise ValueError(f"output must be a folder of this machine, not {path}")
    target = Path(path).expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise ValueError(f"output must be a folder, and {path} is a file: choose another name")
    here = Path.cwd()
    if target in (here, *here.parents, Path.home()):
        raise ValueError(
            f"output {path} is the home folder, or the one this runs in, or above it: name another"
        )
    if not overwrite and target.exists() and any(target.iterdir()):
        raise ValueError(f"output {path} is not empty: choose another, or pass --overwrite")
    return target
