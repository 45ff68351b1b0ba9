"""Rows of arrow and parquet files, looked at where they lie; pyarrow is imported with the first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

_KEPT = 4  # groups of rows of parquet files that stay in memory


@dataclass(frozen=True)
class RowGroup:
    """Rows that are read together: a batch of an arrow file, a row group of a parquet file."""

    file: Path
    number: int
    rows: int


def row_groups(file: Path) -> list[RowGroup]:
    """All of a file, in its order."""
    import pyarrow.parquet

    if _is_arrow(file):
        return [RowGroup(file, number, len(batch)) for number, batch in enumerate(_batches(file))]
    about = pyarrow.parquet.ParquetFile(file).metadata
    numbers = range(about.num_row_groups)
    return [RowGroup(file, number, about.row_group(number).num_rows) for number in numbers]


def column_names(file: Path) -> list[str]:
    """Of a file."""
    return list(_schema(file).names)


def column_values(file: Path, column: str) -> list[Any]:
    """A whole column, of small values."""
    import pyarrow.parquet

    if _is_arrow(file):
        return [value for batch in _batches(file) for value in batch.column(column).to_pylist()]
    return list(pyarrow.parquet.read_table(file, columns=[column]).column(column).to_pylist())


def class_names(file: Path, column: str) -> tuple[str, ...] | None:
    """The names that Hugging Face's `datasets` keeps for a column of type ClassLabel."""
    written = (_schema(file).metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(written)["info"]["features"][column] if written else {}
    except (ValueError, KeyError, TypeError):
        return None
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def image_bytes(group: RowGroup, row: int, column: str) -> bytes:
    """The file of an image: kept in the row, or beside the rows under the path that it names.

    Raises:
        InputError: the row holds neither.
    """
    if _is_arrow(group.file):
        value = _batches(group.file)[group.number].column(column)[row].as_py()
    else:
        value = _parquet_rows(group, column)[row].as_py()
    if isinstance(value, bytes):
        return value
    held = value if isinstance(value, dict) else {}
    if held.get("bytes") is not None:
        return bytes(held["bytes"])
    place = group.file.parent / str(held.get("path") or "")
    if held.get("path") and place.is_file():
        return place.read_bytes()
    raise InputError(
        f"{printable(str(group.file))}: a row of column '{printable(column)}' holds no image,"
        " expected the bytes of one; save the data set again with embedded images"
    )


def _is_arrow(file: Path) -> bool:
    return file.suffix == ".arrow"


def _schema(file: Path) -> Any:
    import pyarrow.parquet

    if _is_arrow(file):
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))).schema
    return pyarrow.parquet.read_schema(file)


@lru_cache(maxsize=1024)
def _batches(file: Path) -> list[Any]:
    """Those of an arrow file, which stay on the disk until they are looked at."""
    import pyarrow

    return list(pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))))


@lru_cache(maxsize=_KEPT)
def _parquet_rows(group: RowGroup, column: str) -> Any:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(group.file).read_row_group(group.number, columns=[column])
    return table.column(column).combine_chunks()
