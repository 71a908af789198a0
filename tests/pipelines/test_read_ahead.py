import os

import pytest

from pipelines import read_ahead
from pipelines.wav import Rejected


@pytest.fixture(params=[0.0, 1.0], ids=["in threads", "at once"], autouse=True)
def fast_seconds(request, monkeypatch):
    monkeypatch.setattr(read_ahead, "FAST_SECONDS", request.param)


def test_files_come_in_order_whatever_their_number(tmp_path):
    paths = []
    for number in range(read_ahead.BATCH_FILES * 5 + 1):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(b"%d" % number)
        paths.append(str(path))
    assert list(read_ahead.read_ahead(paths)) == [b"%d" % i for i in range(len(paths))]
    assert list(read_ahead.read_ahead([])) == []


def test_a_batch_of_large_files_is_not_held_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(read_ahead, "BATCH_BYTES", 10)
    paths = [str(tmp_path / str(number)) for number in range(9)]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"123456")
    assert [len(batch) for batch in (read_ahead._read_batch(paths),)] == [2]
    assert list(read_ahead.read_ahead(paths)) == [b"123456"] * 9


@pytest.mark.parametrize("kind", ["missing", "not_a_file", "pipe", "file_too_large", "read_error"])
def test_what_cannot_be_read_has_a_reason_and_nothing_waits(tmp_path, monkeypatch, kind):
    path = tmp_path / "x.wav"
    if kind == "not_a_file":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "file_too_large":
        with open(path, "wb") as file:
            file.truncate(read_ahead.MAX_FILE_BYTES + 1)
    elif kind == "read_error":
        path.symlink_to(path)
    (content,) = read_ahead.read_ahead([str(path)])
    assert isinstance(content, Rejected)
    assert content.reason == {"pipe": "not_a_file"}.get(kind, kind)
    assert content.reason in read_ahead.REASONS
