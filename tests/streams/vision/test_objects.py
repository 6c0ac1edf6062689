"""An object's life before a camera, as it is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import UNSET

from streams.pipelines.vision.camera import CameraState, Frame, Seen
from streams.pipelines.vision.messages import detections
from streams.pipelines.vision.objects import Site
from streams.schemas import VideoDetections, VideoEvent
from streams.sites import Camera, SceneSettings, UnsafeDistance, Zone
from tests.streams.vision.site import FLAT_GROUND, LABELS, ZONES, shown

START_MS = 1_767_225_600_000
PLAIN = SceneSettings(update_interval_s=2.0, stationary_s=3.0)


def state(vision: SceneSettings = PLAIN, camera: Camera | None = None) -> CameraState:
    return CameraState("gate", Site(vision, camera))


def at(x: float, y: float = 300.0, tall: float = 200.0) -> tuple[float, float, float, float]:
    """A box whose lower edge has its middle there."""
    return x - 40, y - tall, x + 40, y


def run(camera: CameraState, frames: Iterable[Frame]) -> list[VideoEvent]:
    return [event for frame in frames for event in camera.apply(frame, LABELS, 0).events]


def told(events: Iterable[VideoEvent], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(event, field) for field in fields) for event in events]


def walk(
    count: int, x: Any = lambda n: 200.0, score: Any = lambda n: 0.9, first: int = 0, kind: int = 0
) -> list[Frame]:
    """One object, ten frames a second."""
    return [
        shown(number, START_MS + number * 100, *([(kind, score(number), at(x(number)))] if score(number) else []))
        for number in range(first, first + count)
    ]


def test_an_object_is_new_when_the_median_of_its_first_scores_is_good_enough() -> None:
    events = run(state(), walk(6))
    # The first frame begins a track, which the second one confirms; three frames with an id are judged.
    assert told(events, "kind", "frame", "track_id", "label", "score") == [("new", 3, 1, "person", 0.9)]
    assert events[0].event_time == "2026-01-01T00:00:00.300Z"
    assert events[0].first_seen == "2026-01-01T00:00:00.100Z"
    one_poor = run(state(), walk(6, score=lambda n: 0.2 if n == 2 else 0.9))
    assert told(one_poor, "kind", "frame") == [("new", 3)]


def test_an_object_that_is_mostly_doubtful_is_not_told_of_until_it_is_clear() -> None:
    def score(number: int) -> float:
        return 0.9 if number < 2 or number >= 12 else 0.3

    camera = state()
    assert told(run(camera, walk(20, score=score)), "kind", "frame") == [("new", 13)]
    flicker = state()
    assert run(flicker, walk(2)) == []
    assert run(flicker, walk(40, score=lambda n: 0, first=2)) == []


def test_no_object_below_a_threshold_that_is_set_is_followed_or_told_of() -> None:
    strict = msgspec.structs.replace(PLAIN, score_threshold=0.7)
    camera = state(strict)
    assert run(camera, walk(20, score=lambda n: 0.6)) == []
    assert (camera.apply(walk(1, first=20)[0], LABELS, 0).ids > 0).sum() == 0  # a track begins with this frame only
    assert told(run(state(strict), walk(20, score=lambda n: 0.8)), "kind", "frame") == [("new", 3)]


def test_updates_are_told_at_most_so_often_and_only_when_something_happened() -> None:
    events = run(state(), walk(100, x=lambda n: 200.0 + 6 * n))
    assert [event.kind for event in events] == ["new"] + ["update"] * 4
    times = [event.frame or 0 for event in events]
    assert min(np.diff(times)) >= 20
    assert {tuple(event.causes or ()) for event in events[1:]} == {("moved",)}
    still = run(state(SceneSettings(update_interval_s=2.0, stationary_s=1000.0)), walk(100))
    assert [event.kind for event in still] == ["new"]


def test_an_object_comes_to_rest_and_moves_again() -> None:
    def x(number: int) -> float:
        return 200 + 6 * min(number, 30) + 6 * max(number - 90, 0) + (3 if number % 2 else -3)

    events = run(state(), walk(130, x=x))
    rest, go = (event for event in events if {"stationary", "moving"} & set(event.causes or ()))
    assert (rest.causes, rest.stationary) == (["stationary"], True)
    assert 55 <= (rest.frame or 0) <= 63  # three seconds after it stopped, or nearly
    assert (go.stationary, "moving" in (go.causes or ())) == (False, True)
    assert 92 <= (go.frame or 0) <= 104


def test_one_box_that_jumps_does_not_move_an_object_at_rest() -> None:
    events = run(state(), walk(120, x=lambda n: 245.0 if n % 25 == 0 else 200.0))
    assert [event.causes for event in events if event.kind == "update"] == [["stationary"]]


def test_an_object_ends_with_its_track() -> None:
    camera = state()
    frames = walk(80, score=lambda n: (0.95 if n == 7 else 0.9) if n < 30 else 0)
    (new, end) = [event for event in run(camera, frames) if event.kind != "update"]
    assert (end.kind, end.reason, end.duration_s) == ("end", "gone", 2.8)
    assert end.frame == 50  # more than two seconds after it was last seen
    assert end.last_seen == "2026-01-01T00:00:02.900Z"
    assert (end.best_score, end.best_frame, end.zones_visited) == (0.95, 7, [])
    assert end.best_box == at(200)
    assert new.track_id == end.track_id == 1


def test_a_gap_of_minutes_ends_what_was_there() -> None:
    camera = state()
    run(camera, walk(10))
    later = [frame._replace(event_time_ms=frame.event_time_ms + 300_000) for frame in walk(5, first=10)]
    assert told(run(camera, later), "kind", "track_id", "frame") == [("end", 1, 10), ("new", 2, 13)]


@pytest.mark.parametrize("shift_ms", [5000, -5000, -3_600_000])
def test_a_camera_that_begins_again_ends_what_was_there(shift_ms: int) -> None:
    camera = state()
    run(camera, walk(40))
    again = [
        frame._replace(offset=40 + number, event_time_ms=frame.event_time_ms + shift_ms)
        for number, frame in enumerate(walk(10))
    ]
    events = run(camera, again)
    assert told(events, "kind", "track_id", "frame", "reason")[0] == ("end", 1, 0, "restarted")
    assert told(events[1:], "kind", "track_id", "frame") == [("new", 2, 3)]


def test_a_late_frame_tells_where_its_objects_are_and_changes_nothing() -> None:
    camera = state()
    frames = walk(40, x=lambda n: 200.0 + 10 * n)
    run(camera, frames)
    plain = camera.copy()
    late = frames[35]._replace(offset=40)
    seen = camera.apply(late, LABELS, 0)
    assert (seen.ids.tolist(), seen.events, seen.order, seen.repeated) == ([1], [], "late", False)
    plain.offset = 40
    assert camera.encode() == plain.encode()


def test_an_object_is_what_most_frames_say() -> None:
    camera = state()
    frames = [
        shown(number, START_MS + number * 100, (1 if number in (4, 9, 10) else 0, 0.9, at(200))) for number in range(40)
    ]
    assert {event.label for event in run(camera, frames)} == {"person"}
    changed = [shown(number, START_MS + number * 100, (1, 0.9, at(200))) for number in range(40, 100)]
    events = [*run(camera, changed), *run(camera, walk(40, score=lambda n: 0, first=100))]
    assert (events[-1].kind, events[-1].label, events[-1].track_id) == ("end", "forklift", 1)


def test_zones_are_told_at_once_as_an_alert_and_as_an_update() -> None:
    half = Zone("half", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), inertia_frames=2, loiter_s=1.0)
    camera = state(SceneSettings(update_interval_s=60.0, stationary_s=600.0), Camera("gate", (half,)))
    frames = walk(90, x=lambda n: 300.0 + 10 * abs(n - 40))
    events = run(camera, frames + walk(40, score=lambda n: 0, first=90))
    assert told(events, "kind", "frame", "zones") == [
        ("new", 3, []),
        ("update", 8, ["half"]),
        ("zone", 8, ["half"]),
        ("zone", 17, ["half"]),
        ("update", 75, []),
        ("zone", 75, []),
        ("end", 110, []),
    ]
    alerts = [event for event in events if event.kind == "zone"]
    assert told(alerts, "action", "zone") == [("enter", "half"), ("loiter", "half"), ("leave", "half")]
    assert [event.causes for event in events if event.kind == "update"] == [["entered"], ["left"]]
    assert events[-1].zones_visited == ["half"]


def test_who_ends_inside_leaves_and_is_safe() -> None:
    vision = SceneSettings(unsafe_distances=(UnsafeDistance(("person", "forklift"), 3.0, raise_s=0.2),))
    camera = state(vision, Camera("gate", ZONES[:1], FLAT_GROUND))
    frames = [
        shown(number, START_MS + number * 100, (0, 0.9, at(200)), (1, 0.8, at(400, 320, 150))) for number in range(20)
    ]
    events = run(camera, frames + walk(40, score=lambda n: 0, first=20))
    unsafe = [event for event in events if event.kind == "unsafe_distance"]
    assert told(unsafe, "state", "severity", "track_id", "label", "distance_m") == [
        ("raised", "warning", 1, "person", 2.01),
        ("cleared", "warning", 1, "person", 2.01),
    ]
    assert (unsafe[0].reason, unsafe[1].reason) == (UNSET, "gone")  # nobody was seen to walk away
    assert unsafe[0].limit_m == 3.0
    assert unsafe[0].other.track_id == 2  # type: ignore[union-attr]
    assert unsafe[0].other.label == "forklift"  # type: ignore[union-attr]
    ending = [(event.kind, event.action or None) for event in events if event.frame == unsafe[1].frame]
    assert ending == [
        ("unsafe_distance", None), ("zone", "leave"), ("end", None), ("zone", "leave"), ("end", None),
    ]  # fmt: skip
    assert {event.reason for event in events if event.action == "leave"} == {"gone"}


def test_a_frames_message_has_what_is_followed_and_what_is_certain() -> None:
    camera = state(camera=Camera("gate", ZONES[:1]))
    seen: Seen
    for number in range(12):
        frame = shown(
            number, START_MS + number * 100, (0, 0.9, at(200)), (1, 0.5, at(900 + 50 * number)), (7, 0.2, at(450))
        )
        seen = camera.apply(frame, LABELS, 0)
    message = detections(frame, seen, LABELS, "detector/1", 0.4, 0.0)
    assert [(each.label, each.score, each.track_id, each.zones) for each in message.objects] == [
        ("person", 0.9, 1, ["left"]),
        ("forklift", 0.5, 2, []),
    ]
    assert message.objects[0].box == (160.0, 100.0, 240.0, 300.0)
    assert (message.frame, message.width, message.model) == (11, 1280, "detector/1")
    low = detections(frame, seen, LABELS, "detector/1", 0.1, 0.0).objects[2]
    assert (low.label, low.track_id, low.zones) == ("7", None, ["left"])
    assert msgspec.json.decode(msgspec.json.encode(message), type=VideoDetections) == message
    strict = detections(frame, seen, LABELS, "detector/1", 0.6, 0.6)
    assert [(each.label, each.track_id) for each in strict.objects] == [("person", 1)]


@pytest.mark.parametrize(
    "change",
    [{"event_time_ms": -1}, {"event_time_ms": 1 << 60}, {"width": 0}, {"height": -5}, {"number": -1}, {"offset": -1}],
)
def test_what_cannot_be_a_frame_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"following camera 'gate' at offset .*: expected"):
        state().apply(walk(1)[0]._replace(**change), LABELS, 0)
