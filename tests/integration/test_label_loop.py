"""The label loop through a real Kafka: flags that a fraud worker has made, and labels that come to them."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import pytest

from connectors.simulators.transactions import TransactionSettings, blocks
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.integration.label_truth import DAY_MS, Flag, Truth
from tests.integration.test_poison import came_from, place
from tests.processes import WorkerProcess, Workers
from tests.waiting import until

PARTITIONS, DAYS, SOON_S = 4, 36, 60
WORLD = TransactionSettings(seed=5, customers=60, terminals=40, terminal_compromise_rate=0.004, card_theft_rate=0.003)
FIRST_MS = int(WORLD.start.timestamp() * 1000)
LAST_MS = FIRST_MS + DAYS * DAY_MS  # when no more labels have come
NOBODY = "c9999999"  # a card that never pays
POISON = {
    "never scored": "UnknownCard",
    "from the future": "LabelFromFuture",
    "before its transaction": "LabelBeforeEvent",
    "a negative amount": "ValidationError",
    "another key": "KeyMismatch",
}
SAME = ("transaction_id", "card_id", "fraud")  # in a label and its outcome
TOLD = ("score", "flagged", "decision", "model")  # in a flag and its outcome
GOOD = [("kind", b"good")]
GUARANTEES = ("at_least_once", "exactly_once")
Event = dict[str, object]
Row = tuple[int, bytes, bytes, verify.Headers]


@dataclass(frozen=True)
class Scored:
    """Transactions of some weeks, their flags, and the fraud worker that has made these and goes on.

    Args:
        labels: good ones and poison, told apart by their header `kind`.
    """

    servers: str
    transactions: str
    flags: str
    labels: list[Row]
    worker: WorkerProcess

    def truth(self, labels: str) -> Truth:
        """What is to be said now of a topic of labels."""
        good = [label for label in verify.read(self.servers, labels) if label.header("kind") == b"good"]
        return Truth(good, verify.read(self.servers, self.flags))


@pytest.fixture(scope="module")
def scored(kafka: Kafka, make_topics: MakeTopics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scored]:
    servers = kafka.bootstrap_servers
    transactions, flags, labels = make_topics("paid", "paid-flags", "paid-labels", partitions=PARTITIONS)
    sent, truths = simulated()
    rows = labels_of(sent, truths)
    verify.send(servers, transactions, [row(event) for event in sent])
    verify.send(servers, labels, rows)
    workers = Workers(tmp_path_factory.mktemp("fraud"), servers)
    group, settings = f"{transactions}-group", {"input": transactions, "output": flags, "labels": labels}
    worker = workers.fraud(group, **{f"fraud__{name}": topic for name, topic in settings.items()}).running()
    until(lambda: not verify.behind(servers, group, transactions), SOON_S, "flags of everything")
    yield Scored(servers, transactions, flags, rows, worker)
    workers.end()


def simulated() -> tuple[list[Event], list[bool]]:
    """Transactions, and whether they are fraud; at the end one in 200 comes again, and some come two weeks late."""
    days = list(itertools.takewhile(lambda day: day.event_time_ms[-1] < LAST_MS, blocks(WORLD)))
    sent: list[Event] = [json.loads(value) for day in days for value in day.records()[1]]
    truths = [truth for day in days for truth in day.fraud.tolist()]
    again = list(range(0, len(sent), 200))
    late = [at for at in range(0, len(sent), 150) if 15 < day_of(sent[at]) < 30]
    more = [sent[at] for at in again] + [sent[at] | {"transaction_id": f"late{at}"} for at in late]
    return sent + more, truths + [truths[at] for at in (*again, *late)]


def day_of(event: Event) -> float:
    return (int(str(event["event_time"])) - FIRST_MS) / DAY_MS


def labels_of(sent: Sequence[Event], truths: Sequence[bool]) -> list[Row]:
    """Those known by the last day, in the order of their times; some come twice, contradict, or are none at all."""
    found: list[tuple[int, str, Event]] = []
    for number, (event, truth) in enumerate(zip(sent, truths, strict=True)):
        at = int(str(event["event_time"]))
        label = event | {"fraud": truth, "label_time": at + 7 * DAY_MS}
        before = label | {"fraud": not truth, "label_time": at + DAY_MS}
        if number % 10:
            found.append((at + 7 * DAY_MS, "good", label))
        if number % 6 == 0:
            found.append((at + DAY_MS, "good", before))
        if number % 7 == 0:
            found.append((at + 8 * DAY_MS, "good", label))
        if number % 50 == 0:  # of a transaction that nobody has sent
            found.append((at + DAY_MS, "good", before | {"transaction_id": f"unsent{number}"}))
        if number % 100 == 0:
            hours_ahead = int((time.time() + 7200) * 1000)
            wrong: list[Event] = [{"card_id": NOBODY}, {"label_time": hours_ahead}, {"label_time": at - 1},
                                  {"amount": -0.01}, {"card_id": NOBODY}]  # fmt: skip
            found += [(at + DAY_MS, kind, before | each) for kind, each in zip(POISON, wrong, strict=True)]
    known = [each for each in found if each[0] < LAST_MS]
    return [
        row(label, kind, "another" if kind == "another key" else None)
        for _, kind, label in sorted(known, key=lambda each: each[0])
    ]


def row(event: Event, kind: str = "good", key: str | None = None) -> Row:
    """The event as it is sent."""
    card = (key or str(event["card_id"])).encode()
    return partition_of(card), card, json.dumps(event).encode(), [("kind", kind.encode())]


def partition_of(key: bytes) -> int:
    return crc32(key) % PARTITIONS


@dataclass(frozen=True)
class Loop:
    """A topic of labels, and the workers of one group that read it."""

    scored: Scored
    workers: Workers
    labels: str
    outcomes: str

    @property
    def group(self) -> str:
        return f"{self.labels}-group"

    def start(self, **settings: object) -> WorkerProcess:
        topics = {"fraud__output": self.scored.flags, "labels__input": self.labels, "labels__output": self.outcomes}
        return self.workers.labels(self.group, **(topics | settings))

    def done(self) -> None:
        """Wait until all labels are."""
        until(lambda: not verify.behind(self.scored.servers, self.group, self.labels), SOON_S, "a commit of everything")

    def written(self) -> list[verify.Record]:
        return verify.read(self.scored.servers, self.outcomes)

    def ends(self) -> list[dict[int, int]]:
        """Of what it writes."""
        return [verify.ends(self.scored.servers, topic) for topic in (self.outcomes, f"{self.labels}.dead-letter")]

    def letters(self) -> list[verify.Record]:
        return verify.read(self.scored.servers, f"{self.labels}.dead-letter")


@pytest.fixture
def loop(scored: Scored, make_topics: MakeTopics, workers: Workers) -> Callable[[Sequence[Row]], Loop]:
    """Make a loop of its own topics, with these labels in them."""

    def make(labels: Sequence[Row]) -> Loop:
        source, outcomes = make_topics("labels", "outcomes", partitions=PARTITIONS)
        verify.send(scored.servers, source, labels)
        return Loop(scored, workers, source, outcomes)

    return make


def expect(wanted: Mapping[str, float], *workers: WorkerProcess) -> None:
    """Wait for these gauges; those of several workers are added, and each has its share."""

    def told() -> bool:
        pages = [worker.metrics(*wanted) for worker in workers]
        sums = dict(zip(wanted, map(sum, zip(*pages, strict=True)), strict=True))
        shares = all(0 < page[0] < next(iter(wanted.values())) for page in pages)
        return sums == pytest.approx(wanted, rel=1e-6, nan_ok=True) and (shares or len(workers) == 1)

    until(told, SOON_S, f"the gauges {wanted}")


def test_figures_outcomes_and_dead_letters_are_right_and_a_kill_changes_nothing(
    scored: Scored, loop: Callable[[Sequence[Row]], Loop]
) -> None:
    half = len(scored.labels) // 2
    loops = {guarantee: loop(scored.labels[:half]) for guarantee in GUARANTEES}

    def both(**settings: object) -> list[WorkerProcess]:
        started = [
            each.start(worker__processing_guarantee=guarantee, worker__slot="one", **settings)
            for guarantee, each in loops.items()
        ]
        return [worker.running() for worker in started]

    for each, worker in zip(loops.values(), both(batch__max_batch_size=64), strict=True):
        until(lambda each=each: len(each.written()) > half // 8, SOON_S, "some outcomes")  # type: ignore[misc]
        worker.kill()
        verify.send(scored.servers, each.labels, scored.labels[half:])
    for each, worker in zip(loops.values(), both(), strict=True):
        each.done()
        until(lambda worker=worker: all_accounted(worker, len(scored.labels) - half), SOON_S, "the sum of the records")  # type: ignore[misc]
        worker.kill()
    before = [each.ends() for each in loops.values()]
    truth = scored.truth(next(iter(loops.values())).labels)
    wanted = truth.gauges()
    assert_worth_it(wanted)
    third = both()  # no label is new to these two
    for worker in third:
        expect(wanted, worker)
    assert [each.ends() for each in loops.values()] == before
    for guarantee, each in loops.items():
        repeats = assert_joined(each, truth) + assert_dead_lettered(each)
        assert guarantee == "at_least_once" or not repeats
    assert third[0].ready() == (200, {
        "ready": True, "phase": "running", "reason": f"{PARTITIONS} partitions assigned", "pipeline": "labels",
        "model": "labels/1", "engine": "python",
    })  # fmt: skip


def all_accounted(worker: WorkerProcess, at_least: int) -> bool:
    """Whether so many labels at least are done with, each with its outcome or its dead letter."""
    names = ("headrace_records_in_total", "headrace_records_out_total", "headrace_records_dead_lettered_total")
    came, *went = worker.metrics(*names)
    return at_least <= came == sum(went)


def assert_worth_it(wanted: Mapping[str, float]) -> None:
    """There is something of every kind to be wrong about."""
    assert all(count > 10 for name, count in wanted.items() if "labels_" in name and "expired" not in name)
    assert all(0.1 < wanted[f"headrace_fraud_{name}"] < 1 for name in ("precision", "recall", "average_precision"))


def assert_joined(loop: Loop, truth: Truth) -> int:
    """Every good label has an outcome with what its flag said; returns how many outcomes are repetitions."""
    good = {place(each): each for each in verify.read(loop.scored.servers, loop.labels) if is_good(each)}
    outcomes = loop.written()
    for record in outcomes:
        outcome, label = json.loads(record.value or b""), json.loads(good[record.source(loop.labels)].value or b"")
        assert [outcome[name] for name in SAME] == [label[name] for name in SAME]
        assert outcome["label_age_s"] == (label["label_time"] - label["event_time"]) / 1000
        flag = truth.flags.get((label["card_id"], label["transaction_id"]))
        told = tuple(outcome[name] for name in TOLD)
        assert told in told_by(flag), (outcome, flag)
    return verify.assert_nothing_lost(good.values(), outcomes, loop.labels)


def told_by(flag: Flag | None) -> list[tuple[object, ...]]:
    """What an outcome may say of a flag; it may come before one that is late."""
    nothing = (None,) * len(TOLD)
    if flag is None:
        return [nothing]
    said = tuple(flag.told[name] for name in TOLD)
    return [said, nothing] if flag.late else [said]


def assert_dead_lettered(loop: Loop) -> int:
    """Poison, and nothing else, is dead-lettered as it came, by its name; returns how many letters are repetitions."""
    bad = {place(each): each for each in verify.read(loop.scored.servers, loop.labels) if not is_good(each)}
    letters = loop.letters()
    assert {came_from(letter) for letter in letters} == bad.keys()
    for letter in letters:
        came = bad[came_from(letter)]
        assert (letter.key, letter.value) == (came.key, came.value)
        assert letter.headers[: len(came.headers)] == came.headers
        told = {name: value.decode() for name, value in letter.headers[len(came.headers) :]}
        assert told["error.type"] == POISON[(came.header("kind") or b"").decode()]
        assert told["error.message"].startswith("expected ")
        where = tuple(told[f"error.{name}"] for name in ("stage", "topic", "pipeline", "model", "attempts"))
        assert where == ("decode", loop.labels, "labels", "labels/1", "1")
    return len(letters) - len(bad)


def is_good(label: verify.Record) -> bool:
    return label.header("kind") == b"good"


def test_labels_wait_for_their_flags_and_what_two_workers_count_adds_up(
    scored: Scored, loop: Callable[[Sequence[Row]], Loop]
) -> None:
    early = not_sent_yet(scored)
    made = loop([*scored.labels, *(row(event | {"fraud": True, "label_time": LAST_MS}) for event in early)])
    before = scored.truth(made.labels).gauges()
    first = made.start().running()
    made.done()
    expect(before, first)
    outcomes = [json.loads(outcome.value or b"") for outcome in made.written()]
    scores = [outcome["score"] for outcome in outcomes if outcome["transaction_id"].startswith("early")]
    assert scores == [None, None]
    verify.send(scored.servers, scored.transactions, [row(event) for event in early])
    until(lambda: matched(scored.truth(made.labels).gauges()) == matched(before) + 2, SOON_S, "their flags")
    after = scored.truth(made.labels).gauges()
    assert after["headrace_labels_waiting"] == before["headrace_labels_waiting"] - 2
    second = made.start().running()
    expect({name: after[name] for name in after if "labels_" in name or "transactions" in name}, first, second)
    assert second.stop() == 0
    expect(after, first)
    assert assert_dead_lettered(made) == 0


def matched(gauges: Mapping[str, float]) -> float:
    return gauges["headrace_labels_matched"]


def not_sent_yet(scored: Scored) -> list[Event]:
    """A transaction of a card that has paid, and the first of one whose partition is behind the others' by then."""
    newest = Truth([], verify.read(scored.servers, scored.flags)).newest
    behind = min(newest, key=lambda partition: newest[partition])
    new = next(card for number in itertools.count() if partition_of((card := f"new{number}").encode()) == behind)
    known = next(key for _, key, _, headers in scored.labels if headers == GOOD).decode()
    times = {new: newest[behind] + 1, known: max(newest.values()) + 1}
    assert times[new] < max(newest.values())
    return [
        {"transaction_id": f"early{at}", "card_id": card, "terminal_id": "m0000001", "amount": 10.0, "event_time": at}
        for card, at in times.items()
    ]


def test_the_fraud_worker_says_nothing_about_labels(scored: Scored) -> None:
    samples = [line for line in scored.worker.get("/metrics")[1].decode().splitlines() if not line.startswith("#")]
    assert any(line.startswith("headrace_records_out_total{") for line in samples)
    assert [line for line in samples if line.startswith(("headrace_label", "headrace_fraud_"))] == []
