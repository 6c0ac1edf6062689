"""Rows of Parquet files, some thousands at a time, as columns of converted values; needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from connectors.columns import Column, Converted, Field, FileError, convert, select
from connectors.tables import Table


class ParquetFile:
    """An open Parquet file; iterate once for its tables. One row group's columns are in memory at a time.

    Raises:
        FileError: pyarrow is not installed, the file is not Parquet, or it lacks a column.
    """

    def __init__(self, path: Path, fields: Sequence[Field], names: Mapping[str, str], batch_rows: int) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise FileError(
                f"reading {path}: Parquet needs pyarrow, the extra `parquet`: pip install 'headrace[parquet]'"
            ) from error
        self._error = pyarrow.ArrowException
        self._path, self._batch_rows = path, batch_rows
        self._total_bytes = path.stat().st_size
        try:
            self._file: Any = parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise FileError(f"reading {path}: expected a Parquet file, got {_one_line(error)}") from error
        try:
            self.columns = select(fields, names, list(self._file.schema_arrow.names), str(path))
        except FileError:
            self._file.close()
            raise
        self._rows_read = 0

    @property
    def bytes_read(self) -> int:
        """How far the file has been read, as its size times the share of the rows."""
        rows: int = self._file.metadata.num_rows
        return self._total_bytes * self._rows_read // rows if rows else self._total_bytes

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[Table]:
        sources = list(dict.fromkeys(column.source for column in self.columns))
        try:
            for batch in self._file.iter_batches(self._batch_rows, columns=sources):
                columns = [_converted(column, batch.column(column.source)) for column in self.columns]
                first = self._rows_read + 1
                self._rows_read += batch.num_rows
                yield Table(range(first, first + batch.num_rows), columns)
        except (self._error, OSError) as error:
            raise FileError(f"reading {self._path} after row {self._rows_read}: {_one_line(error)}") from error


def _converted(column: Column, array: Any) -> Converted:
    """Convert a whole array where its type allows it; what is left, or holds a bad value, goes value by value."""
    import pyarrow as pa

    kind, of = column.field.kind, pa.types
    if of.is_dictionary(array.type):
        array = array.dictionary_decode()
    if of.is_decimal(array.type):
        array = array.cast(pa.float64())
    if kind == "string" and of.is_integer(array.type):
        array = array.cast(pa.string())
        if array.null_count == 0:
            return array.to_pylist(), {}
    if kind == "number" and of.is_floating(array.type) and array.null_count == 0 and np.isfinite(array).all():
        return array.to_pylist(), {}
    if kind in ("time", "any") and (of.is_timestamp(array.type) or of.is_date(array.type)):
        milliseconds = pa.timestamp("ms", tz=getattr(array.type, "tz", None))
        array = array.cast(milliseconds, safe=False).cast(pa.int64())
    return convert(column, array.to_pylist())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
