"""Video frames through real Kafka: every frame answered in order, tracks that survive a kill, and the present shown."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import islice
from typing import Any

import pytest

from connectors.jpeg import encode_jpeg
from connectors.simulators.camera import Frame, Site
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import WorkerProcess, Workers
from tests.waiting import until

PARTITIONS, CAMERAS, FRAMES, FPS = 2, 3, 40, 10.0
SOON_S = 60.0
SITE = Site(seed=4242, cameras=CAMERAS, fps=FPS)

Records = list[tuple[int, bytes | None, bytes | None, verify.Headers]]


@pytest.fixture(scope="module")
def filmed() -> dict[str, list[Frame]]:
    """What each camera sees."""
    return {each.camera_id: list(islice(each, FRAMES)) for each in map(SITE.camera, range(CAMERAS))}


def records(filmed: dict[str, list[Frame]], first: int = 0, last: int = FRAMES) -> Records:
    """Frame by frame, all cameras in turn; each camera on one partition."""
    return [
        (
            number % PARTITIONS,
            camera.encode(),
            encode_jpeg(frames[index].picture, 85),
            [("frame", str(index).encode()), ("event-time", str(frames[index].event_time_ms).encode())],
        )
        for index in range(first, last)
        for number, (camera, frames) in enumerate(filmed.items())
    ]


class Stage:
    """Topics and workers of one test."""

    def __init__(self, kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
        self.servers, self._workers = kafka.bootstrap_servers, workers
        self.source, self.output, self.events = make_topics("frames", "seen", "told", partitions=PARTITIONS)

    def worker(self, group: str = "", **settings: object) -> WorkerProcess:
        topics = {"vision__input": self.source, "vision__output": self.output, "vision__events": self.events}
        return self._workers.vision(f"{self.source}-group{group}", **{**topics, **settings}).running()

    def send(self, rows: Records) -> None:
        verify.send(self.servers, self.source, rows)

    def done(self, group: str = "") -> None:
        name = f"{self.source}-group{group}"
        until(lambda: not verify.behind(self.servers, name, self.source), SOON_S, "a commit of everything")

    def read(self, topic: str) -> dict[str, list[Any]]:
        """Camera -> messages in the order of its partition."""
        found: dict[str, list[Any]] = defaultdict(list)
        for record in verify.read(self.servers, topic):
            found[(record.key or b"").decode()].append(json.loads(record.value or b""))
        return found


@pytest.fixture
def stage(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> Stage:
    return Stage(kafka, make_topics, workers)


def overlap(one: list[float], other: tuple[int, ...]) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_every_frame_is_answered_in_order_with_what_is_in_it(stage: Stage, filmed: dict[str, list[Frame]]) -> None:
    rows = records(filmed)
    bad = (0, b"camera-1", rows[0][2][:500] if rows[0][2] else b"", [])
    worker = stage.worker(vision__freshness="every")
    stage.send([*rows[:30], bad, *rows[30:]])
    stage.done()
    seen = stage.read(stage.output)
    found = wanted = 0
    for camera, frames in filmed.items():
        assert [each["frame"] for each in seen[camera]] == list(range(FRAMES))
        for message, frame in zip(seen[camera], frames, strict=True):
            assert (message["width"], message["height"], message["model"]) == (640, 480, "vision/1")
            for truth in frame.truth:
                if truth.visibility > 0.8 and truth.box[3] - truth.box[1] >= 40:
                    wanted += 1
                    found += any(
                        each["label"] == truth.label and overlap(each["box"], truth.box) > 0.5
                        for each in message["objects"]
                    )
    assert wanted > 100
    assert found / wanted > 0.9
    letters = verify.read(stage.servers, f"{stage.source}.dead-letter")
    assert [(each.value, each.header("error.type")) for each in letters] == [(bad[2], b"PictureTruncated")]
    assert worker.metric("headrace_records_in_total") == len(rows) + 1
    assert worker.metric("headrace_records_out_total") == len(rows)
    assert worker.stop() == 0


def test_what_is_told_fits_what_is_seen(stage: Stage, filmed: dict[str, list[Frame]]) -> None:
    stage.worker(vision__freshness="every")
    stage.send(records(filmed))
    stage.done()
    told, seen = stage.read(stage.events), stage.read(stage.output)
    assert sum(map(len, told.values())) > 5
    for camera, events in told.items():
        alive: set[int] = set()
        tracked = {each["track_id"] for message in seen[camera] for each in message["objects"]} - {None}
        for event in events:
            if event["kind"] == "new":
                assert event["track_id"] not in alive
                alive.add(event["track_id"])
            else:
                assert event["track_id"] in alive, event
                if event["kind"] == "end":
                    alive.remove(event["track_id"])
        assert {event["track_id"] for event in events} <= tracked
        ids = [record.header("id") for record in verify.read(stage.servers, stage.events)]
        assert len(set(ids)) == len(ids)


def test_a_killed_worker_goes_on_with_its_tracks_and_tells_everything_once(
    stage: Stage, filmed: dict[str, list[Frame]]
) -> None:
    settings = {"vision__freshness": "every", "worker__processing_guarantee": "exactly_once", "worker__slot": "a"}
    half = FRAMES // 2
    worker = stage.worker(**settings)
    stage.send(records(filmed, 0, half))
    until(lambda: worker.metric("headrace_records_out_total") > 10, SOON_S, "some answers")
    worker.kill()
    worker = stage.worker(**settings)
    stage.done()
    stage.send(records(filmed, half))
    stage.done()
    assert worker.stop() == 0
    killed = stage.read(stage.output), stage.read(stage.events)
    # The same frames again, from the beginning, by a worker that nobody kills.
    (output, events) = (f"{stage.output}-whole", f"{stage.events}-whole")
    whole = stage.worker("-whole", vision__output=output, vision__events=events, **settings)
    stage.done("-whole")
    assert whole.stop() == 0
    assert killed[1] == stage.read(events)
    assert killed[0] == stage.read(output)


def test_a_worker_that_finds_a_backlog_shows_the_present_and_counts_what_it_left_out(
    stage: Stage, filmed: dict[str, list[Frame]]
) -> None:
    rows = records(filmed)
    stage.send(rows)
    worker = stage.worker(vision__staleness_bound_s=0.05)
    stage.done()
    seen = stage.read(stage.output)
    for camera in filmed:
        numbers = [each["frame"] for each in seen[camera]]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == FRAMES - 1
    answered = sum(map(len, seen.values()))
    dropped = {camera: worker.metric("headrace_records_dropped_total", key=camera) for camera in filmed}
    assert dropped == {camera: FRAMES - len(seen[camera]) for camera in filmed}
    assert worker.metric("headrace_records_in_total") == len(rows) == answered + sum(dropped.values())
    assert answered < len(rows)


def test_a_flood_of_one_camera_holds_up_no_other(stage: Stage, filmed: dict[str, list[Frame]]) -> None:
    flood, *others = filmed
    rows = records(filmed)
    flooding = [row for row in rows if row[1] == flood.encode()]
    quiet = [row for row in rows if row[1] != flood.encode()][:6]
    stage.send([*quiet[:2], *flooding * 10, *quiet[2:4], *flooding * 10, *quiet[4:]])
    stage.worker(vision__staleness_bound_s=0.05)
    stage.done()
    counts = Counter({camera: len(messages) for camera, messages in stage.read(stage.output).items()})
    last = {camera: messages[-1]["frame"] for camera, messages in stage.read(stage.output).items()}
    assert set(counts) == {flood, *others}
    assert all(last[camera] == 2 for camera in others)
    assert counts[flood] < len(flooding) * 20


def test_a_camera_that_sends_no_pictures_stops_no_other(stage: Stage, filmed: dict[str, list[Frame]]) -> None:
    broken, *others = filmed
    rows = records(filmed)
    well = [row for row in rows if row[1] != broken.encode()]
    mended = [row for row in rows if row[1] == broken.encode()]
    garbage = [(0, broken.encode(), b"no picture", [])] * 10
    worker = stage.worker(vision__freshness="every")
    stage.send([each for row in well for each in (row, *garbage)])
    stage.done()
    assert {camera: len(messages) for camera, messages in stage.read(stage.output).items()} == dict.fromkeys(others, 40)
    letters = verify.read(stage.servers, f"{stage.source}.dead-letter")
    assert len(letters) == 10 * len(well)
    stage.send(mended)
    stage.done()
    assert [each["frame"] for each in stage.read(stage.output)[broken]] == list(range(FRAMES))
    assert worker.stop() == 0
    assert f"key '{broken}' sends more poison than not" in worker.output()
