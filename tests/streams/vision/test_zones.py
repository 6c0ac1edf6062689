"""Zones: where an object stands, who enters, leaves and loiters, and that a wavering box does neither."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streams.pipelines.vision.zones import Change, Presences, ZoneMap, left, occupied
from streams.sites import Zone

HALF = Zone("half", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), inertia_frames=3, loiter_s=1.0)
PIXELS = Zone("pixels", ((100, 100), (300, 100), (300, 300), (100, 300)), ("person",))


def boxes(*feet: tuple[float, float]) -> np.ndarray:
    return np.array([(x - 10, y - 80, x + 10, y) for x, y in feet], np.float64)


def test_an_object_stands_where_the_middle_of_its_lower_edge_is() -> None:
    zones = ZoneMap([HALF, PIXELS])
    found = zones.within(boxes((200, 200), (639, 50), (641, 50), (200, 301)), ["person"] * 4, 1280, 720)
    assert [zones.names(each) for each in found] == [["half", "pixels"], ["half"], [], ["half"]]
    # Shares go with the size of the picture, px do not.
    assert zones.within(boxes((200, 200), (639, 50)), ["person"] * 2, 640, 360) == [[0, 1], []]
    assert zones.within(boxes((200, 200)), ["car"], 1280, 720) == [[0]]
    assert ZoneMap([]).within(boxes((1, 1)), ["car"], 9, 9) == [[]]


@pytest.mark.parametrize(
    "polygon",
    [
        ((0.2, 0.5), (0.8, 0.5), (0.8, 1.0), (0.2, 1.0)),
        ((0, 0), (640, 0), (640, 480), (0, 480)),
        ((0, 0), (639, 0), (639, 479), (0, 479)),
    ],
    ids=["shares", "pixels", "rows"],
)
def test_whoever_the_lower_edge_cuts_off_stands_in_a_zone_that_ends_there(polygon: Any) -> None:
    zones = ZoneMap([Zone("gate", polygon)])
    assert zones.within(boxes((320, 479), (320, 479.9), (320, 480)), ["person"] * 3, 640, 480) == [[0]] * 3


def follow(pattern: str, step_ms: int = 100, confirmed_from: int = 0) -> list[tuple[int, Change]]:
    """Where something is told, for a frame inside (#) or outside (.) of zone `half`, or not seen ( )."""
    zones, presences, told = ZoneMap([HALF]), Presences(), []
    for number, mark in enumerate(pattern):
        if mark != " ":
            within = [0] if mark == "#" else []
            before = dict(presences)
            following, changes = zones.follow(presences, within, number * step_ms, confirmed=number >= confirmed_from)
            assert presences == before
            presences = following
            told += [(number, change) for change in changes]
    return told


def test_so_many_frames_in_a_row_decide() -> None:
    assert follow("..##.##.##.") == []
    assert follow("..###.##.#...#") == [(4, Change("half", "enter", 0.0)), (12, Change("half", "leave", 0.8))]
    assert follow(".# ##") == [(4, Change("half", "enter", 0.0))]


def test_who_stays_loiters_once() -> None:
    told = follow("." + "#" * 30)
    assert told == [(3, Change("half", "enter", 0.0)), (11, Change("half", "loiter", 1.0))]
    again = [change.action for _, change in follow("#" * 15 + "..." + "#" * 15)]
    assert again == ["enter", "loiter", "leave", "enter", "loiter"]


def test_nobody_enters_before_it_is_confirmed_and_then_it_counts_from_the_first_frame() -> None:
    told = follow("#" * 12, confirmed_from=5)
    assert told == [(5, Change("half", "enter", 0.0)), (10, Change("half", "loiter", 1.0))]


def test_an_object_that_ends_leaves() -> None:
    zones, presences = ZoneMap([HALF]), Presences()
    for number in range(3):
        presences, _ = zones.follow(presences, [0], number * 1000, confirmed=True)
    assert occupied(presences) == ["half"]
    assert left(presences, 4000) == [Change("half", "leave", 4.0)]
    # A zone that the settings have no longer is nothing to leave.
    assert ZoneMap([PIXELS]).follow(presences, [], 5000, confirmed=True) == ({}, [])


def test_a_zone_outside_the_picture_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    far = Zone("far", ((5000, 10), (6000, 10), (6000, 90)))
    edge = Zone("edge", ((600, 400), (900, 400), (900, 900)))
    left = Zone("left", ((0.0, 0.0), (0.4, 0.0), (0.4, 1.0)))
    zones = ZoneMap((far, edge, left), "gate")
    for _ in range(2):
        zones.within(np.ones((1, 4)), [""], 640, 480)
    (record,) = caplog.records
    assert "zone 'far' of camera 'gate' lies outside its pictures of 640 x 480" in record.getMessage()
    zones.within(np.ones((1, 4)), [""], 6400, 4800)
    for width in (640, 1280) * 3:
        zones.within(np.ones((1, 4)), [""], width, 480)
    assert len(caplog.records) == 1
