"""Recording -> train, validation or test: a pure function of its name, its speaker and the seed.

>>> SplitRule().of(Recording(id="go/x", path="go/0c40e715_nohash_0.wav", label="go"))
'train'
"""

import dataclasses
import functools
import hashlib
import os
import posixpath
import re
from typing import Literal

from pipelines.corpus import Recording

# Speech Commands' own constant: no more recordings of a word than this were foreseen.
MAX_CLIPS_PER_WORD = 2**27 - 1

LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
SYNONYMS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How recordings are divided.

    `speaker_hash` is the rule published with Speech Commands: of the speaker, where the file's name
    (<speaker>_nohash_<take>) or the table gives one, else of the file's name. `lists` reads its two
    lists from the corpus's folder; `random` draws from the recording's id and the seed; `column` is
    the table's.
    """

    split: Literal["speaker_hash", "lists", "random", "column"] = "speaker_hash"
    """speaker_hash (Speech Commands' SHA-1 rule), lists (its two files), random, or column."""

    validation_percent: float = 10.0
    """Share for validation (speaker_hash and random)."""

    test_percent: float = 10.0
    """Share for test (speaker_hash and random)."""

    def __post_init__(self) -> None:
        shares = (self.validation_percent, self.test_percent)
        if not all(0 <= share < 100 for share in shares) or sum(shares) >= 100:
            raise ValueError(
                "--validation_percent and --test_percent must be from 0 to under 100 together; "
                f"got {shares[0]:g} and {shares[1]:g}"
            )

    def of(self, recording: Recording, *, root: str = "", seed: int = 0) -> str:
        """The split of one recording, empty if a table's column says none.

        Args:
          recording: what to place.
          root: the corpus's folder, which holds the two lists (`lists` alone).
          seed: drawn from (`random` alone).

        Raises:
          ValueError: the table's column holds another word.
        """
        if self.split == "column":
            return _named_split(recording)
        if self.split == "lists":
            return _listed_split(recording, root)
        if self.split == "random":
            digest = hashlib.sha256(f"split/{seed}/{recording.id}".encode()).digest()
            return self._at(int.from_bytes(digest[:8]) * (100 / 2**64))
        return self._at(speaker_percent(recording.speaker or os.path.basename(recording.path)))

    def _at(self, percent: float) -> str:
        if percent < self.validation_percent:
            return "validation"
        return "test" if percent < self.validation_percent + self.test_percent else "train"


def check_split_rule(rule: SplitRule, source: str, *, is_table: bool) -> None:
    """Raises ValueError for a rule that this input can't serve."""
    if rule.split == "column" and not is_table:
        raise ValueError("--split column is for a table with a column 'split', not for a folder")
    if rule.split == "lists":
        for name in LISTS.values():
            if is_table or not os.path.isfile(os.path.join(source, name)):
                raise ValueError(
                    f"--split lists needs {name} in the corpus's folder; {source} has none"
                )


@functools.lru_cache(maxsize=65536)
def speaker_percent(name: str) -> float:
    """Where a speaker stands on a scale of 0 to 100, as published with Speech Commands.

    `name` is the speaker, or a file's name, of which all from `_nohash_` on is ignored.
    Source: `which_set` in the README of Speech Commands (Warden, 2018, arXiv:1804.03209).
    """
    speaker = re.sub(r"_nohash_.*$", "", name)
    digest = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    return digest % (MAX_CLIPS_PER_WORD + 1) * (100.0 / MAX_CLIPS_PER_WORD)


def _named_split(recording: Recording) -> str:
    if not recording.split:
        return ""
    try:
        return SYNONYMS[recording.split.lower()]
    except KeyError:
        raise ValueError(
            f"the table's split {recording.split!r} of {recording.id} is none of "
            f"{', '.join(SYNONYMS)}"
        ) from None


def _listed_split(recording: Recording, root: str) -> str:
    name = os.path.relpath(recording.path, root).replace(os.sep, "/")
    for split in LISTS:
        if name in _read_list(root, split):
            return split
    return "train"


@functools.lru_cache(maxsize=8)
def _read_list(root: str, split: str) -> frozenset[str]:
    # Read where it is used: a list sent with the job would make its graph grow with the corpus.
    with open(os.path.join(root, LISTS[split]), encoding="utf-8-sig") as file:
        names = (line.strip().replace("\\", "/") for line in file)
        return frozenset(posixpath.normpath(name) for name in names if name)
