"""Distances against a scene whose metres are known; alerts that are raised late, cleared later, and told once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from streams.pipelines.vision.distance import MOST_PAIRS, Alert, Closeness, Ground, Places
from streams.sites import Camera, SceneSettings, UnsafeDistance

WIDTH, HEIGHT = 1280, 720
FOV_DEG, MAST_M = 60.0, 3.0
FOCAL = WIDTH / 2 / math.tan(math.radians(FOV_DEG / 2))
STOOD = np.array([(-2.0, 11.0), (1.0, 10.0), (0.0, 14.0), (3.0, 20.0)])  # to the right, and away; in metres
RULE = UnsafeDistance(("person", "forklift"), 3.0, raise_s=0.3, clear_s=0.5)


def filmed(tall_m: float = 1.7) -> np.ndarray:
    """Boxes of people at `STOOD`, before a level camera on a mast."""
    x, depth = STOOD.T
    column = WIDTH / 2 + FOCAL * x / depth
    foot, head = (HEIGHT / 2 + FOCAL * (MAST_M - up) / depth for up in (0.0, tall_m))
    wide = 0.4 * (foot - head)
    return np.stack((column - wide / 2, head, column + wide / 2, foot), 1)


def between(places: np.ndarray) -> np.ndarray:
    return np.linalg.norm(places[:, None] - places[None], axis=2)


def test_boxes_of_known_height_stand_as_far_apart_as_they_do() -> None:
    ground = Ground(SceneSettings(field_of_view_deg=FOV_DEG), None)
    places = ground.places(filmed(), ["person"] * 4, WIDTH, HEIGHT)
    np.testing.assert_allclose(between(places), between(STOOD), rtol=1e-9)
    own = Ground(SceneSettings(), Camera("c", field_of_view_deg=FOV_DEG))
    np.testing.assert_allclose(own.places(filmed(), ["person"] * 4, WIDTH, HEIGHT), places)
    # Somebody of 1.6 m among people of 1.7 m: off by about as much.
    small = between(ground.places(filmed(1.6), ["person"] * 4, WIDTH, HEIGHT))
    np.testing.assert_allclose(small, between(STOOD), rtol=0.08)


def test_what_is_not_seen_whole_or_of_unknown_height_stands_nowhere() -> None:
    boxes = filmed()
    boxes[0, 1], boxes[1, 3] = 0.0, HEIGHT
    places = Ground(SceneSettings(), None).places(boxes, ["person", "person", "sheep", "person"], WIDTH, HEIGHT)
    assert np.isnan(places).any(1).tolist() == [True, True, True, False]


def test_a_homography_maps_feet_to_the_ground() -> None:
    # From the projection above: the inverse of (x, depth) -> (column, row) of a foot.
    homography = np.linalg.inv(
        np.array([[FOCAL, WIDTH / 2, 0], [0, HEIGHT / 2, FOCAL * MAST_M], [0, 1, 0]], np.float64)
    )
    rows: Any = tuple(map(tuple, homography.tolist()))
    ground = Ground(SceneSettings(), Camera("c", homography=rows))
    places = ground.places(filmed(), ["sheep"] * 4, WIDTH, HEIGHT)
    np.testing.assert_allclose(places[:, :2], STOOD, rtol=1e-9, atol=1e-9)
    turned: Any = tuple(map(tuple, (-homography).tolist()))  # the same map
    np.testing.assert_allclose(
        Ground(SceneSettings(), Camera("c", homography=turned)).places(filmed(), ["x"] * 4, WIDTH, HEIGHT),
        places,
        atol=1e-9,
    )
    above = np.array([(600.0, 100, 650, HEIGHT / 2 - 5)])  # a foot above the horizon
    assert np.isnan(ground.places(above, ["sheep"], WIDTH, HEIGHT)).all()


def walk(*distances: float | None, step_ms: int = 100, rule: UnsafeDistance = RULE) -> list[tuple[int, Alert]]:
    """What is told while a person (1) is so far from a forklift (2), a frame each.

    None: one is not seen. NaN: it is, and nobody knows where it stands.
    """
    closeness, told = Closeness([rule]), []
    for number, distance in enumerate(distances):
        ids, labels = ([1, 2], ["person", "forklift"]) if distance is not None else ([1], ["person"])
        places = np.array([(0.0, 0, 0), (distance or 0.0, 0, 0)])[: len(ids)]
        told += [(number, each) for each in closeness.follow(ids, labels, lambda p=places: p, number * step_ms)]
        closeness = Closeness([rule], closeness.pairs())  # as if stored and read back
    return told


def test_too_close_for_long_enough_is_told_once_and_so_is_its_end() -> None:
    told = walk(5, 2.8, 2.6, 2.5, 2.4, 2.4, 2.2, 3.2, 3.6, 4, 4, 4, 4, 4, 4, 4, 4)
    assert [(number, each.state, each.severity) for number, each in told] == [
        (4, "raised", "warning"),  # 0.3 s after it came close
        (14, "cleared", "warning"),  # 0.5 s after it was beyond 3.75 m
    ]
    assert [(each.distance_m, each.closest_m, each.duration_s) for _, each in told] == [(2.4, 2.4, None), (4, 2.2, 1.0)]


def test_a_moment_is_not_enough_and_an_unseen_frame_changes_nothing() -> None:
    assert walk(5, 2.5, 2.5, 3.1, 2.5, 2.5, 3.1) == []
    assert [number for number, _ in walk(5, 2.5, None, None, 2.5)] == [4]


def test_a_pair_that_cannot_be_measured_is_let_go_after_ten_seconds() -> None:
    told = walk(*[2.5] * 5, *[math.nan] * 200, *[2.5] * 5)
    assert [(number, each.state, each.reason) for number, each in told] == [
        (3, "raised", None),
        (105, "cleared", "unmeasured"),
        (208, "raised", None),
    ]
    assert told[1][1].duration_s == pytest.approx(10.2)
    assert walk(*[2.5] * 2, *[math.nan] * 200, *[2.5] * 3) == []


def test_a_time_without_measurements_makes_nothing_sooner() -> None:
    assert [number for number, _ in walk(2.5, 2.5, *[math.nan] * 50, 2.5, 2.5, 2.5)] == [53]
    told = walk(*[2.5] * 5, 4.0, 4.0, *[math.nan] * 50, 4.0, 4.0, 4.0, 4.0)
    assert [(number, each.state) for number, each in told] == [(3, "raised"), (60, "cleared")]


def test_between_the_limit_and_where_it_is_safe_nothing_ends() -> None:
    told = walk(*[2.5] * 5, *[3.5] * 40, *[4.0, 3.5] * 20)
    assert [each.state for _, each in told] == ["raised"]


def test_very_close_is_critical_at_once_or_later() -> None:
    assert [(each.state, each.severity) for _, each in walk(*[1.0] * 5)] == [("raised", "critical")]
    told = walk(*[2.5] * 5, 1.4, 1.4, 2.5, 1.4, *[5.0] * 7)
    assert [(number, each.state, each.severity) for number, each in told] == [
        (3, "raised", "warning"),
        (5, "escalated", "critical"),
        (14, "cleared", "critical"),
    ]
    immediate = UnsafeDistance(("person", "forklift"), 3.0, raise_s=0, clear_s=0)
    assert [number for number, _ in walk(9, 2, 9, rule=immediate)] == [1, 2]


def close(closeness: Closeness, labels: list[str], time_ms: int) -> list[Alert]:
    places: Places = np.zeros((len(labels), 3))
    return closeness.follow(list(range(1, len(labels) + 1)), labels, lambda: places, time_ms)


def test_what_ends_or_turns_out_to_be_something_else_is_cleared() -> None:
    closeness = Closeness([RULE])
    for time_ms in (0, 300):
        alerts = close(closeness, ["person", "forklift", "person"], time_ms)
    assert [(each.first, each.second, each.state) for each in alerts] == [(1, 2, "raised"), (3, 2, "raised")]
    (ended,) = closeness.end({3}, "gone", 900)
    assert (ended.first, ended.state, ended.duration_s, ended.reason) == (3, "cleared", 0.6, "gone")
    (other,) = close(closeness, ["person", "car"], 1000)
    assert (other.first, other.state, other.reason) == (1, "cleared", "relabelled")
    assert closeness.pairs() == []


def test_two_of_a_kind_are_one_pair() -> None:
    closeness = Closeness([UnsafeDistance(("person", "person"), 1.0, raise_s=0)])
    alerts = closeness.follow([7, 3, 5], ["person"] * 3, lambda: np.zeros((3, 3)), 0)
    assert sorted((each.first, each.second) for each in alerts) == [(3, 5), (3, 7), (5, 7)]
    assert closeness.follow([3, 7, 5], ["person"] * 3, lambda: np.zeros((3, 3)), 40) == []


def test_pairs_are_bounded_and_places_that_nobody_knows_are_far_from_all() -> None:
    closeness = Closeness([RULE])
    labels = ["person"] * 150 + ["forklift"] * 150
    for time_ms in (0, 300, 600):
        close(closeness, labels, time_ms)
    assert len(closeness.pairs()) == MOST_PAIRS
    nowhere = Closeness([RULE])
    assert nowhere.follow([1, 2], ["person", "forklift"], lambda: np.full((2, 3), np.nan), 0) == []
    assert nowhere.pairs() == []


def test_nothing_is_measured_where_nothing_can_be_close() -> None:
    def never() -> Places:
        pytest.fail("asked for places")

    assert Closeness([RULE]).follow([1, 2], ["person", "person"], never, 0) == []
    assert Closeness([]).follow([1, 2], ["person", "forklift"], never, 0) == []
