"""Rows of CSV and JSONL files, some thousands at a time, as columns of converted values."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from connectors.columns import Column, Converted, Field, FileError, convert, select
from connectors.lines import BadRows, Lines

DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Table:
    """Consecutive rows: their numbers in the file, and per column the values and what is wrong with bad ones."""

    rows: Sequence[int]
    columns: list[Converted]


def read_csv(
    lines: Lines, fields: Sequence[Field], names: Mapping[str, str], bad_rows: BadRows, batch_rows: int, place: str
) -> tuple[list[Column], Iterator[Table]]:
    """Read CSV with a header line; the delimiter is whichever of comma, semicolon, tab and bar the header has most.

    Bytes that are not UTF-8 make a row bad only where they are in a column that is read.

    Raises:
        FileError: There is no header, it lacks a column, or names one twice.
    """
    texts = (line.decode("utf-8", "surrogateescape") for line in lines)
    header = next(texts, "")
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(itertools.chain([header], texts), delimiter=delimiter, strict=True)
    try:
        present = [name.encode("utf-8", "backslashreplace").decode().strip() for name in next(reader, [])]
    except csv.Error as error:
        raise FileError(f"reading {place}: expected a header line, got {error}") from error
    chosen = select(fields, names, present, place)
    for column in chosen:
        if present.count(column.source) > 1:
            raise FileError(
                f"reading {place}: expected one column `{column.source}`, got {present.count(column.source)}"
            )
    indices = [present.index(column.source) for column in chosen]

    def tables() -> Iterator[Table]:
        rows = _csv_rows(reader, lines, len(present), bad_rows)
        while batch := list(itertools.islice(rows, batch_rows)):
            numbers, cells = zip(*batch, strict=True)
            values = list(zip(*cells, strict=True))
            yield Table(numbers, [convert(column, values[at]) for column, at in zip(chosen, indices, strict=True)])

    return chosen, tables()


def read_json(
    lines: Lines, fields: Sequence[Field], names: Mapping[str, str], bad_rows: BadRows, batch_rows: int, place: str
) -> tuple[list[Column], Iterator[Table]]:
    """Read one JSON object a line; a column is a key of the object, and a key that is not there a missing value."""
    chosen = select(fields, names, None, place)

    def tables() -> Iterator[Table]:
        rows = _json_rows(lines, bad_rows)
        while batch := list(itertools.islice(rows, batch_rows)):
            columns = [convert(column, [row.get(column.source) for _, row in batch]) for column in chosen]
            yield Table([number for number, _ in batch], columns)

    return chosen, tables()


def _csv_rows(
    reader: Iterator[list[str]], lines: Lines, width: int, bad_rows: BadRows
) -> Iterator[tuple[int, list[str]]]:
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad_rows.add(lines.number, f"expected CSV, got {error} (is a quotation mark left open?)")
            continue
        if len(cells) == width:
            yield lines.number, cells
        elif cells:
            bad_rows.add(lines.number, f"expected {width} columns, got {len(cells)}")


def _json_rows(lines: Lines, bad_rows: BadRows) -> Iterator[tuple[int, dict[str, object]]]:
    decoder = msgspec.json.Decoder()
    for line in lines:
        if line.isspace():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            bad_rows.add(lines.number, f"expected a JSON object, got {error}")
            continue
        if isinstance(row, dict):
            yield lines.number, row
        else:
            bad_rows.add(lines.number, f"expected a JSON object, got {type(row).__name__}")
