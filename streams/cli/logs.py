"""What a worker logs: its own sentences, and what the libraries below say, once instead of twenty times a second."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from aiokafka.errors import KafkaError
from rich.logging import RichHandler

from streams.cli.console import terminal
from streams.errors import HeadraceError
from streams.outages import NO_ANSWER, OUTAGES

# Faust names its services' loggers after the modules of their subclasses.
CHATTY = ("faust", "mode", "aiokafka", "asyncio", "streams.app", "streams.transport", "streams.recovery")
# What aiokafka says on every start on a fresh cluster, before the coordinator's topic exists.
EXPECTED = ("Group Coordinator Request failed: %s", "Marking the coordinator dead (node %s)for group %s.")
REPEAT_S = 10.0
# What they say of a broker that is away. Of that `streams.outages` tells, once for all clients; another error in one of
# these places is shown.
ECHOES = (
    "Unable connect to node with id %s: %s",
    "Unable to request metadata from node with id %s: %r",
    "Error sending %s to node %s [%s] -- marking coordinator dead",
    "Heartbeat send request failed: %s. Will retry.",
    "Failed fetch offsets from %s: %s",
    "Got error produce response: %s",
    "Cannot send %r to %s: %r",
    "Could not send %r: %r",
)
NO_CONNECTION = (ConnectionError, TimeoutError, *NO_ANSWER)
NO_METADATA = "Unable to update metadata from %s"
REASON_S = 1.0  # why there is none stands in a message of its own, so shortly before
LATE = "Timer %s is overlapping (interval=%r runtime=%r)"


class Once(logging.Filter):
    """Lets a library's message through once in ten seconds: a broker that is away fails many times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}
        self._echoed_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(CHATTY):
            return True
        if record.exc_info and isinstance(record.exc_info[1], (HeadraceError, asyncio.CancelledError)):
            return False  # a crash that the worker itself puts into one sentence
        if record.exc_info and isinstance(record.exc_info[1], KafkaError):
            record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]!r}", ()
            record.exc_info = None  # where in the library a broker's answer was raised tells nobody anything
        if echoes(record):
            self._echoed_at = time.monotonic()
            return False
        if record.msg == NO_METADATA and (OUTAGES or time.monotonic() - self._echoed_at < REASON_S):
            return False
        wording = (record.name, str(record.msg))
        now = time.monotonic()
        if wording[1] in EXPECTED or now - self._last.get(wording, -REPEAT_S) < REPEAT_S:
            return False
        self._last[wording] = now
        return True


def echoes(record: logging.LogRecord) -> bool:
    """Whether a library's message says no more than that a broker is, or was, away."""
    values: tuple[Any, ...] = record.args if isinstance(record.args, tuple) else ()
    if record.msg in ECHOES:
        return isinstance(values[-1], NO_CONNECTION)
    return record.msg == LATE and OUTAGES.during(float(values[-1]))


def configure_logging(level: str) -> None:
    """Log to standard error; the libraries below only from warnings on, unless `level` is `debug`."""
    console = terminal(stderr=True)
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
        form = "%(message)s"
    else:
        handler, form = logging.StreamHandler(), "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=form, handlers=[handler])
    if level != "debug":
        handler.addFilter(Once())
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
