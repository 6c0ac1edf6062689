"""From the columns of foreign files to the fields of an event: names are mapped, values converted."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from connectors.contract import ConnectorError

Kind = Literal["string", "number", "time", "boolean", "any"]


@dataclass(frozen=True)
class Field:
    """One field of an event.

    Args:
        name: The field's name in the event.
        kind: `string` (whole numbers are taken, too: ids often are), `number` (finite), `time` (milliseconds since the
            epoch; texts are ISO 8601, and a time without an offset is taken as UTC), `boolean` (also 0 and 1), or
            `any` (as the file has it).
        required: Whether an event without it is an error; otherwise the field is left out.
    """

    name: str
    kind: Kind
    required: bool = True


@dataclass(frozen=True)
class Column:
    """A field and the name of the file's column that it is read from."""

    field: Field
    source: str


Converted = tuple[Sequence[object], dict[int, str]]
"""The values of a column, and for each bad one its index and what is wrong with it."""


class FileError(ConnectorError):
    """A file cannot be read as events."""


def select(
    fields: Sequence[Field], columns: Mapping[str, str], present: Collection[str] | None, place: str
) -> list[Column]:
    """Choose for each field the column it is read from; the file's other columns are not read.

    Args:
        fields: What an event holds.
        columns: From a field's name to the column's, where the two differ. A name that is not among the fields adds an
            optional field of kind `any`.
        present: The file's columns, or None where each row has its own.
        place: The file, for errors.

    Raises:
        FileError: A column that is needed or named is not there.
    """
    known = {field.name for field in fields}
    wanted = [*fields, *(Field(name, "any", required=False) for name in columns if name not in known)]
    chosen = [Column(field, columns.get(field.name, field.name)) for field in wanted]
    if present is None:
        return chosen
    missing = [
        f"`{column.source}` (for `{column.field.name}`)"
        for column in chosen
        if column.source not in present and (column.field.required or column.field.name in columns)
    ]
    if missing:
        raise FileError(
            f"reading {place}: expected {'columns' if len(missing) > 1 else 'a column'} {', '.join(missing)}, "
            f"got {', '.join(f'`{name}`' for name in present)}; map the file's names to the fields' (field=column)"
        )
    return [column for column in chosen if column.source in present]


def convert(column: Column, values: Sequence[object]) -> Converted:
    """Convert a column's values; a missing value (None, an empty text, not a number) becomes None.

    Returns:
        The values, and for each bad one its index and what is wrong with it.
    """
    bad: dict[int, str] = {}
    converted: list[object] = []
    one = _CONVERTERS[column.field.kind]
    for index, value in enumerate(values):
        try:
            result = None if value is None or value == "" or value != value else one(value)
        except (ValueError, OverflowError):
            result = None
            bad[index] = f"column `{column.source}`: expected {_EXPECTED[column.field.kind]}, got {_short(value)}"
        else:
            if result is None and column.field.required:
                bad[index] = f"column `{column.source}`: expected {_EXPECTED[column.field.kind]}, got nothing"
        converted.append(result)
    return converted, bad


def _string(value: object) -> str:
    if isinstance(value, str):
        value.encode()  # bytes that are not UTF-8 come as lone surrogates, which no JSON may hold
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError  # noqa: TRY004 - one error for every value that does not fit
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return str(int(value))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _time_ms(value: object) -> int:
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.lstrip("-").isdecimal() else datetime.fromisoformat(text)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return int((aware - _EPOCH) // _MILLISECOND)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**53 or value != int(value):
        raise ValueError
    return int(value)


def _boolean(value: object) -> bool:
    known = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(known, int | float) or known not in (0, 1):
        raise ValueError
    return bool(known)


def _any(value: object) -> object:
    if isinstance(value, str):
        value.encode()
    elif not isinstance(value, int | float) or not abs(value) < 2**63:
        raise ValueError
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC) - _EPOCH

_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}

_CONVERTERS: Mapping[Kind, Callable[[object], object]] = {
    "string": _string,
    "number": _number,
    "time": _time_ms,
    "boolean": _boolean,
    "any": _any,
}
_EXPECTED: Mapping[Kind, str] = {
    "string": "a text in UTF-8 or a whole number",
    "number": "a finite number",
    "time": "a time (ISO 8601, or milliseconds since the epoch)",
    "boolean": "true, false, 1 or 0",
    "any": "a text or a number",
}
