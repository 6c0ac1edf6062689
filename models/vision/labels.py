"""The names of a network's classes: from the files in which people keep them, or from the network's own file."""

from __future__ import annotations

import ast
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

MAX_BYTES = 4 * 1024**2
NAMES = "names"  # of Ultralytics, in data.yaml and in the metadata of its exports

_YAML = re.compile(rf"^{NAMES}\s*:", re.MULTILINE)
_LABEL_MAP = re.compile(r"\s*item\s*\{")
_NUMBERED = re.compile(r"(\d+)\s*[:,;\s]\s*(\S.*)")


def parse(text: str) -> tuple[str, ...]:
    """Names of classes, in the network's order.

    One name a line, perhaps behind its number; or Ultralytics' data.yaml; or JSON: an array, an object of numbers and
    names either way round, Hugging Face's `id2label`, or COCO's `categories`.

    Raises: ValueError, whose text is a clause: what was expected and what is there.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"expected names, at most {MAX_BYTES} bytes of them")
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _listed(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"expected JSON, since it begins as such: {error}") from error
    if _YAML.search(text):
        try:
            return _listed(yaml.load(text, yaml.BaseLoader))  # which leaves `no` and `1.0` texts
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(
                f"expected YAML, since it has a line `{NAMES}:`: {' '.join(str(error).split())}"
            ) from error
    if _LABEL_MAP.match(text):
        raise ValueError("expected one name a line, in the network's order, got a label map of TensorFlow's")
    return _lines(text)


def of_metadata(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What an ONNX file itself calls its classes; empty where it does not say, or nobody can read it.

    References: Ultralytics' exporter writes its dictionary as Python does.
    """
    said = metadata.get(NAMES, "")
    if not said or len(said) > MAX_BYTES:
        return ()
    try:
        return _listed(ast.literal_eval(said))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return ()


def _lines(text: str) -> tuple[str, ...]:
    names = [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise ValueError(f"expected names, one a line, got {len(text)} characters without any")
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    numbers = [int(each[1]) for each in numbered if each]
    if len(names) > 1 and len(numbers) == len(names) and numbers in (_counted(0, names), _counted(1, names)):
        return tuple(each[2] for each in numbered if each)
    return _checked(names, "line", 1)


def _listed(found: Any) -> tuple[str, ...]:
    """Names from what a file holds, whichever way it holds them."""
    if isinstance(found, Mapping):
        for key in (NAMES, "id2label", "categories"):
            if key in found:
                return _listed(found[key])
        return _mapped(found)
    if not isinstance(found, list | tuple):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not the caller
            f"expected a list of names, or numbers and names, got {reprlib.repr(found)}"
        )
    if found and all(isinstance(each, Mapping) and "name" in each for each in found):
        if all(isinstance(each.get("id"), int) for each in found):
            found = sorted(found, key=lambda each: each["id"])
        found = [each["name"] for each in found]
    return _checked(found, "entry", 0)


def _mapped(found: Mapping[Any, Any]) -> tuple[str, ...]:
    """Numbers and names, either way round: all numbers from 0 or 1 on."""
    pairs = list(found.items())
    if pairs and all(_is_number(value) for _, value in pairs):
        pairs = [(value, key) for key, value in pairs]
    if not pairs or not all(_is_number(key) for key, _ in pairs):
        raise ValueError(f"expected a list of names, or numbers and names, got keys {reprlib.repr(list(found))}")
    pairs = sorted(((int(key), value) for key, value in pairs), key=lambda pair: pair[0])
    numbers, names = [number for number, _ in pairs], [name for _, name in pairs]
    if numbers not in (_counted(0, names), _counted(1, names)):
        raise ValueError(f"expected a name for each number from 0 or 1 on, got {reprlib.repr(numbers)}")
    return _checked(names, "number", numbers[0])


def _is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.isdecimal())


def _counted(first: int, names: Sequence[Any]) -> list[int]:
    return list(range(first, first + len(names)))


def _checked(names: Sequence[Any], place: str, first: int) -> tuple[str, ...]:
    for number, name in enumerate(names, first):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"expected a name in {place} {number}, got {reprlib.repr(name) if name else 'none'}")
    if not names:
        raise ValueError("expected names, got none")
    return tuple(name.strip() for name in names)
