"""Events from CSV, JSONL and Parquet files, as keys and JSON values ready for a topic.

A batch is read when it is asked for, so memory stays bounded whatever a file's size; a file is read once, from its
first row to its last, in its own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Protocol, Self

import msgspec

from connectors.columns import Column, Field, FileError
from connectors.lines import BadRows, Lines
from connectors.parquet import ParquetFile
from connectors.tables import Table, read_csv, read_json

__all__ = ["FORMATS", "EventBatch", "EventFile", "Field", "FileError", "open_events"]

FORMATS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
MAX_LINE_BYTES = 1_048_576  # what a broker accepts as a record unless told otherwise

_NO_NAMES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class EventBatch:
    """Consecutive events; the three lists have the same length and are never empty.

    `keys` are the key field's texts in UTF-8 (None: there is none, or it cannot be read), `values` the JSON, and
    `rows` where each event came from: the line of a text file as an editor counts it, the row of a Parquet file from 1.
    """

    keys: list[bytes | None]
    values: list[bytes]
    rows: list[int]


class _Source(Protocol):
    @property
    def bytes_read(self) -> int: ...
    def close(self) -> None: ...


class EventFile:
    """An open file of events, from `open_events`: iterate over it once, and close it or use it in a `with`.

    `total_bytes` is the file's size on the disk.
    """

    def __init__(self, path: Path, source: _Source, batches: Iterator[EventBatch], bad_rows: BadRows) -> None:
        self.path = path
        self.total_bytes = path.stat().st_size
        self._source, self._batches, self._bad_rows = source, batches, bad_rows

    @property
    def bytes_read(self) -> int:
        """How many bytes of `total_bytes` have been read."""
        return self._source.bytes_read

    @property
    def skipped(self) -> int:
        """How many bad rows have been left out."""
        return self._bad_rows.count

    @property
    def first_skipped(self) -> str | None:
        """What was wrong with the first row that was left out, as a sentence."""
        return self._bad_rows.first

    def __iter__(self) -> Iterator[EventBatch]:
        return self._batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def open_events(
    path: Path,
    *,
    fields: Sequence[Field],
    key: str,
    columns: Mapping[str, str] = _NO_NAMES,
    bad_rows: Literal["stop", "skip"] = "stop",
    batch_rows: int = 4096,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> EventFile:
    """Open a file of events, its format by its name's ending (one of FORMATS).

    CSV (with a header) and Parquet are read by column: each event has the fields, converted to their kinds, and the
    file's other columns are dropped. JSONL goes through untouched, valid or not, with the key taken from the key field
    where it can be read, so a topic's poison can be played again; only with `columns` are its lines read and encoded
    anew, as the other formats are. Blank lines are left out.

    Args:
        path: The file.
        fields: What an event holds.
        key: The field whose text is the record's key; one of the fields.
        columns: From a field's name to the file's name for it, where the two differ. A name that is not among the
            fields is added to the events, with the values as the file has them.
        bad_rows: `stop` raises at the first bad row, without giving out any of its batch; `skip` leaves bad rows out
            and counts them.
        batch_rows: How many rows a batch holds at most.
        max_line_bytes: A longer line of a text file is a bad row.

    Raises:
        FileError: The file cannot be opened, is empty, or is of another format, or a column is missing. While
            iterating: a bad row, or a file that is damaged further on.
    """
    if key not in {field.name for field in fields}:
        raise FileError(f"opening {path}: expected the key to be one of the fields, got {key!r}")
    bad = BadRows(path, "row" if path.name.lower().endswith(".parquet") else "line", bad_rows)
    try:
        ending = _ending(path)
        if path.stat().st_size == 0:
            raise FileError(f"reading {path}: expected events, got an empty file")
        if ending == ".parquet":
            file = ParquetFile(path, fields, columns, batch_rows)
            return EventFile(path, file, _encoded(file.columns, iter(file), key, bad), bad)
        lines = Lines(path, max_line_bytes, bad)
    except OSError as error:
        raise FileError(f"opening {path}: {error.strerror or error}") from error
    if ending.startswith(".jsonl") and not columns:
        return EventFile(path, lines, _untouched(lines, key, batch_rows), bad)
    read = read_csv if ending.startswith(".csv") else read_json
    try:
        chosen, tables = read(lines, fields, columns, bad, batch_rows, str(path))
    except FileError:
        lines.close()
        raise
    return EventFile(path, lines, _encoded(chosen, tables, key, bad), bad)


def _ending(path: Path) -> str:
    if not path.exists():
        raise FileError(f"opening {path}: there is no such file")
    if not path.is_file():
        raise FileError(f"opening {path}: expected a file, got a {'folder' if path.is_dir() else 'device or pipe'}")
    ending = next((ending for ending in FORMATS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise FileError(f"opening {path}: expected a name ending in one of {', '.join(FORMATS)}, got {path.name!r}")
    return ending


def _encoded(columns: Sequence[Column], tables: Iterator[Table], key: str, bad_rows: BadRows) -> Iterator[EventBatch]:
    """Encode tables as JSON objects without the fields that have no value."""
    names = [column.field.name for column in columns]
    encode = msgspec.json.Encoder().encode
    for table in tables:
        bad = {index: reason for _, reasons in reversed(table.columns) for index, reason in reasons.items()}
        for index in sorted(bad):
            bad_rows.add(table.rows[index], bad[index])
        rows = zip(*(values for values, _ in table.columns), strict=True)
        events = [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for index, row in enumerate(rows)
            if index not in bad
        ]
        if events:
            keys = [text.encode() if isinstance(text := event.get(key), str) else None for event in events]
            numbers = [number for index, number in enumerate(table.rows) if index not in bad]
            yield EventBatch(keys, [encode(event) for event in events], numbers)


def _untouched(lines: Lines, key: str, batch_rows: int) -> Iterator[EventBatch]:
    """Pass lines through as they are, without their terminators."""
    only_key = msgspec.defstruct("OnlyKey", [("key", str | int | None, None)], rename={"key": key})
    decoder = msgspec.json.Decoder(only_key)
    batch = EventBatch([], [], [])
    for line in lines:
        value = line.rstrip(b"\r\n")
        if not value or value.isspace():
            continue
        batch.keys.append(_key(decoder, value))
        batch.values.append(value)
        batch.rows.append(lines.number)
        if len(batch.rows) == batch_rows:
            yield batch
            batch = EventBatch([], [], [])
    if batch.rows:
        yield batch


def _key(decoder: msgspec.json.Decoder[msgspec.Struct], value: bytes) -> bytes | None:
    try:
        key = getattr(decoder.decode(value), "key")  # noqa: B009 - the struct is made at run time
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if key is None else str(key).encode()
