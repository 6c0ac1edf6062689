"""Recovery: workers come, go and are killed under a steady load; how long a subscriber hears nothing of a partition."""

from __future__ import annotations

import bisect
import contextlib
import statistics
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import Consumer, KafkaException, TopicPartition
from rich import box
from rich.table import Table

from benchmarks.bars import Bar
from benchmarks.guarantees import GUARANTEES
from benchmarks.processes import ChildError
from benchmarks.schedule import NS_PER_S
from benchmarks.topics import Topics
from benchmarks.workers import Flow, Load, Worker, until
from streams import settings

PARTITIONS = 8
RATE = 2_000
CUSTOMERS = 5_000
SETTLE_LIMIT_S = 45.0
REST_S = 0.5  # of undisturbed flow before each fault, at least
SPREAD_S = 3.0  # and up to so much more: the time between two heartbeats of a worker, and a little
READ_AHEAD = 1_000

JOIN, TERM, RESTART, KILL = "join", "sigterm", "sigkill_restart", "sigkill"


@dataclass(frozen=True)
class Fault:
    """What is done to a group of workers, and how soon every partition should flow again."""

    name: str
    about: str
    limit_s: float


FAULTS = (
    Fault(JOIN, "a second worker joins", 1.0),
    Fault(TERM, "SIGTERM of one of two", 2.0),
    Fault(RESTART, "SIGKILL, restarted in its slot", 4.0),
    Fault(KILL, "SIGKILL of one of two", settings.Worker().session_timeout_s + 3.0),
)


def longest_silence_s(arrivals_ns: Iterable[int], fault_ns: int, settled_ns: int) -> float:
    """Return how long, at most, a subscriber heard nothing of a partition around a fault.

    A silence that begins soon after the fault, compared with how long it lasts, counts from the fault: what comes in
    that moment was on its way before.

    Args:
        arrivals_ns: ascending.
        settled_ns: the first arrival after this is the last one that counts.

    Raises:
        ValueError: nothing came after `settled_ns`.
    """
    longest_ns, last_ns = 0, fault_ns
    for at_ns in arrivals_ns:
        if at_ns <= fault_ns:
            continue
        silence_ns = at_ns - last_ns
        if silence_ns > last_ns - fault_ns:
            silence_ns = at_ns - fault_ns
        longest_ns, last_ns = max(longest_ns, silence_ns), at_ns
        if at_ns > settled_ns:
            return longest_ns / NS_PER_S
    raise ValueError("measuring a silence: expected an arrival after the group had settled, got none")


@dataclass
class Outcome:
    """Seconds, one a repetition, by guarantee and fault; and what failed."""

    seconds: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: {name: {fault.name: [] for fault in FAULTS} for name in GUARANTEES}
    )
    failures: list[str] = field(default_factory=list)

    def answer(self) -> dict[str, dict[str, dict[str, object]]]:
        """Return the machine-readable answer: guarantee -> fault -> median_s, worst_s, bar_s, runs_s."""
        return {
            guarantee: {
                fault.name: {
                    "median_s": round(statistics.median(runs), 3),
                    "worst_s": round(max(runs), 3),
                    "bar_s": fault.limit_s,
                    "runs_s": [round(run, 3) for run in runs],
                }
                for fault in FAULTS
                if (runs := faults[fault.name])
            }
            for guarantee, faults in self.seconds.items()
        }


