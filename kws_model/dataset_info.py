"""What a dataset says of itself: splits, shards, labels and spec <-> the JSON files of its folder.

>>> DatasetInfo.read("datasets/sc").labels
('bed', 'bird', ...)

`features.json`, `label.labels.txt` and `dataset_info.json` are TensorFlow Datasets' format, so that
`tfds.builder_from_directory` reads the folder; `feature_spec.json` and `preparation.json` are ours.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any, Self

from kws_model.feature_spec import FeatureSpec

SPLITS = ("train", "validation", "test")
VERSION = "1.0.0"  # of the layout: TensorFlow Datasets wants one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One TFRecord file; `xxh3_128` is the checksum of its bytes in hex (`xxhsum -H2`)."""

    split: str
    index: int
    filename: str
    num_examples: int
    num_bytes: int
    xxh3_128: str

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not isinstance(getattr(self, field.name), field.type):  # type: ignore[arg-type]
                raise TypeError(f"a shard's {field.name} is {getattr(self, field.name)!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The metadata of a finished dataset.

    `account` holds what `kws prepare` counted: for each split the clips of each label, the rejected
    and the excluded by reason. `preparation` holds the options that shaped it.
    """

    name: str
    spec: FeatureSpec
    labels: tuple[str, ...]
    shards: tuple[Shard, ...]
    account: dict[str, Any]
    preparation: dict[str, Any]
    folder: pathlib.Path = pathlib.Path()

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the spec, the labels and every shard's bytes."""
        content = [self.spec.to_dict(), self.labels, [dataclasses.astuple(s) for s in self.shards]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def split_shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of one split, in order.

        Raises:
          ValueError: the dataset has no such split, or it is empty.
        """
        shards = tuple(shard for shard in self.shards if shard.split == split)
        if not sum(shard.num_examples for shard in shards):
            splits = ", ".join(dict.fromkeys(s.split for s in self.shards if s.num_examples))
            raise ValueError(f"{self.folder} has no clips in split {split!r}; it has: {splits}")
        return shards

    def num_examples(self, split: str) -> int:
        """Clips of one split; raises as `split_shards`."""
        return sum(shard.num_examples for shard in self.split_shards(split))

    def to_files(self) -> dict[str, str]:
        """The metadata files by name. `dataset_info.json` must be written last, by a rename.

        Raises:
          ValueError: a label can't be one line of label.labels.txt.
        """
        for label in self.labels:
            # TensorFlow Datasets skips blank lines, which would shift the labels that follow.
            if not label.strip() or "\n" in label or "\r" in label:
                raise ValueError(f"a label must be one line that is not blank; got {label!r}")
        return {
            "features.json": _dump(self._tfds_features()),
            "label.labels.txt": "".join(f"{label}\n" for label in self.labels),
            "feature_spec.json": _dump(self.spec.to_dict()),
            "preparation.json": _dump(
                {
                    "fingerprint": self.fingerprint,
                    "account": self.account,
                    "shards": [dataclasses.asdict(shard) for shard in self.shards],
                    "preparation": self.preparation,
                }
            ),
            "dataset_info.json": _dump(self._tfds_info()),
        }

    @classmethod
    def read(cls, folder: str | pathlib.Path) -> Self:
        """Reads the metadata of a finished dataset.

        Raises:
          ValueError: the folder is missing or unfinished, its metadata is damaged, or a shard is
            missing or cut short.
        """
        folder = pathlib.Path(folder)
        _check_finished(folder)
        try:
            info = cls._parse(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"the metadata of {folder} can't be read ({reason}): run kws prepare --overwrite, "
                "or copy the dataset again"
            ) from error
        for shard in info.shards:
            _check_size(folder / shard.filename, shard)
        return info

    @classmethod
    def _parse(cls, folder: pathlib.Path) -> Self:
        names = ("dataset_info.json", "feature_spec.json", "preparation.json")
        dataset_info, spec, preparation = (_load(folder / name) for name in names)
        labels = (folder / "label.labels.txt").read_text("utf-8")
        info = cls(
            name=dataset_info["name"],
            spec=FeatureSpec.from_dict(spec),
            # Not splitlines(): like TensorFlow Datasets, leave U+2028 and the like in a label.
            labels=tuple(labels.removesuffix("\n").split("\n")),
            shards=tuple(Shard(**shard) for shard in preparation["shards"]),
            account=preparation["account"],
            preparation=preparation["preparation"],
            folder=folder,
        )
        if info.fingerprint != preparation["fingerprint"]:
            raise ValueError("its files do not belong together: the fingerprint is another")
        return info

    def _tfds_features(self) -> dict[str, Any]:
        spec = self.spec
        is_fixed = spec.clip_ms is not None
        shape = spec.shape if is_fixed else (-1, *spec.inner_shape)  # -1: TFDS's unknown size
        return {
            "pythonClassName": f"{_TFDS}.features_dict.FeaturesDict",
            "featuresDict": {
                "features": {
                    **dict.fromkeys(("id", "speaker", "word"), _TFDS_TEXT),
                    "label": {
                        "pythonClassName": f"{_TFDS}.class_label_feature.ClassLabel",
                        "classLabel": {"numClasses": str(len(self.labels))},
                    },
                    **({} if is_fixed else {"num_frames": _TFDS_INT64}),
                    spec.feature: {
                        "pythonClassName": f"{_TFDS}.tensor_feature.Tensor",
                        "tensor": {
                            "shape": {"dimensions": [str(size) for size in shape]},
                            "dtype": spec.stored_dtype.name,
                            "encoding": "bytes",
                        },
                    },
                }
            },
        }

    def _tfds_info(self) -> dict[str, Any]:
        splits = []
        for split in SPLITS:
            shards = [shard for shard in self.shards if shard.split == split]
            if shards:
                splits.append(
                    {
                        "name": split,
                        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                        "numBytes": str(sum(shard.num_bytes for shard in shards)),
                        "shardLengths": [str(shard.num_examples) for shard in shards],
                    }
                )
        return {"fileFormat": "tfrecord", "name": self.name, "splits": splits, "version": VERSION}


_TFDS = "tensorflow_datasets.core.features"
_TFDS_INT64 = {
    "pythonClassName": f"{_TFDS}.scalar.Scalar",
    "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"},
}
_TFDS_TEXT = {"pythonClassName": f"{_TFDS}.text_feature.Text", "text": {}}


def shard_filename(*, name: str, split: str, index: int, count: int) -> str:
    """TensorFlow Datasets' name of a shard, such as kws-train.tfrecord-00003-of-00026."""
    return f"{name}-{split}.tfrecord-{index:05d}-of-{count:05d}"


def check_labels(info: DatasetInfo, expected: Sequence[str], *, owner: str) -> None:
    """Raises ValueError if a dataset's labels are not those that `owner` (a run) was trained on."""
    if list(info.labels) == list(expected):
        return
    missing, new = set(expected) - set(info.labels), set(info.labels) - set(expected)
    difference = "; ".join(
        f"{title}: {', '.join(sorted(words))}"
        for title, words in (("only in the run", missing), ("only in the dataset", new))
        if words
    )
    raise ValueError(
        f"the labels of {info.folder} are not those of {owner} "
        f"({difference or 'the same words in another order'}): use the dataset it was trained on"
    )


def _check_finished(folder: pathlib.Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"no dataset at {folder}: it is not a folder; make one with kws prepare")
    if not (folder / "dataset_info.json").exists():
        raise ValueError(
            f"the dataset at {folder} is unfinished (it has no dataset_info.json): "
            "run kws prepare on it again"
        )


def _check_size(path: pathlib.Path, shard: Shard) -> None:
    size = path.stat().st_size if path.exists() else None
    if size != shard.num_bytes:
        found = "is missing" if size is None else f"has {size:,} bytes, not {shard.num_bytes:,}"
        raise ValueError(f"{path} {found}: run kws prepare --overwrite, or copy the dataset again")


def _load(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
