"""Why no better engine serves: short enough for the headers of every prediction, and in full for the log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from models.engines.device import DeviceFault, why_no_gpu
from models.falling import Fall
from models.selection import Passed

LIMIT_BYTES = 200
NO_GPU = "no GPU"  # the ordinary case, which every record of most installations pays for
CUT = "…"

_FAULTS = {DeviceFault.EXHAUSTED: "GPU memory exhausted", DeviceFault.LOST: "GPU lost"}
_OPENING = re.compile(r"^(?:(?:opening|loading) \S+ (?:on|into) \S+: )+")  # model and engine are said already
_NOT_SERVED = "; it is not served by this engine"
_FOLDERS = re.compile(r"(?<!\S)/(?:[^\s/]+/)*")  # a subscriber has no use for paths of the worker's machine


class EngineReason:
    """Names the better engines that do not serve, and why; not for two threads at once.

    The line has at most `LIMIT_BYTES` in UTF-8 and no control characters. It is put together when this is made, and
    again after each fall, never for every record. Errors in full stand in the log and in readiness.

    Args:
        passed: engines that were passed over for the one that served first.

    Example:
        >>> EngineReason([Passed("onnx-cuda", "opening fraud/2 on onnx-cuda: no provider; it is not served")]).after()
        'onnx-cuda: no provider'
    """

    def __init__(self, passed: Iterable[Passed]) -> None:
        no_gpu = why_no_gpu()
        self._passed = [(each.name, _clause(each.reason, no_gpu)) for each in passed]
        self._falls: Sequence[Fall] = ()
        self._line = _line(self._passed)

    def after(self, falls: Sequence[Fall] = ()) -> str:
        """The line, when these engines have fallen since; empty where the best one serves."""
        if len(falls) != len(self._falls):
            self._falls = falls
            self._line = _line([*self._passed, *((fall.engine, _fault(fall)) for fall in falls)])
        return self._line


def in_full(better: Mapping[str, str]) -> list[str]:
    """`a, b: why`, each reason once.

    Args:
        better: engine -> the sentence why it does not serve.
    """
    clauses = ((name, _OPENING.sub("", reason).removesuffix(_NOT_SERVED)) for name, reason in better.items())
    return [f"{', '.join(names)}: {reason}" for reason, names in _by_reason(clauses).items()]


def _clause(reason: str, no_gpu: str | None) -> str:
    """What a sentence of `models` says between what was being done and what happens now."""
    clause = _OPENING.sub("", reason).partition("; ")[0]
    return NO_GPU if clause == no_gpu else _FOLDERS.sub("", clause)


def _fault(fall: Fall) -> str:
    said = (text for fault, text in _FAULTS.items() if fall.reason.startswith(fault.value))
    return next(said, fall.reason)


def _line(engines: Sequence[tuple[str, str]]) -> str:
    """`a, b: why; c: why`; each reason once, each with an equal share of the limit."""
    by_reason = _by_reason(engines)
    share = (LIMIT_BYTES + 2) // max(len(by_reason), 1) - 2
    return "; ".join(_cut(f"{', '.join(names)}: {reason}", share) for reason, names in by_reason.items())


def _by_reason(engines: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    by_reason: dict[str, list[str]] = {}
    for name, reason in engines:
        by_reason.setdefault(reason, []).append(name)
    return by_reason


def _cut(text: str, limit_bytes: int) -> str:
    plain = "".join(each if each.isprintable() else " " for each in text)
    encoded = plain.encode()
    if len(encoded) <= limit_bytes:
        return plain
    return encoded[: limit_bytes - len(CUT.encode())].decode(errors="ignore") + CUT
