"""Reads recordings ahead of their use: bytes, or the reason why there are none."""

import collections
import os
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import xxhash

from pipelines.wav import Rejected

# Why a recording's bytes can't be had, beside the decoder's own reasons.
REASONS = {
    "missing": "it was listed, or is named by the table, and is not there",
    "no_permission": "this process may not read it",
    "not_a_file": "it is a folder, a pipe or a device",
    "file_too_large": "more than 512 MiB",
    "read_error": "the file system failed while it was read",
}

MAX_FILE_BYTES = 1 << 29
BATCH_FILES = 32  # one future for all of them: each costs some microseconds
BATCH_BYTES = 16_000_000  # the rest of a batch of large files is read when its turn comes
THREADS = 2
TRIED_FILES, FAST_SECONDS = 8, 100e-6  # a file of a page cache takes some 10 us


def read_ahead(paths: Sequence[str]) -> Iterator[bytes | Rejected]:
    """Yields the content of each file, in order; what can't be read is yielded as a `Rejected`.

    Threads keep `THREADS` batches ahead of the caller, which hides the latency of a disk or of a
    mounted store behind the computing. At most `BATCH_BYTES` and one file are held per batch. Where
    the first files come at once, from the page cache say, threads would only cost: 5 % of a clip.
    """
    started = time.perf_counter()
    tried = [read_file(path) for path in paths[:TRIED_FILES]]
    is_fast = time.perf_counter() - started < TRIED_FILES * FAST_SECONDS
    yield from tried
    if is_fast:
        yield from map(read_file, paths[TRIED_FILES:])
        return
    yield from _read_in_threads(paths[TRIED_FILES:])


def _read_in_threads(paths: Sequence[str]) -> Iterator[bytes | Rejected]:
    batches = (paths[i : i + BATCH_FILES] for i in range(0, len(paths), BATCH_FILES))
    pending: collections.deque[tuple[Sequence[str], Future[list[bytes | Rejected]]]]
    pending = collections.deque()
    threads = ThreadPoolExecutor(THREADS)
    try:
        for batch in batches:
            pending.append((batch, threads.submit(_read_batch, batch)))
            if len(pending) > THREADS:
                yield from _finish(*pending.popleft())
        while pending:
            yield from _finish(*pending.popleft())
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def read_file(path: str) -> bytes | Rejected:
    """The bytes of one file, or why not."""
    try:
        # O_NONBLOCK: opening a named pipe would otherwise wait for its writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Rejected("missing", "there is no such file")
    except PermissionError:
        return Rejected("no_permission", "this process may not read the file")
    except (OSError, ValueError) as error:
        return Rejected("read_error", str(error))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Rejected("not_a_file", "it is a folder, a pipe or a device")
        if status.st_size > MAX_FILE_BYTES:
            return Rejected("file_too_large", f"{status.st_size:,} bytes")
        return _read_all(descriptor, status.st_size)
    except OSError as error:
        return Rejected("read_error", str(error))
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    """All bytes of an open file of about `size`: one call takes half the time of a file object."""
    content = os.read(descriptor, size + 1)
    if len(content) == size:
        return content
    blocks = [content]  # it grows, shrinks, or is read in pieces
    while blocks[-1] and sum(map(len, blocks)) <= MAX_FILE_BYTES:
        blocks.append(os.read(descriptor, 1 << 20))
    return b"".join(blocks)


def checksum(path: str) -> str:
    """XXH3-128 of a file's bytes in hex; empty if it can't be read."""
    content = read_file(path)
    return "" if isinstance(content, Rejected) else xxhash.xxh3_128_hexdigest(content)


def _read_batch(paths: Sequence[str]) -> list[bytes | Rejected]:
    """Contents of the first files, up to `BATCH_BYTES`: possibly fewer than there are paths."""
    contents: list[bytes | Rejected] = []
    size = 0
    for path in paths:
        if size >= BATCH_BYTES:
            break
        content = read_file(path)
        size += len(content) if isinstance(content, bytes) else 0
        contents.append(content)
    return contents


def _finish(
    paths: Sequence[str], future: Future[list[bytes | Rejected]]
) -> Iterator[bytes | Rejected]:
    contents = future.result()
    yield from contents
    yield from map(read_file, paths[len(contents) :])
