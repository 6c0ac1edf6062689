"""The product as a user runs it: workers and a steady load, each in a process of its own, started by its command."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.processes import Child

HTTP_LIMIT_S = 5.0
POLL_S = 0.1  # to answer costs a worker milliseconds
FIRST_DAY = "2000-01-01"  # a pipeline takes nothing older

_STARTED = re.compile(r"metrics and health on (http://[\d.]+:\d+)")
_SAMPLE = re.compile(r"^(\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Flow:
    """From where to where, and how, the workers of one consumer group work."""

    bootstrap: str
    group: str
    source: str
    sink: str
    guarantee: str

    def environment(self) -> dict[str, str]:
        """Settings for a process of the product; none of the user's own."""
        own = {
            "kafka__bootstrap_servers": self.bootstrap,
            "worker__group": self.group,
            "worker__http_port": "0",
            "worker__processing_guarantee": self.guarantee,
            "fraud__input": self.source,
            "fraud__output": self.sink,
            "fraud__labels": f"{self.sink}.labels",
        }
        named = {f"HEADRACE_{name.upper()}": value for name, value in own.items()}
        users = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        return {**users, "HEADRACE_CONFIG": os.devnull, **named}


class Worker(Child):
    """`headrace worker PIPELINE`; its log is what it `said`."""

    def __init__(
        self, flow: Flow, slot: str | None = None, more: Mapping[str, str] | None = None, pipeline: str = "fraud"
    ) -> None:
        options = () if slot is None else ("--slot", slot)
        environment = flow.environment() | dict(more or {})
        super().__init__("worker", ("-m", "streams.cli", "worker", pipeline, *options), environment=environment)

    def get(self, path: str) -> bytes | None:
        """What it answers over HTTP, whatever the status; None before it listens."""
        found = _STARTED.search(self.said)
        if found is None:
            return None
        try:
            with urllib.request.urlopen(found[1] + path, timeout=HTTP_LIMIT_S) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return bytes(error.read())
        except OSError:
            return None  # it ends; whoever waits for it looks whether it runs

    @property
    def ready(self) -> bool:
        """Whether it processes now."""
        body = self.get("/health/ready")
        return body is not None and bool(json.loads(body)["ready"])

    def metrics(self) -> Mapping[str, float]:
        """Metric -> the sum over its labels; empty before it listens."""
        found: dict[str, float] = {}
        for name, value in _SAMPLE.findall((self.get("/metrics") or b"").decode()):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    def owns(self, partitions: int) -> bool:
        """Whether it processes so many partitions now.

        Raises:
            ChildError: it has ended.
        """
        if not self.running:
            raise self.failure("ended by itself")
        return self.ready and self.metrics().get("headrace_assigned_partitions") == partitions

    def kill(self) -> None:
        """SIGKILL, without waiting for its end."""
        self.signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, without waiting for its end."""
        self.signal(signal.SIGTERM)


class Load(Child):
    """`headrace produce transactions`: the simulator, at a steady rate or (0) as fast as the broker takes it.

    A card pays twice a simulated day on average, so at high rates days pass in a second: they begin long ago, since an
    event may not lie in the future.
    """

    def __init__(
        self, flow: Flow, *, customers: int, rate: float = 0, count: int = 0, first_day: str = FIRST_DAY
    ) -> None:
        options = {
            "topic": flow.source,
            "customers": str(customers),
            "rate": f"{rate:.0f}",
            "count": str(count),
            "start": first_day,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        super().__init__(
            "load", ("-m", "streams.cli", "produce", "transactions", *words), environment=flow.environment()
        )


def until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: `what` has not happened within the time.
    """
    limit_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > limit_s:
            raise TimeoutError(f"waiting for {what}: it has not happened within {within_s:g} s")
        time.sleep(POLL_S)
