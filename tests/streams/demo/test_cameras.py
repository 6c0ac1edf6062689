"""What the demo counts of its cameras' frames."""

from __future__ import annotations

import pytest

from streams.demo.cameras import MOST_WAITING, CameraView
from tests.streams.demo.answers import event, found, site, thing


def test_a_frame_without_an_answer_is_dropped_once_a_later_one_has_its_own() -> None:
    camera = CameraView("gate", "yard")
    for number in range(5):
        camera.send(number, b"jpeg %d" % number, now=float(number))
    assert camera.answer(found("gate", 0), 0.25) == 0.25
    assert (camera.dropped, camera.waiting) == (0, 4)
    assert camera.answer(found("gate", 3, thing("car")), 3.5) == 0.5
    assert (camera.dropped, camera.waiting) == (2, 1)
    assert camera.latest is not None
    assert camera.latest.jpeg == b"jpeg 3"
    assert camera.latest.detections.objects[0].label == "car"


@pytest.mark.parametrize("frame", [0, 2, None])
def test_an_answer_that_was_there_before_or_that_nobody_waits_for_changes_nothing(frame: int | None) -> None:
    camera = CameraView("gate", "yard")
    for number in range(2):
        camera.send(number, b"", now=0.0)
    camera.answer(found("gate", 1, thing("car")), 1.0)
    before = camera.latest, camera.dropped, camera.waiting
    assert camera.answer(found("gate", frame, thing("bus")), 2.0) is None
    assert (camera.latest, camera.dropped, camera.waiting) == before


def test_frames_do_not_pile_up_where_nothing_answers() -> None:
    camera = CameraView("gate", "yard")
    for number in range(MOST_WAITING + 10):
        camera.send(number, b"", now=0.0)
    assert (camera.waiting, camera.dropped) == (MOST_WAITING, 10)
    assert camera.answer(found("gate", 3), 1.0) is None
    assert camera.answer(found("gate", 10), 1.0) == 1.0


def test_objects_are_counted_that_are_followed() -> None:
    camera = CameraView("gate", "yard")
    assert camera.objects == {}
    camera.send(0, b"", now=0.0)
    camera.answer(found("gate", 0, thing("car", 1), thing("person", 2), thing("person", 4), thing("person")), 1.0)
    assert camera.objects == {"car": 1, "person": 2}


def test_a_site_adds_its_cameras_up_and_keeps_what_was_told() -> None:
    view = site("gate", "dock")
    for name in view.cameras:
        for number in range(3):
            view.cameras[name].send(number, b"", now=1.0)
    view.answer([found("gate", 0), found("dock", 2), found("gate", 0)], 1.5)
    assert (view.figures.received, view.dropped, view.waiting) == (2, 2, 2)
    assert view.figures.overall_ms() == (500.0, 500.0)
    view.tell([event("new"), event("update"), event("end", duration_s=2.0)])
    assert view.told == {"new": 1, "update": 1, "end": 1}
    assert [each.text for each in view.alerts] == ["person #3 appears", "person #3 is gone after 2.0 s"]
