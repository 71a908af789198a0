"""A progress bar for a job whose workers share this machine's file system.

The driver watches the shards grow, so workers report nothing and any local runner will do.
"""

import contextlib
import glob
import os
import threading
from collections.abc import Iterator

import tqdm

from kws_model.dataset_info import SPLITS
from pipelines import account

INTERVAL_S = 0.3


@contextlib.contextmanager
def bar(output: str, *, name: str, record_bytes: int) -> Iterator[None]:
    """Shows clips made and left while the block runs; nothing where stderr is no terminal.

    Args:
      output: the dataset's folder.
      name: first part of its shards' names.
      record_bytes: size of one clip's record, about.
    """
    done = threading.Event()
    with tqdm.tqdm(unit=" clips", disable=None, dynamic_ncols=True, desc="planning") as display:
        thread = threading.Thread(
            target=_watch, args=(display, done, output, name, record_bytes), daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _watch(
    display: tqdm.tqdm, done: threading.Event, output: str, name: str, record_bytes: int
) -> None:
    while not done.wait(INTERVAL_S):
        if display.total is None:
            display.total = planned_clips(output)
        else:
            display.set_description("preparing", refresh=False)
            clips = written_bytes(output, name) // record_bytes
            display.update(min(clips, display.total) - display.n)


def planned_clips(output: str) -> int | None:
    """Clips of all splits; None until the plan is made."""
    plan = account.read_plan(output)
    return None if plan is None else sum(plan["num_clips"][split] for split in SPLITS)


def written_bytes(output: str, name: str) -> int:
    """Bytes in shards, whole and unfinished ones."""
    total = 0
    for path in glob.iglob(f"{glob.escape(os.path.join(output, name))}-*.tfrecord-*"):
        with contextlib.suppress(FileNotFoundError):
            total += os.stat(path).st_size
    return total
