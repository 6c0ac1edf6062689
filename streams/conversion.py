"""A value that is none of its setting's, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Any, Literal, get_args, get_origin

import msgspec

from streams.cluster import Secret
from streams.errors import SettingsError

EXPECTED = re.compile(r"Expected `([^`]+?)(?: \| null)?`, got `[^`]+`")


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
    elif (wanted := EXPECTED.fullmatch(message)) and isinstance(value, str | int | float) and not _secret(kind):
        message = f"expected {wanted[1]}, got {value!r}"
    return SettingsError(f"{name.removesuffix(key)}{place}{_rule(value, place)} from {origin}: {message}")


def unknown(what: str, name: str, known: Collection[str], origin: str) -> SettingsError:
    """What to raise for a name that is none of those that are known."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
    return SettingsError(f"unknown {what} in {origin}; {hint}")


def _secret(kind: Any) -> bool:
    return Secret in (kind, *get_args(kind))


def _rule(rules: Any, place: str) -> str:
    """The name of the rule that is at `rules[2].operator`, so far as it has one."""
    index = re.match(r"rules\[(\d+)\]", place)
    rule = rules[int(index[1])] if index else None
    return f" {rule['name']!r}" if isinstance(rule, dict) and isinstance(rule.get("name"), str) else ""
