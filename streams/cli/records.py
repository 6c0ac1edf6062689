"""Records for people and for pipes: filters, JSON lines, and the cells of a table."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from streams.clock import rfc3339
from streams.deadletter import PREFIX
from streams.records import Headers, RecordBatch

MISSING = object()
SHOWN_BYTES = 16  # of a value that is no text, in a table


@dataclass(frozen=True)
class Filter:
    """Which records to show.

    Args:
        key: this key only.
        fields: for each field of a JSON value (`a.b`: b within a) what it must be, as JSON or as plain text.
    """

    key: bytes | None
    fields: Mapping[str, str]

    def rows(self, batch: RecordBatch) -> Iterator[int]:
        """The rows to show, in order."""
        for row, key in enumerate(batch.keys):
            if (self.key is None or key == self.key) and (not self.fields or self._fits(batch.values[row])):
                yield row

    def _fits(self, value: bytes | None) -> bool:
        decoded = decode(value)
        return all(_equal(_find(decoded, path), text) for path, text in self.fields.items())


def decode(value: bytes | None) -> object:
    """A JSON value decoded; MISSING where it is no JSON."""
    try:
        return msgspec.json.decode(value) if value is not None else MISSING
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return MISSING


def _find(decoded: object, path: str) -> object:
    if isinstance(decoded, dict) and path in decoded:
        return decoded[path]
    for name in path.split("."):
        if not isinstance(decoded, dict) or name not in decoded:
            return MISSING
        decoded = decoded[name]
    return decoded


def _equal(found: object, text: str) -> bool:
    if found is MISSING:
        return False
    if isinstance(found, str):
        return found == text
    wanted = decode(text.encode())
    return wanted == found and isinstance(wanted, bool) == isinstance(found, bool)


def json_line(batch: RecordBatch, row: int, *, headers: bool) -> bytes:
    """One record as a JSON object, without a line feed: a value that is no JSON stands in Base64 under its own name."""
    line: dict[str, object] = {
        "topic": batch.topic,
        "partition": batch.partition,
        "offset": batch.offsets[row],
        "timestamp": rfc3339(batch.timestamps_ms[row] / 1000),
        **_text("key", batch.keys[row]),
        **json_value(batch.values[row]),
    }
    if shown := shown_headers(batch.headers[row], everything=headers):
        line["headers"] = shown
    return msgspec.json.encode(line)


def json_value(value: bytes | None) -> dict[str, object]:
    """A value as fields of a JSON object: `value`, or `value_base64` and a note where it is no JSON."""
    if value is None:
        return {"value": None}
    if decode(value) is MISSING:
        return {"value_base64": base64.b64encode(value).decode(), "note": "the value is not JSON"}
    return {"value": msgspec.Raw(value if b"\n" not in value else msgspec.json.format(value, indent=-1))}


def _text(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def shown_headers(headers: Headers, *, everything: bool) -> dict[str, str | None]:
    """Name -> readable value; of a dead letter why it failed, or all of them. The last of one name counts."""
    return {
        name: None if value is None else readable(value)
        for name, value in headers
        if everything or name.startswith(PREFIX)
    }


def readable(value: bytes) -> str:
    """Text as it is, with what would steer a terminal escaped; bytes that are no text as Base64."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"(not UTF-8, as Base64) {base64.b64encode(value).decode()}"
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def flat(value: bytes | None) -> str:
    """A value on one line: a JSON object as `name=value` with dots for what lies deeper."""
    if value is None:
        return "(tombstone)"
    decoded = decode(value)
    if decoded is MISSING:
        return _no_json(value)
    if isinstance(decoded, dict):
        return "  ".join(_flat_fields(decoded, ""))
    return _plain(decoded)


def _no_json(value: bytes) -> str:
    try:
        value.decode()
    except UnicodeDecodeError:  # a picture, say: whoever wants all of it asks for JSON
        more = "…" if len(value) > SHOWN_BYTES else ""
        return f"(no text, {len(value):,} bytes) {value[:SHOWN_BYTES].hex(' ')}{more}"
    return f"(not JSON) {readable(value)}"


def _flat_fields(fields: dict[str, object], prefix: str) -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat_fields(value, f"{prefix}{name}.")
        else:
            yield f"{readable((prefix + name).encode())}={_plain(value)}"


def _plain(value: object) -> str:
    return readable(value.encode() if isinstance(value, str) else msgspec.json.encode(value))