def table(outcome: Outcome) -> Table:
    """Draw the results for a terminal of 80 columns."""
    drawn = Table(
        title="Seconds until every partition flows again, as a subscriber sees it",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="median / worst, and whether the worst has met the bar",
    )
    drawn.add_column("fault")
    for heading in (*GUARANTEES, "bar"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for fault in FAULTS:
        found = [outcome.seconds[guarantee][fault.name] for guarantee in GUARANTEES]
        drawn.add_row(fault.about, *(_cell(fault, runs) for runs in found), f"<= {fault.limit_s:g}")
    return drawn


def _cell(fault: Fault, runs: Sequence[float]) -> str:
    if not runs:
        return "-"
    worst = Bar(fault.about, max(runs), fault.limit_s)
    return f"{statistics.median(runs):.2f} / {worst.found:.2f} {worst.verdict}"


def run(repetitions: int, guarantees: Sequence[str], bootstrap: str, said: Callable[[str], None]) -> Outcome:
    """Do every fault so often under each guarantee, and return what a subscriber saw.

    Raises:
        KafkaException: the broker is not there. A worker's failure is no error: it is in the outcome.
    """
    outcome = Outcome()
    for guarantee in guarantees:
        for scene, slots in ((_come_and_go, False), (_restart_in_slots, True)):
            with Topics(bootstrap) as topics:
                source, sink = (topics.create(name, PARTITIONS) for name in ("in", "out"))
                flow = Flow(bootstrap, sink, source, sink, guarantee)
                try:
                    with _Stage(flow, slots, said) as stage:
                        for fault, seconds in scene(stage, repetitions):
                            outcome.seconds[guarantee][fault].append(seconds)
                            said(f"{guarantee}, {fault}: {seconds:.2f} s")
                except (ChildError, KafkaException, TimeoutError) as error:
                    outcome.failures.append(f"{guarantee}: {error}")
                    said(f"{guarantee}: failed")
    return outcome


def _come_and_go(stage: _Stage, repetitions: int) -> Iterator[tuple[str, float]]:
    """One worker; a second comes and is ended, another comes and is killed. In turn the older one goes."""
    stage.start()
    stage.settle()
    for number, rest_s in enumerate(_rests_s(repetitions)):
        for fault, end in ((TERM, Worker.terminate), (KILL, Worker.kill)):
            yield JOIN, stage.silence(stage.start, rest_s)
            yield fault, stage.silence(partial(stage.end, stage.workers[number % 2], end), rest_s)


def _restart_in_slots(stage: _Stage, repetitions: int) -> Iterator[tuple[str, float]]:
    """Two workers; each in turn is killed and started again at once, as a supervisor would."""
    stage.start()
    stage.start()
    stage.settle()
    for number, rest_s in enumerate(_rests_s(repetitions)):
        yield RESTART, stage.silence(partial(stage.restart, number % 2), rest_s)


def _rests_s(repetitions: int) -> list[float]:
    """How long each repetition rests before its faults.

    A group beats from its last rebalance on, and hears of the next at a beat: after the same rest every time all faults
    would fall between the same two beats.
    """
    return [REST_S + SPREAD_S * (number + 0.5) / repetitions for number in range(repetitions)]


class _Stage:
    """The workers of one group, a steady load into their input, and a subscriber of their output."""

    def __init__(self, flow: Flow, slots: bool, said: Callable[[str], None]) -> None:
        self.workers: list[Worker] = []
        self._flow, self._slots, self._said = flow, slots, said
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Stage:
        with contextlib.ExitStack() as stack:
            self._subscriber = Subscriber(self._flow.bootstrap, self._flow.sink)
            stack.callback(self._subscriber.stop)
            self._load = Load(self._flow, customers=CUSTOMERS, rate=RATE)
            stack.callback(self._load.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, slot: int | None = None) -> None:
        """Start another worker."""
        place = len(self.workers) if slot is None else slot
        worker = Worker(self._flow, str(place) if self._slots else None)
        self._stack.callback(worker.stop)
        self.workers.insert(place, worker)

    def end(self, worker: Worker, end: Callable[[Worker], None]) -> None:
        """End a worker for good."""
        end(worker)
        self.workers.remove(worker)

    def restart(self, slot: int) -> None:
        """Kill the worker of a slot and start it again."""
        self.end(self.workers[slot], Worker.kill)
        self.start(slot)

    def settle(self) -> int:
        """Wait until the partitions are spread over the workers; return when, once each has flowed since.

        Raises:
            ChildError, TimeoutError: they are not, or do not.
        """
        share = PARTITIONS // len(self.workers)
        until(lambda: all(worker.owns(share) for worker in self.workers), SETTLE_LIMIT_S, f"{share} partitions each")
        settled_ns = time.monotonic_ns()
        self._flow_since(settled_ns)
        return settled_ns

    def silence(self, fault: Callable[[], None], rest_s: float) -> float:
        """Do something to the group; return the longest silence of any partition, in seconds, until it has settled."""
        time.sleep(rest_s)
        self._flow_since(time.monotonic_ns())
        fault_ns = time.monotonic_ns()
        fault()
        settled_ns = self.settle()
        return max(longest_silence_s(heard, fault_ns, settled_ns) for heard in self._subscriber.since(fault_ns))

    def _flow_since(self, since_ns: int) -> None:
        def flows() -> bool:
            if not self._load.running:
                raise self._load.failure("ended by itself")
            return all(len(heard) for heard in self._subscriber.since(since_ns))

        until(flows, SETTLE_LIMIT_S, "an output on every partition")


class Subscriber:
    """Reads the committed records of a topic in a thread of its own, and notes when each arrived."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        settings = {"group.id": f"{topic}.subscriber", "isolation.level": "read_committed", "fetch.min.bytes": 1}
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "enable.auto.commit": False, **settings})
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        self._arrivals_ns = [array("q") for _ in range(PARTITIONS)]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read, name="subscriber")
        self._thread.start()

    def since(self, since_ns: int) -> list[array[int]]:
        """For each partition the arrivals after `since_ns`."""
        return [arrivals[bisect.bisect_right(arrivals, since_ns) :] for arrivals in self._arrivals_ns]

    def stop(self) -> None:
        """Stop reading."""
        self._end.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._end.is_set():
            first = self._consumer.poll(0.1)  # returns with the first record; consume() would wait for a full batch
            messages = [] if first is None else [first]
            while messages:
                now_ns = time.monotonic_ns()
                for message in messages:
                    if message.error() is None:  # else: the client says what it is about to try again
                        self._arrivals_ns[message.partition()].append(now_ns)
                messages = self._consumer.consume(READ_AHEAD, 0)
