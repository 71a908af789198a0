"""What one writes by hand instead of `kws prepare`: a pool of processes, a shard each at a time.

$ python -m tests.benchmarks.handwritten --input corpus --output shards

The same NumPy functions, the same recordings in the same shards in the same order, the same bytes.
Without: Beam, the manifest, checksums of files and shards, temporary names, reading ahead, and any
care for a file that cannot be read.
"""

import collections
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Iterator

from kws_model import example, tfrecord
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from pipelines import clip, corpus, shard_plan, splits, wav
from tests.benchmarks import measure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to read, where to write."""

    input: str
    output: str


Key = tuple[int, corpus.Recording]  # order within the split, recording
Shard = tuple[str, int, int, list[Key]]  # split, index, count of shards, recordings


def write_dataset(source: str, output: str, *, num_workers: int) -> None:
    """Lists and plans in this process, then writes shards in `num_workers` forked ones.

    The fork server is the one that `kws prepare` starts its workers from, if it is running.
    """
    os.makedirs(output, exist_ok=True)
    splits_of: dict[str, list[Key]] = collections.defaultdict(list)
    rule = splits.SplitRule()
    recordings = [r for r in corpus.list_recordings(source) if not r.exclusion]
    for recording in recordings:
        order = shard_plan.order_key(recording.id, 0)
        splits_of[rule.of(recording)].append((order, recording))
    labels = {label: index for index, label in enumerate(sorted({r.label for r in recordings}))}
    write = functools.partial(write_shard, output=output, spec=FeatureSpec(), labels=labels)
    with multiprocessing.get_context("forkserver").Pool(num_workers) as pool:
        for _ in pool.imap_unordered(write, plan_shards(splits_of, FeatureSpec())):
            pass


def plan_shards(splits_of: dict[str, list[Key]], spec: FeatureSpec) -> Iterator[Shard]:
    """As many shards as `kws prepare` makes by default."""
    for split, recordings in splits_of.items():
        num_bytes = len(recordings) * (spec.num_bytes + 130)
        count = max(-(-num_bytes // 128_000_000), min(16, num_bytes // 8_000_000), 1)
        shards: list[list[Key]] = [[] for _ in range(count)]
        for order, recording in sorted(recordings):
            shards[order * count >> 64].append((order, recording))
        yield from ((split, index, count, shard) for index, shard in enumerate(shards))


def write_shard(shard: Shard, output: str, spec: FeatureSpec, labels: dict[str, int]) -> None:
    """Writes one TFRecord file."""
    split, index, count, recordings = shard
    name = f"kws-{split}.tfrecord-{index:05d}-of-{count:05d}"
    frontend = Frontend(spec)
    with open(os.path.join(output, name), "wb", buffering=1 << 20) as file:
        for _, recording in recordings:
            with open(recording.path, "rb") as wav_file:
                audio = wav.decode(wav_file.read())
            mono = clip.make_clip(audio, spec.sample_rate_hz).mono
            feature = frontend.one(clip.fit(mono, spec.clip_samples))
            record = example.encode(
                clip_id=recording.id,
                speaker=recording.speaker,
                word=recording.label,
                label=labels[recording.label],
                name=spec.feature,
                value=feature.tobytes(),
            )
            file.writelines(tfrecord.frame(record))


if __name__ == "__main__":
    import tyro

    options = tyro.cli(Options, use_underscores=True)
    write_dataset(options.input, options.output, num_workers=measure.cores())
