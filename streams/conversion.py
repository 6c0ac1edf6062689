"""A value that is none of its setting's, in words."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

import msgspec

from streams.errors import SettingsError


def refusal(section: type[msgspec.Struct], name: str, value: Any, origin: str, error: Exception) -> SettingsError:
    """What to raise for a value that cannot be converted.

    Args:
        section: the type of the setting's section.
        name: of the setting, such as `fraud.rules`.
        origin: the file or variable that the value came from.
        error: msgspec's.
    """
    key = name.partition(".")[2]
    message, _, place = str(error).partition(" - at ")
    place = place.strip("`").removeprefix("$.") or key
    kind = next(field.type for field in msgspec.structs.fields(section) if field.name == key)
    if get_origin(kind) is Literal:  # msgspec says what it got, and not what there is
        message = f"expected {' or '.join(map(str, get_args(kind)))}, got {value!r}"
    return SettingsError(f"{name.removesuffix(key)}{place}{_rule(value, place)} from {origin}: {message}")


def _rule(rules: Any, place: str) -> str:
    """The name of the rule that is at `rules[2].operator`, so far as it has one."""
    index = re.match(r"rules\[(\d+)\]", place)
    rule = rules[int(index[1])] if index else None
    return f" {rule['name']!r}" if isinstance(rule, dict) and isinstance(rule.get("name"), str) else ""
