"""The manifest of a dataset by columns: what is counted at once, what is shown when asked for.

>>> manifest = Manifest.read(DatasetInfo.read("datasets/sc"), ("status", "peak_dbfs"))
>>> manifest.numbers("peak_dbfs", manifest.made).max()
0.0

Names become codes, so that a million rows are some 100 MB, and no Python loop sees a row. Paths
are read one part at a time, for the rows that are shown.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kws_model.dataset_info import DatasetInfo

Ints = NDArray[np.integer]
NOT_NAMED = -1  # code of a null
CURE = "run kws prepare --overwrite, or copy the dataset again"
_NAMES = ("label", "speaker", "split", "status", "reason", "container", "encoding")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The columns that are counted; others are read for the rows that are asked for."""

    parts: tuple[pathlib.Path, ...]  # train, validation, test, then what was excluded
    starts: Ints  # first row of each part, and after the last the number of rows
    table: pa.Table

    @classmethod
    def read(cls, info: DatasetInfo, columns: Sequence[str]) -> Self:
        """Reads some columns of every part of a dataset's manifest.

        Raises:
          ValueError: a part is missing or damaged.
        """
        folder = info.folder / "manifest"
        made = [folder / f"part-{s.split}-{s.index:05d}.parquet" for s in info.shards]
        parts = (*made, *sorted(folder.glob("part-excluded-*.parquet")))
        tables = [_read_part(part, columns) for part in parts]
        starts = np.cumsum([0, *(table.num_rows for table in tables)])
        try:
            table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        except pa.ArrowException as error:
            raise ValueError(f"the parts of {folder} are not alike ({error}): {CURE}") from error
        return cls(parts, starts, table)

    @functools.cached_property
    def made(self) -> NDArray[np.bool_]:
        """Which rows have a record."""
        return self.where("status", "made")

    def names(self, column: str) -> tuple[Ints, list[Any]]:
        """A column of names as codes, `NOT_NAMED` for null, and the names that they stand for."""
        return encode(self.table[column])

    def where(self, column: str, name: str) -> NDArray[np.bool_]:
        """The rows that have a name in a column."""
        codes, names = self.names(column)
        return codes == names.index(name) if name in names else np.zeros(len(codes), bool)

    def numbers(self, column: str, rows: NDArray[np.bool_]) -> NDArray[Any]:
        """A column of numbers; nulls are left out."""
        return self.table[column].filter(pa.array(rows)).drop_null().to_numpy()

    def take(self, rows: Ints, columns: Sequence[str]) -> pa.Table:
        """Any columns of a few rows, in the order given; the parts are read one at a time."""
        order = np.argsort(rows, kind="stable")
        taken = []
        for part, (start, end) in zip(self.parts, itertools.pairwise(self.starts), strict=True):
            low, high = np.searchsorted(rows[order], (start, end))
            if low < high:
                taken.append(_read_part(part, columns).take(rows[order][low:high] - start))
        if not taken:
            return pa.table({column: [] for column in columns})
        return pa.concat_tables(taken).unify_dictionaries().take(np.argsort(order))


def _read_part(path: pathlib.Path, columns: Sequence[str]) -> pa.Table:
    dictionaries = [name for name in columns if name in _NAMES]
    try:
        with pq.ParquetFile(path, read_dictionary=dictionaries) as part:
            table = part.read(columns=list(columns))
        if "copy" in columns and "copy" not in table.column_names:  # before there were copies
            table = table.append_column("copy", pa.array(np.zeros(len(table), np.int32)))
        missing = set(columns) - set(table.column_names)
        if missing:
            raise ValueError(f"no column {', '.join(sorted(missing))}")
        return table.select(list(columns)).replace_schema_metadata()
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {CURE}") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{path} can't be read ({error}): {CURE}") from error


def encode(column: pa.ChunkedArray) -> tuple[Ints, list[Any]]:
    """Codes, `NOT_NAMED` for null, and the values that they stand for."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    codes = pc.fill_null(array.indices, NOT_NAMED).to_numpy(zero_copy_only=False)
    return codes, array.dictionary.to_pylist()
