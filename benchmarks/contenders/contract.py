"""What every contender shares: its options, and the one line that it reports."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

POLL_RECORDS = 512  # records a contender asks its client for at a time, where the client lets it say so
COMMIT_INTERVAL_S = 1.0  # raw clients flush, then commit, this often: at least once, like the frameworks
PRODUCER_LINGER_MS = 5


@dataclass(frozen=True)
class Options:
    """What the harness tells a contender."""

    bootstrap: str
    input: str
    output: str
    model: Path
    count: int

    @property
    def group(self) -> str:
        """Consumer group of this run: the output topic is made anew for each run, so its name is fresh too."""
        return self.output


def parse_options(about: str | None, arguments: Sequence[str] | None = None) -> Options:
    """Read a contender's command line; `count` is 0 where none is given (an echo)."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--bootstrap", required=True, help="broker, host:port")
    parser.add_argument("--input", required=True, help="topic to read, from its first record")
    parser.add_argument("--output", required=True, help="topic to write; also the consumer group")
    parser.add_argument("--model", required=True, type=Path, help="ONNX file")
    parser.add_argument("--count", type=int, default=0, help="events to process, then stop")
    return Options(**vars(parser.parse_args(arguments)))


@dataclass(frozen=True)
class Measurement:
    """One run of one contender.

    Attributes:
        events: events whose output the broker acknowledged.
        seconds: from the first record received to the last acknowledgement.
        cpu_us: CPU time of the contender's process in that span, all its threads, in microseconds an event.
    """

    events: int
    seconds: float
    cpu_us: float

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    def line(self) -> str:
        """The contender's report: one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Measurement:
        """Read a report.

        Raises:
            ValueError: the line is not one.
        """
        try:
            fields = json.loads(line)
            measurement = cls(int(fields["events"]), float(fields["seconds"]), float(fields["cpu_us"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"reading a contender's report: expected JSON with events, seconds, cpu_us, got {line!r}"
            ) from error
        if measurement.events <= 0 or not 0 < measurement.seconds < math.inf:
            raise ValueError(f"reading a contender's report: expected events and seconds above zero, got {line!r}")
        return measurement


class Meter:
    """Wall and CPU time of one run, from the first record to the last acknowledgement."""

    def __init__(self) -> None:
        self._wall_s: float | None = None
        self._cpu_s = 0.0

    def begin(self) -> None:
        """Say that a record was received; only the first call counts, so it may be called on every one."""
        if self._wall_s is None:
            self._cpu_s = time.process_time()
            self._wall_s = time.perf_counter()

    def end(self, events: int) -> Measurement:
        """Say that all outputs are acknowledged.

        Raises:
            RuntimeError: nothing was received.
        """
        if self._wall_s is None:
            raise RuntimeError("measuring a run: expected at least one record, got none")
        seconds = time.perf_counter() - self._wall_s
        return Measurement(events, seconds, 1e6 * (time.process_time() - self._cpu_s) / events)


def report(measurement: Measurement) -> None:
    """Write the line that the harness waits for."""
    sys.stdout.write(measurement.line() + "\n")
    sys.stdout.flush()
