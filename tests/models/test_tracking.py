"""Tracks: the arithmetic against independent code, the ids against independent trackers, and state that survives."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.vision import association
from models.vision.association import MOST_TRACKS, TRACK_WORDS, assign, begin, correct, overlap, predict, widening
from models.vision.thresholds import Tracking
from models.vision.tracking import GAP_MS, MOST_BOXES, Tracker, TrackerCorrupt
from tests.models.moving_boxes import Observed, watch

START_MS = 1_767_225_600_000


def follow(tracker: Tracker, frame: Observed) -> list[int]:
    ids: list[int] = tracker.update(frame.boxes, frame.scores, frame.classes, frame.time_ms).tolist()
    return ids


def see(tracker: Tracker, time_ms: int, *boxes: tuple[float, float, float, float], kind: int = 0) -> list[int]:
    """Ids of these boxes, all of them certain."""
    k = len(boxes)
    found = tracker.update(
        np.array(boxes, np.float32).reshape(k, 4), np.full(k, 0.9, np.float32), np.full(k, kind), START_MS + time_ms
    )
    return [int(each) for each in found]


def person(x: float, y: float = 100.0) -> tuple[float, float, float, float]:
    return x, y, x + 40, y + 100


# Arithmetic


@pytest.mark.parametrize("seed", range(40))
def test_an_assignment_has_the_largest_sum_there_is(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    random = np.random.default_rng(seed)
    weights = random.uniform(-0.6, 1, random.integers(0, 12, 2))
    if seed % 3 == 0:
        weights = weights.round(1)  # many that are equal
    found = assign(weights)
    rows = np.flatnonzero(found >= 0)
    chosen = weights[rows, found[rows]]
    assert len(set(found[rows].tolist())) == len(rows)
    assert (chosen > 0).all()
    positive = weights.clip(0)
    best = positive[optimize.linear_sum_assignment(positive, maximize=True)].sum()
    assert chosen.sum() == pytest.approx(best, abs=1e-9)


def test_a_large_assignment_is_the_best_one_too() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    weights = np.random.default_rng(1).uniform(0, 1, (300, 280))
    found = assign(weights)
    rows = np.flatnonzero(found >= 0)
    assert len(rows) == 280
    best = weights[optimize.linear_sum_assignment(weights, maximize=True)].sum()
    assert weights[rows, found[rows]].sum() == pytest.approx(best)


def test_the_filter_is_the_textbook_one_of_eight_numbers() -> None:
    """x = F x, P = F P F' + Q; K = P H' (H P H' + R)^-1: as matrices, with the noise in proportion to the box."""
    random = np.random.default_rng(2)
    box = np.array([100.0, 100, 180, 300])
    track = np.empty(TRACK_WORDS)
    begin(track, box, 0, 0.0)
    size = np.sqrt(80 * 200)
    state = np.array([140, 200, 80, 200, 0, 0, 0, 0], np.float64)
    spread = np.diag([(association.MEASURED * size) ** 2] * 4 + [(association.PACE * size) ** 2] * 4)
    observe = np.eye(4, 8)
    for dt in (0.04, 0.1, 0.04, 0.2, 0.12):
        size = np.sqrt(state[2] * state[3])
        motion = np.eye(8) + dt * np.eye(8, k=4)
        wander = (association.CHANGE * size) ** 2
        noise = np.kron(np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]), np.eye(4)) * wander
        state, spread = motion @ state, motion @ spread @ motion.T + noise
        predict(track[None], dt)
        box = box + random.normal(0, 2, 4) + 100 * dt
        measured = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]])
        size = np.sqrt(state[2] * state[3])
        gain = spread @ observe.T @ np.linalg.inv(spread[:4, :4] + np.eye(4) * (association.MEASURED * size) ** 2)
        state, spread = state + gain @ (measured - state[:4]), (np.eye(8) - gain @ observe) @ spread
        correct(track, box, 3, 40.0)
        np.testing.assert_allclose(track[association.X : association.VAR], state, rtol=1e-9)
        np.testing.assert_allclose(track[association.VAR :], [spread[0, 0], spread[0, 4], spread[4, 4]], rtol=1e-9)


def test_boxes_overlap_by_the_iou_of_what_they_are_widened_to() -> None:
    track = np.empty(TRACK_WORDS)
    begin(track, np.array([0.0, 0, 100, 100]), 0, 0.0)
    margin = association.MARGIN + association.MEASURED  # of 100 px on each side
    wide = 100 * (1 + 2 * margin)
    for shift in (0.0, 30.0, 110.0, 140.0):
        both = max(wide - shift, 0) * wide
        expected = both / (2 * wide * wide - both)
        got = overlap(track, widening(track), np.array([shift, 0, shift + 100, 100]))
        assert got == pytest.approx(expected), shift


