"""The two processes around a latency contender: `python -m benchmarks.probe send|read BOOTSTRAP`.

Each reads one JSON request a line from stdin, answers with one JSON line (its result, or `error`), and ends when stdin
does. They share a clock with each other and the harness: CLOCK_MONOTONIC, which is one for all processes of a machine
and is never set.

An event's scheduled send time, in nanoseconds of that clock, is its transaction_id: every contender copies that to its
output.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from array import array
from dataclasses import asdict, dataclass

import orjson
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.schedule import NS_PER_S, Latencies, Lateness, Schedule
from benchmarks.work import transaction

TICK_S = 0.000_25  # the sender sleeps no shorter: at 20 000/s a wake-up an event would eat the core it is measuring
READ_AHEAD = 1_000
AMOUNT = 12.5


@dataclass(frozen=True)
class SendRequest:
    """Send `count` events to `topic` on schedule."""

    topic: str
    start_ns: int
    rate: int
    count: int


@dataclass(frozen=True)
class ReadRequest:
    """Read the outputs of those events.

    Attributes:
        topic: output topic.
        offsets: where to start, a partition each: the ends before the first event was sent.
        start_ns: outputs of events scheduled earlier belong to something else.
        measure_ns: outputs of events scheduled earlier are warm-up: counted, not measured.
        count: events expected, warm-up included.
        deadline_ns: give up then; what has not come is lost.
    """

    topic: str
    offsets: list[int]
    start_ns: int
    measure_ns: int
    count: int
    deadline_ns: int


def make_producer(bootstrap: str) -> Producer:
    """Return the sender's producer: half a millisecond of linger, few requests in flight.

    With no linger and librdkafka's unbounded requests in flight every event would be a request of its own, and at
    20 000/s the broker would be what is measured.
    """
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 0.5,
            "max.in.flight.requests.per.connection": 5,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
        }
    )


def send(producer: Producer, request: SendRequest) -> Lateness:
    """Send on schedule, catching up at once after a stall, and say how late the sends were."""
    schedule = Schedule(request.start_ns, request.rate, request.count)
    late_ns, sizes, sent = array("q"), array("q"), 0
    while True:
        now_ns = time.monotonic_ns()
        due = schedule.due(now_ns)
        if due > sent:
            late_ns.append(now_ns - schedule.at_ns(sent))
            sizes.append(due - sent)
            for index in range(sent, due):
                key, value = transaction(index, AMOUNT, b"%d" % schedule.at_ns(index))
                producer.produce(request.topic, value, key=key)
            producer.poll(0)
            sent = due
        if sent == request.count:
            break
        time.sleep(max((schedule.at_ns(sent) - time.monotonic_ns()) / NS_PER_S, TICK_S))
    last_ns = time.monotonic_ns()
    producer.flush()
    seconds = (last_ns - request.start_ns) / NS_PER_S + 1 / request.rate  # each event stands for one interval
    return Lateness.of(late_ns, sizes, seconds)


def make_consumer(bootstrap: str) -> Consumer:
    """Return the reader's consumer: answers to a fetch as soon as there is one byte."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "headrace-bench-reader",
            "enable.auto.commit": False,
            "fetch.min.bytes": 1,
        }
    )


def read(consumer: Consumer, request: ReadRequest) -> Latencies:
    """Read outputs until all have come or the deadline, and return their latencies.

    Raises:
        ValueError: no output of the measured span came.
    """
    consumer.assign([TopicPartition(request.topic, *placed) for placed in enumerate(request.offsets)])
    latency_ns, seen, last_ns = array("q"), 0, request.measure_ns
    now_ns = time.monotonic_ns()
    while seen < request.count and now_ns < request.deadline_ns:
        first = consumer.poll(0.1)  # returns with the first record; consume() would wait for a full batch
        messages = [] if first is None else [first]
        while messages:
            now_ns = time.monotonic_ns()
            for scheduled_ns in map(_scheduled_ns, messages):
                seen += scheduled_ns >= request.start_ns
                if scheduled_ns >= request.measure_ns:
                    latency_ns.append(now_ns - scheduled_ns)
                    last_ns = now_ns
            messages = consumer.consume(READ_AHEAD, 0)
        now_ns = time.monotonic_ns()
    consumer.unassign()
    return Latencies.of(latency_ns, (last_ns - request.measure_ns) / NS_PER_S, request.count - seen)


def _scheduled_ns(message: Message) -> int:
    if message.error() is not None:
        return 0
    return int(orjson.loads(message.value())["transaction_id"])


def main() -> None:
    role, bootstrap = sys.argv[1:]
    producer = make_producer(bootstrap) if role == "send" else None
    consumer = make_consumer(bootstrap) if role == "read" else None
    gc.disable()  # a collection in here would look like a stall of the contender; a run makes no cycles
    for line in sys.stdin:
        fields = json.loads(line)
        answer: dict[str, object] = {}
        try:
            if producer is not None:
                answer = asdict(send(producer, SendRequest(**fields)))
            elif consumer is not None:
                answer = asdict(read(consumer, ReadRequest(**fields)))
        except ValueError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
