"""What a fault happens to: a broker, and on it the counting pipeline once for each guarantee, under a live producer."""

from __future__ import annotations

import itertools
import json
import pickle
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from connectors.broker import Broker
from connectors.kafka_port import answers_metadata
from tests import verify
from tests.chaos import verdict
from tests.chaos.fleet import Fleet
from tests.chaos.flow import Flow, events
from tests.chaos.verdict import Disturbance, Evidence, Lives
from tests.processes import WorkerProcess, Workers
from tests.waiting import POLL_S

COMMIT_INTERVAL_S = 0.3
SLACK_S = 1.7  # a commit's own time, and a busy machine
# Delayed writes of a partition queue behind each other where it is written in transactions.
QUEUED_SHARE = 0.2
TOPIC_TIMEOUT_S = 30
CATCH_UP_S = 60.0

_serial = itertools.count(1)


@dataclass(frozen=True)
class Plan:
    """How the pipelines run.

    Args:
        static: whether a slot keeps its membership, and so its partitions, over a restart.
        changelog: the topic's configuration, where the worker's own will not do.
        restarts: how many workers of a line may end by themselves.
    """

    partitions: int = 4
    workers: int = 1
    static: bool = True
    per_second: float = 800.0
    keys: int = 60
    slow_share: float = 0.0
    script: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    changelog: Mapping[str, str] | None = None
    restarts: int = 10

    @property
    def delays_s(self) -> float:
        """How long a write may wait before it is produced."""
        return float(str(self.script.get("delays_s", 0.0)))


@dataclass(frozen=True)
class Outcome:
    """What came of one line: a row of the table."""

    scenario: str
    guarantee: str
    seed: int
    doses: int
    inputs: int
    dead_letters: int
    repeats: int
    ends: int
    seconds: float
    violations: Sequence[str] = ()
    evidence: str = ""


class Line:
    """One pipeline under one guarantee: its topics, its producer, its workers."""

    def __init__(self, broker: Broker, workers: Workers, folder: Path, guarantee: str, plan: Plan, seed: int) -> None:
        self.guarantee, self.plan, self.servers = guarantee, plan, broker.bootstrap_servers
        name = f"{guarantee.replace('_', '-')}-{next(_serial)}"
        self.source, self.output, self.group = name, f"{name}-out", f"{name}-group"
        self.changelog = f"{self.group}.changelog"
        self.breaks_model = folder / f"{name}.breaks-model"  # once it is there
        self.disturbances: list[Disturbance] = []
        self.dropped: set[str] = set()  # transactional ids that the broker says to have dropped markers of
        self._broker, self._workers = broker, workers
        self._seeds = itertools.count(seed)
        self._admin = AdminClient({"bootstrap.servers": self.servers})
        self._create_topics()
        self.fleet = Fleet(self._start, self._unplanned, plan.restarts)
        rows = events(seed, plan.partitions, plan.keys, plan.slow_share)
        self.flow = Flow(self.servers, self.source, rows, plan.per_second)

    def _create_topics(self) -> None:
        topics = [NewTopic(name, self.plan.partitions, 1) for name in (self.source, self.output)]
        if self.plan.changelog is not None:
            topics.append(NewTopic(self.changelog, self.plan.partitions, 1, config=dict(self.plan.changelog)))
        for future in self._admin.create_topics(topics).values():
            future.result(TOPIC_TIMEOUT_S)

    def delete_topics(self) -> None:
        """Make room on the broker."""
        names = [self.source, self.output, self.changelog, f"{self.source}.dead-letter"]
        for future in self._admin.delete_topics(names).values():
            future.exception(TOPIC_TIMEOUT_S)

    def _start(self, slot: str) -> WorkerProcess:
        script = {
            "input": self.source,
            "output": self.output,
            "seed": next(self._seeds),
            "breaks": str(self.breaks_model),
            **self.plan.script,
        }
        if self.guarantee == verdict.EXACTLY_ONCE:
            script["delays_s"] = self.plan.delays_s * QUEUED_SHARE
        settings: dict[str, object] = {
            "worker__processing_guarantee": self.guarantee,
            "worker__commit_interval_s": COMMIT_INTERVAL_S,
            "batch__max_batch_size": 64,
        }
        if self.plan.static:
            settings["worker__slot"] = slot
        return self._workers.counting(self.group, script, self.servers, **(settings | dict(self.plan.settings)))

    def committed(self) -> dict[int, int]:
        """Partition -> committed offset."""
        return verify.committed(self.servers, self.group, self.source)

    def caught_up(self) -> bool:
        """Whether all inputs are committed."""
        return not verify.behind(self.servers, self.group, self.source)

    def _unplanned(self) -> None:
        """A worker is gone that had not been asked to go, and its successor is not there yet."""
        now_ms = time.time() * 1000
        if answers_metadata(self._broker.settings.port):  # else that is a disturbance of its own
            self.disturbances.append(Disturbance(now_ms, now_ms, self.committed()))

    def evidence(self) -> Evidence:
        """All that stands on the broker."""
        inputs, outputs, letters, changelog = (
            verify.read(self.servers, topic)
            for topic in (self.source, self.output, f"{self.source}.dead-letter", self.changelog)
        )
        return Evidence(self.source, inputs, outputs, letters, changelog)


