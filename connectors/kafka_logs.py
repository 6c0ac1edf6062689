"""What a broker that died said last, turned into the error that its reader can act on."""

from __future__ import annotations

import re
from pathlib import Path

from connectors.kafka_errors import BrokerDiedError, BrokerError, HomeBusyError, PortTakenError
from connectors.kafka_home import BrokerHome

TAIL_BYTES = 256 << 10
MOST_LINES = 3

_ERROR_LINE = re.compile(r"^\[[^\]]*\] (?:ERROR|FATAL) (?P<text>.*?)(?: \([\w.$]+\))?$")
_EXCEPTION_LINE = re.compile(r"^(?:Caused by: )?(?P<text>(?:[\w$]+\.)+[\w$]*(?:Exception|Error)\b.*)$")
_NOISE = re.compile(r"^(?:\s|$|WARNING: |Caused by: |\[[^\]]*\] (?:INFO|WARN|DEBUG) )")

_PORT = re.compile(r"Address already in use|BindException")
_LOCKED = re.compile(r"Failed to acquire lock on file")
_NO_DAMAGE = re.compile(r"No space left|Permission denied|Too many open files|Read-only file system|OutOfMemoryError")
_DATA = re.compile(
    r"meta\.properties|InconsistentClusterId|InconsistentBrokerMetadata|CorruptRecordException|KafkaStorageException"
    r"|CorruptSnapshot|Corrupt(?:ed)? (?:index|file|record)|metadata\.version|cluster\.?[iI]d"
)


def death(home: BrokerHome, doing: str, exit_code: int | None) -> BrokerError:
    """The error for a Java process of `home` that ended while `doing`, from what it left in its logs."""
    said = _errors(_tail(home.server_log))
    log = home.server_log if said else home.console_log
    said = said or _console(_tail(home.console_log)) or ["it said nothing"]
    text = "; ".join(said[-MOST_LINES:])
    everything = "\n".join(said)
    if _PORT.search(everything):
        return PortTakenError(
            f"cannot start the embedded broker: {text}; stop the other program, or choose another --port"
        )
    if _LOCKED.search(everything):
        return HomeBusyError(
            f"another Kafka already uses the data folder {str(home.data)!r}; stop that one, or use another --home"
        )
    if not _NO_DAMAGE.search(everything) and (_DATA.search(everything) or _names(home.data, everything)):
        return home.corrupt(f"{text} (see {str(log)!r})")
    return BrokerDiedError(f"the embedded broker ended while {doing} (exit code {exit_code}): {text}; see {str(log)!r}")


def _names(data: Path, text: str) -> bool:
    return str(data) in text or str(data.resolve()) in text


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _errors(lines: list[str]) -> list[str]:
    """The messages of ERROR lines and of the exceptions below them, each once, in order."""
    found: dict[str, None] = {}
    below_error = False
    for line in lines:
        if line.startswith("["):
            match = _ERROR_LINE.match(line)
            below_error = match is not None
        else:
            match = _EXCEPTION_LINE.match(line) if below_error else None
        if match:
            found[match["text"]] = None
    return list(found)


def _console(lines: list[str]) -> list[str]:
    return [line.strip() for line in lines if not _NOISE.match(line)]
