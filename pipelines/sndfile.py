"""libsndfile on bytes in memory: sequential, bounded and quiet.

Importing this module loads libsndfile, so `pipelines.wav` does it when the first file comes that
needs it.
"""

import io
import re
from collections.abc import Iterator

import numpy as np
from soundfile import LibsndfileError as Error
from soundfile import SoundFile

__all__ = ["Error", "File", "reason_for"]

_BLOCK_FRAMES = 4096

# An ID3v2 tag of ten zero bytes. Before libsndfile takes a file without a tag for an MP3, it looks
# for its resource fork, which for bytes in memory is a file named "._" in the working directory:
# where one lies, no such MP3 can be read. Behind a tag it does not look.
_ID3_TAG = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)


class _Bytes(io.BytesIO):
    """A file of bytes on which a seek to nowhere stays put, as `lseek` would, without a traceback.

    libsndfile makes such seeks on broken files, and an exception cannot cross its C code: it is
    printed instead.
    """

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class File(SoundFile):
    """An open recording that is only read forwards."""

    def __init__(self, data: bytes) -> None:
        super().__init__(_Bytes(_ID3_TAG + data if data[:1] == b"\xff" else data))

    def seekable(self) -> bool:
        """Keep soundfile from seeking after each block, which resets an MP3 decoder.

        Measured: from the second block on the samples then differ from those of one long read.
        """
        return False

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 `[at most 4096, num_channels]` to the end of the file.

        The number of frames in the header is never used: in a damaged file it may be anything.
        """
        while len(block := self.read(_BLOCK_FRAMES, "float32", always_2d=True)):
            yield block


def reason_for(error: Error) -> str:
    """Sort an error at opening into the reasons of `pipelines.wav`.

    By the text of the message: apart from the first four, libsndfile's numbers are internal and
    move between versions.
    """
    if error.code == 1:
        return "not_audio"
    message = error.error_string.lower()
    if re.search(
        "unimplemented|unsupported|unknown (format|encoding)|wavpack|compression", message
    ):
        return "unsupported_encoding"
    if re.search("no ('data' chunk|sound data)|shorter than", message):
        return "truncated_header"
    return "unreadable" if error.code == 3 else "bad_header"
