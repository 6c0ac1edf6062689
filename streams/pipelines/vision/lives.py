"""The life of one object before a camera: what is remembered of it from frame to frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Literal

import msgspec

from streams.pipelines.vision.zones import Presences
from streams.sites import SceneSettings

# As `copy.copy`, which looks for the way anew each time.
copied: Callable[[Life], Life] = methodcaller("__copy__")

Cause = Literal["moved", "entered", "left", "stationary", "moving"]
Box = tuple[float, float, float, float]
MOST_VOTES = 25  # a label that was right for long gives way after so many frames
RESTLESS_FRAMES = 3  # so many frames in a row away from its place, and an object moves: a box may jump


class Life(msgspec.Struct, array_like=True, gc=False):
    """One object. What is in it is replaced, never written to, so that a shallow copy is one.

    Args:
        votes: frames that spoke for its label, less those that spoke against it.
        scores: the latest, until it is confirmed.
        best_frame: the number of the frame with the best score, where it had one.
        reported_ms, reported: when the last event of its life was told, and the middle of its box then.
        resting_ms, resting: since when it has been at one place, and where.
        restless: frames in a row away from there.
        pending: causes of its next update.
        visited: zones that it has been in, in that order.
    """

    track_id: int
    label: str
    votes: int
    first_ms: int
    last_ms: int
    score: float
    box: Box
    scores: tuple[float, ...]
    confirmed: bool
    best_score: float
    best_box: Box
    best_frame: int | None
    reported_ms: int
    reported: tuple[float, float]
    resting_ms: int
    resting: tuple[float, float]
    restless: int
    stationary: bool
    pending: tuple[Cause, ...]
    presences: Presences
    visited: tuple[str, ...]


def begin(track_id: int, label: str, score: float, box: Box, frame: int | None, time_ms: int) -> Life:
    """An object in its first frame."""
    middle = _middle(box)
    return Life(
        track_id, label, 1, time_ms, time_ms, score, box, (), False, score, box, frame, time_ms, middle,
        time_ms, middle, 0, False, (), {}, (),
    )  # fmt: skip


def see(life: Life, label: str, score: float, box: Box, frame: int | None, time_ms: int) -> None:
    """Another frame that shows it, or the first one."""
    if label == life.label:
        life.votes = min(life.votes + 1, MOST_VOTES)
    else:
        life.votes -= 1
        if life.votes <= 0:
            life.label, life.votes = label, 1
    life.last_ms, life.score, life.box = time_ms, score, box
    if score > life.best_score:
        life.best_score, life.best_box, life.best_frame = score, box, frame


def confirm(life: Life, frames: int, least: float) -> bool:
    """Whether it is new with this frame: the median of the scores of its latest frames has reached the least."""
    scores = life.scores = (*life.scores, life.score)[-frames:]
    if len(scores) < frames or _median(scores) < least:
        return False
    life.confirmed, life.scores = True, ()
    return True


def rest(life: Life, vision: SceneSettings, time_ms: int) -> None:
    """Find whether it has come to rest, or moves again; that is told with its next update."""
    if _away(life, life.resting, vision.stationary_share):
        life.restless += 1
        if life.restless >= RESTLESS_FRAMES:
            life.resting, life.resting_ms, life.restless = _middle(life.box), time_ms, 0
            if life.stationary:
                life.stationary = False
                _add(life, "moving", "stationary")
    else:
        life.restless = 0
        if not life.stationary and time_ms - life.resting_ms >= vision.stationary_s * 1000:
            life.stationary = True
            _add(life, "stationary", "moving")


def due(life: Life, vision: SceneSettings, time_ms: int, changes: Sequence[Cause]) -> tuple[Cause, ...]:
    """Causes of an update that is to be told now, none if there is nothing, or it is too early.

    Args:
        changes: of zones in this frame; they wait for nothing.
    """
    if not changes and time_ms - life.reported_ms < vision.update_interval_s * 1000:
        return ()
    moved: tuple[Cause, ...] = ("moved",) if _away(life, life.reported, vision.moved_share) else ()
    return (*moved, *changes, *life.pending)


def reported(life: Life, time_ms: int) -> None:
    """An event of its life was told."""
    life.reported_ms, life.reported, life.pending = time_ms, _middle(life.box), ()


def _add(life: Life, cause: Cause, opposite: Cause) -> None:
    life.pending = (*(each for each in life.pending if each not in (cause, opposite)), cause)


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _away(life: Life, place: tuple[float, float], share: float) -> bool:
    """Whether it is farther from a place than this share of its box's size, the root of its area."""
    x1, y1, x2, y2 = life.box
    dx, dy, area = (x1 + x2) / 2 - place[0], (y1 + y2) / 2 - place[1], (x2 - x1) * (y2 - y1)
    return dx * dx + dy * dy > share * share * (area if area > 1.0 else 1.0)


def _median(scores: Sequence[float]) -> float:
    ordered, half = sorted(scores), len(scores) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
