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

import numpy as np

from kws_model import example, tfrecord
from kws_model.dataset_info import shard_filename
from kws_model.feature_spec import FeatureSpec
from kws_model.frontend import Frontend
from pipelines import clip, corpus, shard_plan, splits, wav
from tests.benchmarks import measure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to read, where to write."""

    input: str
    output: str


def write_dataset(source: str, output: str, *, num_workers: int) -> None:
    """Lists and plans in this process, then writes shards in `num_workers` forked ones.

    The fork server is the one that `kws prepare` starts its workers from, if it is running.
    """
    os.makedirs(output, exist_ok=True)
    spec, rule = FeatureSpec(), splits.SplitRule()
    recordings = [
        recording._replace(split=rule.of(recording))
        for recording in corpus.list_recordings(source)
        if not recording.exclusion
    ]
    counts = collections.Counter((r.split, r.label) for r in recordings)
    plan = shard_plan.make_plan(
        counts.items(), sizing=shard_plan.Sizing(), clip_bytes=spec.num_bytes
    )
    shards: dict[shard_plan.ShardKey, list[tuple[int, corpus.Recording]]]
    shards = collections.defaultdict(list)
    for recording in recordings:
        order = shard_plan.order_key(recording.id, 0)
        shards[plan.shard_of(recording.split, order)].append((order, recording))
    write = functools.partial(write_shard, output=output, spec=spec, plan=plan)
    with multiprocessing.get_context("forkserver").Pool(num_workers) as pool:
        for _ in pool.imap_unordered(write, sorted(shards.items())):
            pass


def write_shard(
    shard: tuple[shard_plan.ShardKey, list[tuple[int, corpus.Recording]]],
    output: str,
    spec: FeatureSpec,
    plan: shard_plan.Plan,
) -> None:
    """Writes one TFRecord file."""
    (split, index), recordings = shard
    name = shard_filename(name="kws", split=split, index=index, count=plan.num_shards[split])
    frontend, feature = Frontend(spec), np.empty(spec.shape, spec.stored_dtype)
    labels = {label: number for number, label in enumerate(plan.labels)}
    with open(os.path.join(output, name), "wb", buffering=1 << 20) as file:
        for _, recording in sorted(recordings):
            with open(recording.path, "rb") as wav_file:
                audio = wav.decode(wav_file.read())
            frontend.one(clip.make_clip(audio, spec).waveform, feature)
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