# Objects


def test_objects_that_cross_keep_their_ids() -> None:
    tracker = Tracker()
    for time in range(0, 4000, 40):
        ids = see(tracker, time, person(0.15 * time), person(600 - 0.15 * time, 130))
        assert ids == ([1, 2] if time else [-1, -1])


def test_an_object_that_is_hidden_for_a_second_comes_back_with_its_id() -> None:
    tracker = Tracker()
    for time in range(0, 2000, 40):
        see(tracker, time, person(0.1 * time))
    for time in range(2000, 3000, 40):
        assert see(tracker, time) == []
    assert see(tracker, 3000, person(300)) == [1]
    for time in range(3040, 6000, 40):
        see(tracker, time)
    assert len(tracker.ids()) == 0
    assert see(tracker, 6000, person(300)) == [-1]
    assert see(tracker, 6040, person(300)) == [2]


def test_a_weak_box_goes_on_with_a_track_but_begins_none() -> None:
    tracker, kind = Tracker(), np.zeros(1, np.int64)
    box = np.array([person(50)], np.float32)
    for time in range(0, 400, 40):
        assert tracker.update(box, np.array([0.3]), kind, time).tolist() == [-1]
    assert tracker.update(box, np.array([0.9]), kind, 400).tolist() == [-1]
    assert tracker.update(box, np.array([0.9]), kind, 440).tolist() == [1]
    for time in range(480, 4000, 40):
        assert tracker.update(box, np.array([0.2]), kind, time).tolist() == [1]
    assert tracker.update(box, np.array([0.05]), kind, 4000).tolist() == [-1]


def test_neighbours_of_two_classes_are_not_confused_but_a_detector_may_change_its_mind() -> None:
    tracker = Tracker()
    boxes = np.array([person(100), person(112)], np.float32)
    for time in range(0, 200, 40):
        ids = tracker.update(boxes, np.full(2, 0.9), np.array([0, 1]), time)
    assert ids.tolist() == [1, 2]
    ids = tracker.update(boxes[::-1], np.full(2, 0.9), np.array([1, 0]), 200)
    assert ids.tolist() == [2, 1]
    alone = Tracker()
    see(alone, 0, person(0), kind=0), see(alone, 40, person(0), kind=0)
    assert see(alone, 80, person(0), kind=2) == [1]


def test_a_slow_camera_is_followed_by_event_time_not_by_frames() -> None:
    """The same speed in px/s at 25 and at 4 frames a second: the velocity that was learned carries the object over."""
    for step_ms in (40, 250):
        tracker = Tracker()
        for time in range(0, 3000, step_ms):
            ids = see(tracker, time, person(0.08 * time))
        assert ids == [1]


# Frames as they should not be


def test_a_repeated_or_late_frame_changes_nothing_and_finds_its_objects() -> None:
    tracker = Tracker()
    for time in range(0, 2000, 40):
        see(tracker, time, person(0.2 * time), person(500 - 0.1 * time, 300))
    before = tracker.encode()
    assert see(tracker, 1960, person(392), person(304, 300)) == [1, 2]
    assert see(tracker, 1200, person(380, 300), person(240)) == [2, 1]
    assert see(tracker, 1960 - GAP_MS - 1, person(392)) == [-1]
    assert tracker.encode() == before


def test_after_a_gap_of_minutes_everything_is_new_and_no_id_comes_twice() -> None:
    tracker = Tracker()
    see(tracker, 0, person(0)), see(tracker, 40, person(0))
    assert see(tracker, 300_000, person(0)) == [-1]
    assert see(tracker, 300_040, person(0)) == [2]
    tracker.restart()
    assert tracker.time_ms is None
    assert see(tracker, 0, person(0)) == [-1]
    assert see(tracker, 40, person(0)) == [3]


def test_ten_thousand_boxes_cost_three_hundred_tracks() -> None:
    random, tracker = np.random.default_rng(3), Tracker()
    for time in range(5):
        corner = random.uniform(0, 5000, (10_000, 2))
        scores = random.random(10_000)
        boxes = np.hstack((corner, corner + 50))
        ids = tracker.update(boxes, scores, random.integers(0, 3, 10_000), START_MS + time * 40)
        best = np.argsort(-scores)[:MOST_BOXES]
        assert set(np.flatnonzero(ids > 0).tolist()) <= set(best.tolist())
        assert len(tracker) <= MOST_TRACKS
        assert len(tracker.encode()) < 40_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_boxes_that_are_none_are_passed_over(bad: float) -> None:
    tracker = Tracker()
    boxes = np.array([person(0), person(200), (5, 5, 5, 50), (50, 5, 40, 50), person(400)], np.float32)
    boxes[1, 2] = bad
    scores = np.array([0.9, 0.9, 0.9, 0.9, bad if bad != 1e30 else np.nan])
    for time in (0, 40, 80):
        ids = tracker.update(boxes, scores, np.zeros(5, np.int64), time)
    assert ids.tolist() == [1, -1, -1, -1, -1]
    assert len(tracker) == 1
    assert np.isfinite(np.frombuffer(tracker.encode()[24:])).all()


