"""Words -> classes: wanted words, `_unknown_` and `_silence_`, drawn by name alone.

The twelve classes of the literature (Warden, 2018, arXiv:1804.03209):
--wanted_words yes no up down left right on off stop go --unknown_percent 10 --silence_percent 10
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from kws_model.dataset_info import SPLITS
from kws_model.feature_spec import FeatureSpec
from pipelines import noise
from pipelines.corpus import Recording
from pipelines.shard_plan import EXCLUDED, Plan, Shares

UNKNOWN = "_unknown_"
SILENCE = "_silence_"

# Why a recording is excluded here, beside the reasons of pipelines.corpus.EXCLUDED.
REASONS = {
    "not_wanted": "its word is not wanted, and --unknown_percent is 0",
    "not_sampled": "its word is not wanted, and it was not drawn for _unknown_",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassRule:
    """Which words are classes."""

    wanted_words: tuple[str, ...] = ()
    """The classes, in this order; by default every word is one, in alphabetical order."""

    unknown_percent: float = 0.0
    """Clips of _unknown_, each drawn by chance from the other words: about so many percent of the
    wanted ones."""

    silence_percent: float = 0.0
    """Clips of _silence_, cut from _background_noise_, in percent of the wanted ones."""

    def __post_init__(self) -> None:
        if len(set(self.wanted_words)) < len(self.wanted_words):
            raise ValueError(f"--wanted_words names a word twice: {' '.join(self.wanted_words)}")
        if not all(0 <= share <= 10_000 for share in (self.unknown_percent, self.silence_percent)):
            raise ValueError(
                "--unknown_percent and --silence_percent must not be negative, or huge"
            )
        if self.unknown_percent and not self.wanted_words:
            raise ValueError("--unknown_percent needs --wanted_words: every word is one without it")


def share_out(
    counts: Iterable[tuple[tuple[str, str], int]],
    rule: ClassRule,
    *,
    noises: Iterable[Recording],
    source: str,
) -> Shares:
    """How many clips of which class each split gets.

    `counts` are of recordings, per (split, word); `source` is for messages.

    Raises:
      ValueError: a wanted word has no recordings, or silence is wanted and there is no noise.
    """
    by_split: dict[str, Counter[str]] = {split: Counter() for split in (*SPLITS, EXCLUDED)}
    for (split, word), count in counts:
        by_split[split][word] += count
    found = {word for split in SPLITS for word in by_split[split]}
    _check_words(rule, found, source)
    noise_paths = tuple(sorted((noise.id, noise.path) for noise in noises))
    if rule.silence_percent and not noise_paths:
        raise ValueError(f"--silence_percent needs recordings in {source}/_background_noise_")
    wanted = rule.wanted_words or tuple(sorted(found))
    wanted_counts = {split: sum(by_split[split][word] for word in wanted) for split in SPLITS}
    others = {split: by_split[split].total() - wanted_counts[split] for split in SPLITS}
    unknown = {
        split: _fraction(wanted_counts[split] * rule.unknown_percent / 100, of=others[split])
        for split in SPLITS
    }
    return Shares(
        labels=_labels(rule, wanted),
        num_words={s: wanted_counts[s] + round(unknown[s] * others[s]) for s in SPLITS},
        num_silences={s: round(wanted_counts[s] * rule.silence_percent / 100) for s in SPLITS},
        unknown_fraction=unknown,
        num_found=sum(words.total() for words in by_split.values()),
        noises=noise_paths,
    )


def _fraction(part: float, *, of: int) -> float:
    return min(1.0, part / of) if of else 0.0


def _labels(rule: ClassRule, words: tuple[str, ...]) -> tuple[str, ...]:
    silence = (SILENCE,) if rule.silence_percent else ()
    unknown = (UNKNOWN,) if rule.unknown_percent else ()
    return (*silence, *unknown, *words)


def _check_words(rule: ClassRule, found: set[str], source: str) -> None:
    missing = [word for word in rule.wanted_words if word not in found]
    if missing:
        raise ValueError(
            f"--wanted_words: {source} has no recordings of {', '.join(missing)}; "
            f"it has: {', '.join(sorted(found))}"
        )


def classify(recording: Recording, plan: Plan, *, seed: int) -> Recording:
    """Gives a placed recording its class, or excludes it.

    `word` stays what is said; `label` becomes the class. Whether an unwanted word is drawn depends
    on the seed, its id and the plan's published fraction alone.
    """
    if recording.split == EXCLUDED:
        return recording
    recording = recording._replace(word=recording.label)
    if recording.label in plan.labels:
        return recording
    fraction = plan.unknown_fraction[recording.split]
    if draw("unknown", seed, recording.id) < fraction:
        return recording._replace(label=UNKNOWN)
    reason = "not_sampled" if UNKNOWN in plan.labels else "not_wanted"
    return recording._replace(split=EXCLUDED, exclusion=reason)


def silences(plan: Plan, *, seed: int) -> Iterator[Recording]:
    """Names of the clips to cut from background noise; `silence` draws where and how loud."""
    for split, count in plan.num_silences.items():
        for number in range(count):
            clip_id = f"{SILENCE}/{split}/{number:06d}"
            which = int(draw("noise", seed, clip_id) * len(plan.noises))
            yield Recording(
                id=clip_id, path=plan.noises[which][1], label=SILENCE, split=split, word=SILENCE
            )


def silence(recording: Recording, spec: FeatureSpec, *, seed: int) -> NDArray[np.float32]:
    """The waveform of a clip of silence, float32 [clip_samples]: noise at a drawn gain below 1.

    Gains are uniform in amplitude, as in TensorFlow's example for Speech Commands. Where clips
    keep their natural lengths, it lasts a second.
    """
    piece = noise.excerpt(
        recording.path,
        recording.split,
        draw("where", seed, recording.id),
        spec.sample_rate_hz,
        spec.sample_rate_hz if spec.clip_ms is None else spec.clip_samples,
    )
    return piece * np.float32(draw("gain", seed, recording.id))


def draw(what: str, seed: int, clip_id: str) -> float:
    """A number in [0, 1) that depends on its arguments alone."""
    digest = hashlib.sha256(f"{what}/{seed}/{clip_id}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56
