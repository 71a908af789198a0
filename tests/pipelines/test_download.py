import dataclasses
import hashlib
import http.server
import io
import random
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import download

CONTENT = random.Random(0).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclasses.dataclass
class Served:
    """What the server answers, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    status: int = 200
    breaks_after: list[int] = dataclasses.field(default_factory=list)  # bytes, per connection
    asked: list[tuple[str | None, str | None]] = dataclasses.field(default_factory=list)


@pytest.fixture
def served(monkeypatch) -> Iterator[Served]:
    monkeypatch.setattr(download, "PAUSES_S", (0, 0, 0))
    monkeypatch.setenv("no_proxy", "*")  # asked before NO_PROXY
    served = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self, served)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        yield served
        server.shutdown()
        thread.join()


def answer(request: http.server.BaseHTTPRequestHandler, served: Served) -> None:
    span, if_range = request.headers["Range"], request.headers["If-Range"]
    served.asked.append((span, if_range))
    start, size = 0, len(served.content)
    if span and served.ranges and if_range in (None, served.etag):
        start = int(span.removeprefix("bytes=").removesuffix("-"))
    status = served.status if served.status != 200 else 206 if start else 200
    if start >= size:
        status = 416
    request.send_response(status)
    if status == 206:
        request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    if status == 416:
        request.send_header("Content-Range", f"bytes */{size}")
    if served.etag:
        request.send_header("ETag", served.etag)
    body = served.content[start:] if status in (200, 206) else b""
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[: served.breaks_after.pop(0) if served.breaks_after else None])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_under_its_name_only(served, tmp_path):
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert names(tmp_path) == ["a"]
    assert served.asked == [(None, None)]


def test_a_file_that_is_here_is_not_asked_for_again(served, tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert served.asked == []


def test_a_connection_that_breaks_goes_on_where_it_was(served, tmp_path):
    served.breaks_after = [300_000, 0, 300_000]
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert served.asked == [
        (None, None),
        ("bytes=300000-", '"one"'),
        ("bytes=300000-", '"one"'),
        ("bytes=600000-", '"one"'),
    ]


def test_a_run_that_ended_is_continued_by_the_next(served, tmp_path):
    served.breaks_after = [300_000, 0, 0, 0]
    with pytest.raises(OSError, match=r"/a: no answer in 4 tries .* run again to go on"):
        download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:300_000]
    served.asked.clear()
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert served.asked == [("bytes=300000-", '"one"')]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("size", [1, 999_999, 1_000_000, 1_000_001])
def test_a_part_of_any_size_ends_whole(served, tmp_path, size):
    served.etag = None
    (tmp_path / "a.part").write_bytes((CONTENT + b"!")[:size])
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_complete_brings_no_byte_more(served, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert served.asked == [("bytes=1000000-", None)]


def test_a_server_without_ranges_starts_over(served, tmp_path):
    served.ranges = False
    served.breaks_after = [300_000]
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(served.asked) == 2


def test_a_file_that_changed_on_the_server_starts_over(served, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 300_000)
    (tmp_path / "a.part.validator").write_text('"older"')
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert served.asked == [("bytes=300000-", '"older"')]


def test_a_weak_etag_is_not_sent_back(served, tmp_path):
    # RFC 9110, 13.1.5: If-Range needs a strong one.
    served.etag = 'W/"one"'
    served.breaks_after = [300_000]
    download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert served.asked[1] == ("bytes=300000-", None)


def test_other_contents_are_named_and_removed(served, tmp_path):
    served.content = b"captive portal"
    actual = hashlib.sha256(served.content).hexdigest()
    with pytest.raises(ValueError, match=f"SHA-256 {actual}, expected {SHA256}. It was removed"):
        download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert names(tmp_path) == []


def test_a_file_the_server_does_not_have_is_not_asked_for_twice(served, tmp_path):
    served.status = 404
    with pytest.raises(OSError, match="/a answers 404 Not Found: check --version and --base_url"):
        download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert len(served.asked) == 1


def test_an_overloaded_server_is_asked_again(served, tmp_path):
    served.status = 503
    with pytest.raises(OSError, match=r"no answer in 4 tries \(503 Service Unavailable\)"):
        download.fetch(f"{served.url}/a", tmp_path / "a", sha256=SHA256)
    assert len(served.asked) == 4


def test_no_network_is_one_line(served, tmp_path):
    with pytest.raises(OSError, match=r"no answer in 4 tries \(Connection refused\)") as caught:
        download.fetch("http://127.0.0.1:9/a", tmp_path / "a", sha256=SHA256)
    assert "\n" not in str(caught.value)


def tar_gz(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_files_and_folders_are_unpacked(tmp_path):
    (tmp_path / "folder").mkdir()
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(
        tar_gz((member("./yes", kind=tarfile.DIRTYPE), b""), (member("./yes/a.wav"), b"RIFF"))
    )
    download.unpack(archive, tmp_path / "folder")
    assert (tmp_path / "folder" / "yes" / "a.wav").read_bytes() == b"RIFF"


@pytest.mark.parametrize(
    ("evil", "message"),
    [
        (member("../evil"), r"'\.\./evil' would be extracted to .* outside the destination"),
        (member("yes/../../evil"), "outside the destination"),
        (member("/tmp/evil"), "/tmp/evil is an absolute path"),
        (member("evil", kind=tarfile.SYMTYPE, link="../.."), "neither a file nor a folder"),
        (member("evil", kind=tarfile.LNKTYPE, link="/etc/passwd"), "neither a file nor a folder"),
        (member("evil", kind=tarfile.CHRTYPE), "neither a file nor a folder"),
        (member("evil", kind=tarfile.FIFOTYPE), "neither a file nor a folder"),
    ],
)
def test_no_member_leaves_the_folder(tmp_path, evil, message):
    (tmp_path / "folder").mkdir()
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(tar_gz((member("good"), b"x"), (evil, b"")))
    with pytest.raises(ValueError, match=message) as caught:
        download.unpack(archive, tmp_path / "folder")
    assert "a.tar.gz: " in str(caught.value)
    assert names(tmp_path) == ["a.tar.gz", "folder"]
    assert names(tmp_path / "folder") == ["good"]


@pytest.mark.parametrize("content", [b"", b"<html>", tar_gz((member("a"), bytes(10**5)))[:-40]])
def test_a_broken_archive_is_one_line(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.tar.gz is broken \(.*\): remove it and run again"):
        download.unpack(tmp_path / "a.tar.gz", tmp_path / "folder")


@pytest.fixture
def published(served, monkeypatch) -> download.Options:
    served.content = tar_gz(
        (member("./yes/1_nohash_0.wav"), b"1"),
        (member("./yes/2_nohash_0.wav"), b"2"),
        (member("./no/1_nohash_0.wav"), b"3"),
        (member("./_background_noise_/hiss.wav"), b"4"),
        (member("./validation_list.txt"), b""),
    )
    sha256 = hashlib.sha256(served.content).hexdigest()
    monkeypatch.setitem(download.ARCHIVES, "0.02", ("speech_commands_v0.02.tar.gz", sha256))
    return download.Options(output="unset", version="0.02", base_url=f"{served.url}/data/")


def test_a_version_is_downloaded_unpacked_and_counted(published, tmp_path, capsys):
    output = tmp_path / "new" / "corpus"
    download.run(dataclasses.replace(published, output=str(output)))
    assert names(output) == ["_background_noise_", "no", "validation_list.txt", "yes"]
    assert names(output.parent) == ["corpus"]
    assert capsys.readouterr().out == f"{output}: Speech Commands 0.02, 3 clips of 2 words\n"


def test_the_archive_can_be_kept_and_is_used_again(published, served, tmp_path):
    options = dataclasses.replace(published, output=str(tmp_path / "a"), keep_archive=True)
    download.run(options)
    assert names(tmp_path) == ["a", "speech_commands_v0.02.tar.gz"]
    download.run(dataclasses.replace(options, output=str(tmp_path / "b")))
    assert len(served.asked) == 1
    assert names(tmp_path / "a") == names(tmp_path / "b")


def test_an_output_that_holds_something_is_refused_before_the_download(published, served, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty: choose another, or pass --overwrite"):
        download.run(dataclasses.replace(published, output=str(tmp_path)))
    assert served.asked == []


def test_an_interrupted_unpacking_keeps_the_archive_alone(published, tmp_path, monkeypatch):
    def extract(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "extract", extract)
    with pytest.raises(KeyboardInterrupt):
        download.run(dataclasses.replace(published, output=str(tmp_path / "corpus")))
    assert names(tmp_path) == ["speech_commands_v0.02.tar.gz"]


def test_options_refuse_what_is_not_published():
    with pytest.raises(ValueError, match=r"version must be 0\.01 or 0\.02, got 0\.03"):
        download.Options(output="corpus", version="0.03")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="base_url must begin with http:// or https://, got ftp:"):
        download.Options(output="corpus", base_url="ftp://example.org")