def test_arguments_of_another_form_are_refused() -> None:
    tracker, one = Tracker(), np.ones(1)
    box, kind = np.array([person(0)]), np.zeros(1, np.int64)
    cases: list[tuple[Any, ...]] = [
        (box[:, :3], one, kind, 0),
        (box, np.ones(2), kind, 0),
        (box, one, one, 0),
        (box, one, kind, 1 << 60),
    ]
    for arguments in cases:
        with pytest.raises(ValueError, match="tracking: expected"):
            tracker.update(*arguments)
    assert tracker.encode() == Tracker().encode()


@pytest.mark.parametrize(
    "settings", [{"low_score": 0.7}, {"new_score": 0.2}, {"new_score": 1.5}, {"lost_s": -1.0}, {"lost_s": 60.0}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Tracking(**settings)


# State


@pytest.mark.parametrize("seed", range(3))
def test_a_tracker_that_is_stored_after_every_frame_goes_on_as_one_that_never_stops(seed: int) -> None:
    tracker, again = Tracker(), Tracker()
    for frame in watch(8, 150, seed):
        ids = follow(tracker, frame)
        assert follow(again, frame) == ids
        again = Tracker.decode(again.encode())
        assert again.encode() == tracker.encode()
        assert again.time_ms == tracker.time_ms
    assert len(tracker.encode()) < 4096


def test_a_copy_goes_its_own_way() -> None:
    tracker = Tracker()
    for frame in (frames := watch(5, 30, 4))[:20]:
        follow(tracker, frame)
    before, copy = tracker.encode(), tracker.copy()
    for frame in frames[20:]:
        follow(copy, frame)
    assert tracker.encode() == before != copy.encode()


def test_foreign_bytes_are_refused() -> None:
    tracker = Tracker()
    for frame in watch(4, 20, 5):
        follow(tracker, frame)
    good = tracker.encode()
    for end in range(len(good)):
        with pytest.raises(TrackerCorrupt):
            Tracker.decode(good[:end])
    with pytest.raises(TrackerCorrupt, match="expected version 1, got 9"):
        Tracker.decode(good[:2] + b"\x09" + good[3:])
    with pytest.raises(TrackerCorrupt, match="at most 300 tracks"):
        Tracker.decode(good[:4] + (1 << 31).to_bytes(4, "little") + good[8:])


def test_bytes_that_were_changed_are_refused_or_make_a_tracker_that_works() -> None:
    tracker, random = Tracker(), np.random.default_rng(6)
    frames = watch(4, 25, 6)
    for frame in frames[:20]:
        follow(tracker, frame)
    good = tracker.encode()
    refused = 0
    for at, value in itertools.product(range(len(good)), (0, 127, 255)):
        changed = bytearray(good)
        changed[at] = value ^ int(random.integers(0, 2))
        try:
            odd = Tracker.decode(bytes(changed))
        except TrackerCorrupt:
            refused += 1
            continue
        for frame in frames[20:]:
            follow(odd, frame)
    assert refused > len(good) / 3


# Beside others


@pytest.mark.parametrize(("fps", "objects"), [(25.0, 10), (8.0, 10)])
def test_identities_are_kept_at_least_as_well_as_by_the_library(fps: float, objects: int) -> None:
    """ByteTrack of the package `trackers`, same boxes, judged by `motmetrics`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("trackers")
        pytest.importorskip("motmetrics")
        from tests.models.track_quality import judge, library, ours

        worlds = [watch(objects, int(20 * fps), seed, fps) for seed in (20, 21)]
        mine, theirs = (
            np.mean([judge(world, make()) for world in worlds], 0) for make in (ours, lambda: library(BYTETRACK, fps))
        )
    assert mine[0] >= theirs[0]
    assert mine[0] > 0.85
    assert mine[1] <= theirs[1]


BYTETRACK = "ByteTrackTracker"


def test_the_judge_sees_identities_that_are_mixed_up() -> None:
    pytest.importorskip("motmetrics")
    from tests.models.track_quality import Ids, judge

    frames = watch(5, 100, 7)

    def shuffled(frame: Observed) -> tuple[Ids, NDArray[np.float32]]:
        turned = frames.index(frame) // 10
        return (np.arange(len(frame.truth)) + turned) % max(len(frame.truth), 1), frame.truth

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = judge(frames, shuffled)
    assert found.idf1 < 0.7
    assert found.switches > 5
