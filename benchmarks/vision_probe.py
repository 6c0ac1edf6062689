"""The two processes around a vision worker: `python -m benchmarks.vision_probe send|read BOOTSTRAP FRAMES`.

As `benchmarks.probe`, with frames in place of transactions: each reads one JSON request a line from stdin, answers with
one JSON line (its result, or `error`), and ends when stdin does. A detection names its camera and its frame, and from
these follows when that frame was due: the sender's schedule is a function of the request.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.frames import CAMERAS, Frames, camera_of
from benchmarks.probe import READ_AHEAD, TICK_S, make_consumer, make_producer
from benchmarks.schedule import NS_PER_S, Lateness, Schedule


@dataclass(frozen=True)
class Request:
    """Frames of all cameras on a schedule, and where what became of them is read.

    Attributes:
        topic: of the frames.
        sink: of the detections.
        offsets: of the sink, a partition each: the ends before the first frame was sent.
        first: number of the first frame; those before it were sent by an earlier request.
        start_ns: when it is due, on the monotonic clock.
        start_ms: the same moment in milliseconds since the epoch.
        rate: frames a second of all cameras together.
        count: how many, warm-up included.
        warm_up: how many of these are not measured.
        deadline_ns: the reader gives up then.
    """

    topic: str
    sink: str
    offsets: list[int]
    first: int
    start_ns: int
    start_ms: int
    rate: int
    count: int
    warm_up: int
    deadline_ns: int

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.start_ns, self.rate, self.count)


@dataclass(frozen=True)
class Ages:
    """What a subscriber saw of the measured frames: milliseconds from the scheduled send until a detection was read.

    Attributes:
        published: how many.
        missing: measured frames without a detection.
        by_camera: how many of each camera's frames were published.
        sent_late_p99_ms, behind: the sender's own lateness, and whether that spoils the rest.
    """

    p50_ms: float
    p95_ms: float
    max_ms: float
    published: int
    missing: int
    by_camera: list[int]
    sent_late_p99_ms: float = 0.0
    behind: bool = False


def send(producer: Producer, frames: Frames, request: Request) -> Lateness:
    """Send on schedule, catching up at once after a stall, and say how late the sends were."""
    schedule = request.schedule
    late_ns, sizes, sent = array("q"), array("q"), 0
    while sent < request.count:
        now_ns = time.monotonic_ns()
        due = schedule.due(now_ns)
        if due > sent:
            late_ns.append(now_ns - schedule.at_ns(sent))
            sizes.append(due - sent)
            for index in range(sent, due):
                event_time_ms = request.start_ms + (schedule.at_ns(index) - request.start_ns) // 1_000_000
                key, value, headers = frames.record(request.first + index, event_time_ms)
                producer.produce(request.topic, value, key, headers=headers)
            producer.poll(0)
            sent = due
        else:
            time.sleep(max((schedule.at_ns(sent) - now_ns) / NS_PER_S, TICK_S))
    last_ns = time.monotonic_ns()
    producer.flush()
    return Lateness.of(late_ns, sizes, (last_ns - request.start_ns) / NS_PER_S + 1 / request.rate)


def read(consumer: Consumer, request: Request) -> Ages:
    """Read detections until each camera's last frame has come or the deadline, and return their ages.

    Raises:
        ValueError: none of a measured frame came.
    """
    consumer.assign([TopicPartition(request.sink, *placed) for placed in enumerate(request.offsets)])
    schedule, ages_ns, published = request.schedule, array("q"), [0] * CAMERAS
    last = set(range(max(0, request.count - CAMERAS), request.count))
    for now_ns, index in _indices(consumer, request):
        if index >= request.warm_up:
            ages_ns.append(now_ns - schedule.at_ns(index))
            published[(request.first + index) % CAMERAS] += 1
        last.discard(index)
        if not last:
            break
    consumer.unassign()
    if not ages_ns:
        raise ValueError("measuring the age of detections: expected some after the warm-up, got none")
    ages_ms = np.array(ages_ns) / 1e6
    p50_ms, p95_ms = np.percentile(ages_ms, [50, 95])
    missing = request.count - request.warm_up - len(ages_ms)
    return Ages(float(p50_ms), float(p95_ms), float(ages_ms.max()), len(ages_ms), missing, published)


def _indices(consumer: Consumer, request: Request) -> Iterator[tuple[int, int]]:
    """When a detection was read, and which frame of the request it is of."""
    while time.monotonic_ns() < request.deadline_ns:
        first = consumer.poll(0.1)  # returns with the first record; consume() would wait for a full batch
        messages = [] if first is None else [first]
        while messages:
            now_ns = time.monotonic_ns()
            for index in (_number(message) - request.first for message in messages):
                if index >= 0:
                    yield now_ns, index
            messages = consumer.consume(READ_AHEAD, 0)


def _number(message: Message) -> int:
    """Which frame a detection is of, counted over all cameras."""
    if message.error() is not None:
        return -1
    return int(orjson.loads(message.value())["frame"]) * CAMERAS + camera_of(message.key())


def main() -> None:
    role, bootstrap, path = sys.argv[1:]
    frames = Frames.load(Path(path)) if role == "send" else Frames([])
    producer = make_producer(bootstrap) if role == "send" else None
    consumer = make_consumer(bootstrap) if role == "read" else None
    gc.disable()  # a collection in here would look like a stall of the worker; a run makes no cycles
    for line in sys.stdin:
        request = Request(**json.loads(line))
        answer: dict[str, object] = {}
        try:
            if producer is not None:
                answer = asdict(send(producer, frames, request))
            elif consumer is not None:
                answer = asdict(read(consumer, request))
        except ValueError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
