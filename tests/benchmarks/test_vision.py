"""The vision benchmark: its frames, its sender and reader, and what it makes of what it found."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.conftest import Kafka, MakeTopics

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks.frames import CAMERAS, HEIGHT, WIDTH, Frames, camera_id, camera_of, simulated
from benchmarks.probe import make_consumer, make_producer
from benchmarks.schedule import NS_PER_S
from benchmarks.speeds import Run, Speed
from benchmarks.vision_found import BARE, HEADRACE, UNTRACKED, Found, Outcome, table
from benchmarks.vision_live import Counts, Live
from benchmarks.vision_probe import Ages, Request, read, send

NAMED = Frames([[b"%d/%d" % (camera, frame) for frame in range(3)] for camera in range(CAMERAS)])
AGES = Ages(10.0, 20.0, 30.0, 80, 0, [10] * CAMERAS)


def request(topic: str, sink: str, count: int, *, rate: int = 400, first: int = 0, warm_up: int = 0) -> Request:
    """Frames that begin now, on topics of one partition."""
    now_ns, now_ms = time.monotonic_ns(), int(time.time() * 1000)
    return Request(topic, sink, [0], first, now_ns, now_ms, rate, count, warm_up, now_ns + 20 * NS_PER_S)


def found(live: Live | None = None) -> Found:
    """Two rounds, the second on a machine that is half as fast."""
    rounds = {
        HEADRACE: [Speed(95.0, 5000.0), Speed(50.0, 5000.0)],
        UNTRACKED: [Speed(100.0, 4000.0), Speed(50.0, 4000.0)],
        BARE: [Speed(100.0, 6000.0), Speed(40.0, 6000.0)],
    }
    return Found(rounds, Run(100.0, 6000.0, 9.0, 12.0), live, {"onnx-cpu": {"1": {"fps": 50.0, "fps_per_core": 40.0}}})


def test_frames_are_the_same_every_time_and_no_two_alike() -> None:
    frames = simulated(2)
    jpegs = [frames.jpeg(index) for index in range(len(frames))]
    assert len(set(jpegs)) == len(jpegs) == 2 * CAMERAS
    pictures = [cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_COLOR) for each in jpegs]
    assert {picture.shape for picture in pictures} == {(HEIGHT, WIDTH, 3)}
    assert simulated(1).jpegs == [own[:1] for own in frames.jpegs]


def test_frames_survive_the_file(tmp_path: Path) -> None:
    NAMED.save(tmp_path / "frames")
    assert Frames.load(tmp_path / "frames").jpegs == NAMED.jpegs


def test_all_cameras_send_in_turn_and_begin_anew_when_all_were_there() -> None:
    records = list(NAMED.records(4 * CAMERAS, 1_000))
    assert [camera_of(key) for key, *_ in records] == list(range(CAMERAS)) * 4
    own = [(value, dict(headers)) for key, value, headers in records if key == camera_id(2)]
    assert [value for value, _ in own] == [b"2/0", b"2/1", b"2/2", b"2/0"]
    assert [headers["frame"] for _, headers in own] == [b"0", b"1", b"2", b"3"]
    assert [headers["event-time"] for _, headers in own] == [b"1000", b"1100", b"1200", b"1300"]


def test_frames_are_sent_when_they_are_due(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("frames")
    asked = request(topic, "", 3 * CAMERAS, first=CAMERAS)
    lateness = send(make_producer(kafka.bootstrap_servers), NAMED, asked)
    assert lateness.sent == asked.count
    assert time.monotonic_ns() >= asked.schedule.at_ns(asked.count - 1)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(asked.count, 20)
    consumer.close()
    expected = [NAMED.record(CAMERAS + index, 0)[:2] for index in range(asked.count)]
    assert [(message.key(), message.value()) for message in messages] == expected
    due_ms = [int(dict(message.headers())["event-time"]) - asked.start_ms for message in messages]
    assert due_ms == [index * 1000 // asked.rate for index in range(asked.count)]


def test_a_detection_is_as_old_as_its_frames_schedule_says(kafka: Kafka, make_topics: MakeTopics) -> None:
    (sink,) = make_topics("detections")
    count, late_s = 4 * CAMERAS, 2
    asked = request("", sink, count, rate=1_000_000, first=CAMERAS, warm_up=CAMERAS)
    asked = Request(**asdict(asked) | {"start_ns": asked.start_ns - late_s * NS_PER_S})
    producer = make_producer(kafka.bootstrap_servers)
    left_out = 2 * CAMERAS + 1
    for index in range(-CAMERAS, count):  # the first of them belong to an earlier request
        if index != left_out:
            camera, frame = index % CAMERAS, (asked.first + index) // CAMERAS
            producer.produce(sink, json.dumps({"frame": frame}).encode(), key=camera_id(camera), partition=0)
    producer.flush()
    seen = read(make_consumer(kafka.bootstrap_servers), asked)
    assert (seen.published, seen.missing) == (3 * CAMERAS - 1, 1)
    assert seen.by_camera == [3, 2, *[3] * (CAMERAS - 2)]
    assert late_s * 1000 <= seen.p50_ms <= seen.p95_ms <= seen.max_ms < (late_s + 20) * 1000


def test_nothing_published_is_said(kafka: Kafka, make_topics: MakeTopics) -> None:
    (sink,) = make_topics("nothing")
    asked = Request(**asdict(request("", sink, CAMERAS)) | {"deadline_ns": time.monotonic_ns() + NS_PER_S // 5})
    with pytest.raises(ValueError, match="got none"):
        read(make_consumer(kafka.bootstrap_servers), asked)


def test_ratios_compare_within_a_round() -> None:
    assert found().ratio(BARE) == pytest.approx((0.95 + 1.25) / 2)
    assert found().ratio(UNTRACKED) == pytest.approx((0.95 + 1.0) / 2)
    assert math.isnan(Found().ratio(BARE))


def test_the_answer_is_json_whatever_was_measured() -> None:
    live = Live(AGES, AGES, Counts(100, 100, 60, 40, 0))
    answer = json.loads(json.dumps(Outcome({"vision": found(live), "fastestdet": Found()}).answer(), allow_nan=False))
    assert answer["headrace"] == {"fps": 72.5, "cpu_ms": 5.0, "p95_ms": 20.0}
    assert answer["bare"] == {"fps": 70.0, "cpu_ms": 6.0, "frame_ms": 9.0, "p95_ms": 12.0}
    assert "plain_loop" not in answer
    beside = found(Live(AGES, AGES, Counts(1, 1, 1, 0, 0), AGES)).answer()
    assert beside["plain_loop"]["p95_ms"] == 20.0
    assert answer["detectors"]["fastestdet"]["headrace"] == {"fps": None, "cpu_ms": None}
    assert Outcome().answer() == {"detectors": {}, "skipped": []}


def test_bars_hold_latency_against_the_bare_frame_and_every_frame_against_the_count() -> None:
    starved = Ages(400.0, 501.0, 600.0, 70, 10, [0, *[10] * (CAMERAS - 1)])
    live = Live(Ages(10.0, 29.5, 40.0, 80, 0, [10] * CAMERAS), starved, Counts(100, 100, 60, 38, 1), AGES)
    met = [bar.met for bar in found(live).bars("vision")]
    assert met == [True, True, False, False, False, False]
    behind = Live(Ages(**asdict(AGES) | {"behind": True}), AGES, Counts(100, 100, 60, 39, 1), AGES)
    assert [bar.met for bar in found(behind).bars("vision")][2:] == [None, True, True, True]


def test_the_table_has_a_column_for_each_detector() -> None:
    live = Live(AGES, AGES, Counts(1, 1, 1, 0, 0))
    drawn = table(Outcome({"vision": found(live), "fastestdet": Found()}))
    assert [column.header for column in drawn.columns] == ["", "vision", "fastestdet"]
    assert drawn.row_count == 8
    assert table(Outcome({"vision": found(Live(AGES, AGES, Counts(1, 1, 1, 0, 0), AGES))})).row_count == 9
