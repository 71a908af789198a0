"""Downloads Google Speech Commands: resumable, checked, and unpacked whole or not at all.

$ kws download --version 0.02 --output speech_commands
speech_commands: Speech Commands 0.02, 105,829 clips of 35 words
"""

import contextlib
import dataclasses
import hashlib
import sys
import tarfile
import time
import zlib
from pathlib import Path
from typing import Literal

import requests  # Beam depends on it; it brings proxies, certificates and redirects
import tqdm
import urllib3

from kws_model.new_folder import check_new_folder, new_folder

# Of each version the file's name and SHA-256; CC BY 4.0, https://arxiv.org/abs/1804.03209
ARCHIVES = {
    "0.01": (
        "speech_commands_v0.01.tar.gz",
        "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    ),
    "0.02": (
        "speech_commands_v0.02.tar.gz",
        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
}
PAUSES_S = (1, 3, 10)  # between tries that brought no byte
TIMEOUTS_S = (20, 60)  # to connect, and between two pieces
PIECE_BYTES = 2**18


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Which version of Speech Commands `kws download` fetches, and where to."""

    output: str
    """Folder to write; it must be empty or not exist. The archive is kept beside it until then."""
    version: Literal["0.01", "0.02"] = "0.02"
    """0.01: 64,721 clips of 30 words, 1.5 GB; 0.02: 105,829 clips of 35 words, 2.4 GB."""
    keep_archive: bool = False
    """Keep the .tar.gz once it is unpacked."""
    overwrite: bool = False
    """Replace the output folder, whatever it holds, once the new one is complete."""
    base_url: str = "https://download.tensorflow.org/data"
    """For a mirror: the folder that holds the archives."""

    def __post_init__(self) -> None:
        if self.version not in ARCHIVES:
            raise ValueError(f"version must be {' or '.join(ARCHIVES)}, got {self.version}")
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must begin with http:// or https://, got {self.base_url}")


def run(options: Options) -> None:
    """Downloads, checks and unpacks one version, and prints one line about it.

    Raises:
      ValueError: an output folder that holds something, or an archive that is not the published
        one or would write outside the folder.
      OSError: no connection, or a file that could not be written; the next run goes on from there.
    """
    target = check_new_folder(options.output, overwrite=options.overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    name, sha256 = ARCHIVES[options.version]
    archive = target.with_name(name)
    fetch(f"{options.base_url.rstrip('/')}/{name}", archive, sha256=sha256)
    with new_folder(target, overwrite=options.overwrite) as folder:
        unpack(archive, folder)
        clips = list(folder.glob("[!_]*/*.wav"))
    if not options.keep_archive:
        archive.unlink()
    print(
        f"{options.output}: Speech Commands {options.version}, {len(clips):,} clips of "
        f"{len({clip.parent for clip in clips})} words"
    )


def fetch(url: str, path: Path, *, sha256: str) -> None:
    """Downloads a file, unless it is there already, and checks it.

    Until it is complete and checked it is called `<path>.part`, which a later call continues.

    Raises:
      ValueError: other contents than expected; the file is removed.
      OSError: the server refuses, or no connection brought a byte in several tries.
    """
    if path.exists() and _sha256_of(path) == sha256:
        return
    part = path.with_name(f"{path.name}.part")
    _download(url, part)
    actual = _sha256_of(part)
    _validator_of(part).unlink(missing_ok=True)
    if actual != sha256:
        part.unlink()
        raise ValueError(
            f"{url} is not the published file: SHA-256 {actual}, expected {sha256}. "
            "It was removed; run again, and if this repeats, the server's copy is wrong"
        )
    part.replace(path)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _validator_of(part: Path) -> Path:
    """Names the file that holds the ETag or date of what was begun, for the next run to compare."""
    return part.with_name(f"{part.name}.validator")


def _download(url: str, part: Path) -> None:
    """Appends to `part` until the server has no more, over as many connections as it takes."""
    failures = 0
    while True:
        before = _size_of(part)
        try:
            _download_once(url, part)
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failures = 1 if _size_of(part) > before else failures + 1
            if failures > len(PAUSES_S):
                raise OSError(
                    f"{url}: no answer in {failures} tries ({_cause_of(error)}). Check the "
                    "network; run again to go on from what has come"
                ) from error
        time.sleep(PAUSES_S[failures - 1])


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _cause_of(error: BaseException) -> str:
    """Digs "Connection refused" out of the exceptions that urllib3 and requests wrap around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _download_once(url: str, part: Path) -> None:
    """Asks for what is missing of `part` and appends it, or writes all if the server sends all."""
    have = _size_of(part)
    with requests.get(url, headers=_headers(part), stream=True, timeout=TIMEOUTS_S) as response:
        if response.status_code == 416:  # nothing beyond what is here: complete, or too much
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink(missing_ok=True)
            raise requests.ConnectionError(f"no byte {have} in {url}")
        _check_status(response, url)
        if response.status_code == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise requests.ConnectionError("the server sent another range than asked for")
            mode = "ab"
        else:
            have, mode = 0, "wb"
        _remember(response, part)
        _append(response, part, mode=mode, have=have)


def _headers(part: Path) -> dict[str, str]:
    # Without this a server may compress again, and then ranges count other bytes.
    headers = {"Accept-Encoding": "identity"}
    if have := _size_of(part):
        headers["Range"] = f"bytes={have}-"
        with contextlib.suppress(FileNotFoundError):
            # A file that has changed since is sent whole.
            headers["If-Range"] = _validator_of(part).read_text("ascii")
    return headers


def _check_status(response: requests.Response, url: str) -> None:
    """Raises RequestException for what may pass, OSError for what won't."""
    if response.status_code in (200, 206):
        return
    answer = f"{response.status_code} {response.reason}"
    if response.status_code == 429 or response.status_code >= 500:
        raise requests.HTTPError(answer)
    raise OSError(f"{url} answers {answer}: check --version and --base_url")


def _remember(response: requests.Response, part: Path) -> None:
    """Keeps what If-Range needs: a strong ETag, or else the date."""
    etag = response.headers.get("ETag", "W/")
    validator = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
    if validator:
        _validator_of(part).write_text(validator, "ascii")
    else:
        _validator_of(part).unlink(missing_ok=True)


def _append(response: requests.Response, part: Path, *, mode: str, have: int) -> None:
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    name = part.name.removesuffix(".part")
    with (
        part.open(mode) as file,
        tqdm.tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True) as progress,
    ):
        # Not iter_content: some servers label a .tar.gz as compressed in transit, and it unpacks.
        for piece in response.raw.stream(PIECE_BYTES, decode_content=False):
            file.write(piece)
            progress.update(len(piece))


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a .tar.gz of plain files and folders, none of which may leave `folder`.

    Raises:
      ValueError: a broken archive, or a member that is something else or goes somewhere else.
    """
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in tqdm.tqdm(members, desc=folder.name, unit="file"):
                # The published archives have no links, and without links no trick of theirs works.
                if not (member.isreg() or member.isdir()):
                    raise ValueError(f"{archive}: {member.name} is neither a file nor a folder")
                if member.name.startswith("/"):
                    raise ValueError(f"{archive}: {member.name} is an absolute path")
                members.extract(member, folder, filter="data")
    except tarfile.FilterError as error:
        raise ValueError(f"{archive}: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive} is broken ({error}): remove it and run again") from error


if __name__ == "__main__":
    from kws_model import cli

    cli.main(["download", *sys.argv[1:]])