class Stage:
    """A broker, the lines on it, and the dice: what a fault gets to play with.

    Args:
        folder: where evidence of a violation is left, beside the workers' logs.
    """

    def __init__(
        self, broker: Broker, workers: Workers, folder: Path, guarantees: Sequence[str], plan: Plan, seed: int
    ) -> None:
        self.broker, self.plan, self.seed = broker, plan, seed
        self.dice = random.Random(seed)
        self._folder = folder
        self._began = time.monotonic()
        self._hangs: dict[str, str] = {}
        self.lines = [Line(broker, workers, folder, each, plan, seed) for each in guarantees]

    def begin(self) -> None:
        """Start all workers, and wait until they are ready."""
        for line in self.lines:
            for number in range(self.plan.workers):
                line.fleet.add(str(number))
        self.until(self.ready, 40, "readiness of all workers")

    def ready(self) -> bool:
        """Whether all workers are ready that are not suspended."""
        return all(line.fleet.ready() for line in self.lines)

    def tend(self) -> None:
        """Start again what has ended by itself."""
        for line in self.lines:
            line.fleet.tend()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.tend()
            time.sleep(min(left, POLL_S))

    def until(self, condition: Callable[[], object], within_s: float, what: str) -> None:
        """Wait for a condition while workers are looked after.

        Raises:
            AssertionError: not within the time.
        """
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s"
            self.wait(POLL_S)

    @contextmanager
    def disturbed(self) -> Iterator[None]:
        """What happens inside, until all workers are ready again, may make at_least_once repeat what was in flight."""
        committed, from_ms = [line.committed() for line in self.lines], time.time() * 1000
        yield
        self.until(self.ready, 60, "readiness of all workers after a fault")
        self._listen_to_the_broker()
        for line, before in zip(self.lines, committed, strict=True):
            line.disturbances.append(Disturbance(from_ms, time.time() * 1000, before))

    def _listen_to_the_broker(self) -> None:
        """Kafka may complete a transaction without its markers (KAFKA-20734), and says so in a log soon gone."""
        log = (self.broker.settings.home / "logs" / "server.log").read_text(errors="replace")
        for line in self.lines:
            found = re.findall(rf"transaction markers for ({line.group}\S+), these partitions are likely deleted", log)
            line.dropped.update(found)

    def finish(self, scenario: str, doses: int, judged_as: str | None = None, in_order: bool = False) -> list[Outcome]:
        """Let everything come to rest, and judge each line.

        Args:
            judged_as: another guarantee than its own, which it must then be seen to miss.
            in_order: whether the order is judged although delays let writes overtake each other.
        """
        for line in self.lines:
            line.flow.stop()

        def done(line: Line) -> bool:
            return line.fleet.ready() and line.caught_up()

        try:
            self.until(lambda: all(map(done, self.lines)), CATCH_UP_S, "readiness, and a commit of everything")
        except AssertionError as error:
            self._hangs = {line.source: f"a hang: {error}" for line in self.lines if not done(line)}
        return [self._judge(line, scenario, doses, judged_as or line.guarantee, in_order) for line in self.lines]

    def _judge(self, line: Line, scenario: str, doses: int, guarantee: str, in_order: bool) -> Outcome:
        hang = self._hangs.get(line.source)
        lives = Lives() if hang else line.fleet.stop()
        evidence = line.evidence()
        violations = [hang] if hang else []
        violations += verdict.judge(
            evidence,
            verdict.uninterrupted(evidence.inputs),
            guarantee,
            disturbances=line.disturbances,
            reach_s=COMMIT_INTERVAL_S + SLACK_S + line.plan.delays_s,
            overtaking=bool(line.plan.delays_s) and not in_order,
            lives=lives,
        )
        if violations and line.dropped:
            violations.append(f"the broker's own log: it has dropped the markers of {sorted(line.dropped)}")
        if violations:
            self._keep(line, evidence, violations)
        line.delete_topics()
        return Outcome(
            scenario,
            line.guarantee,
            self.seed,
            doses,
            len(evidence.inputs),
            len(evidence.letters),
            verdict.repetitions(evidence),
            len(line.fleet.ends),
            round(time.monotonic() - self._began, 1),
            violations,
            str(self._folder) if violations else "",
        )

    def _keep(self, line: Line, evidence: Evidence, violations: list[str]) -> None:
        """For whoever looks for the cause."""
        with (self._folder / f"{line.source}.pickle").open("wb") as file:
            pickle.dump(evidence, file)
        told = {
            "seed": self.seed,
            "guarantee": line.guarantee,
            "violations": violations,
            "disturbances": [vars(each) for each in line.disturbances],
            "ends": line.fleet.ends,
            "plan": vars(line.plan),
        }
        (self._folder / f"{line.source}.json").write_text(json.dumps(told, indent=1, default=str))
        home = self.broker.settings.home
        for pattern in (f"data/{line.source}*/*.log", "data/__transaction_state-*/*.log", "logs/*.log"):
            for log in home.glob(pattern):
                copy = self._folder / "broker" / log.relative_to(home)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, copy)

    def close(self) -> None:
        """End everything, whatever state it is in."""
        for line in self.lines:
            line.fleet.abandon()
            line.flow.abandon()
