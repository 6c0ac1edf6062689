"""Compiled kernels that carry the lives of objects from one frame to the next.

An object is a row of `WHOLE` whole numbers and one of `REAL` others.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from models.vision.association import NONE, Float64, Int64, kernel
from streams.sites import SceneSettings

MOST_VOTES = 25  # a label that was right for long gives way after so many frames
RESTLESS_FRAMES = 3  # so many frames in a row away from its place, and an object moves: a box may jump

# Columns of whole numbers. LABEL is a place among the names; VOTES are the frames that spoke for it, less those that
# spoke against it; SCORED counts the scores that are kept until CONFIRMED; BEST_FRAME is NONE where that had no number;
# REPORTED_MS is when the last event of its life was told; RESTING_MS since when it has been at one place; RESTLESS the
# frames in a row away from there; PENDING what its next update is to say of rest.
ID, LABEL, VOTES, FIRST_MS, LAST_MS, CONFIRMED, SCORED, BEST_FRAME, REPORTED_MS = range(9)
RESTING_MS, RESTLESS, STATIONARY, PENDING = range(9, 13)
WHOLE = 13
# Columns of others: a score, a box of four, those of the best frame, the middle of the box when it was reported, and
# where it rests, x and y.
SCORE, BOX, BEST_SCORE, BEST_BOX, REPORTED, RESTING = 0, 1, 5, 6, 10, 12
REAL = 14

NEW, DUE, MOVED, TURNED = 1, 2, 4, 8
"""What `carry` finds: it is new; an update is due, its zones aside; it has moved since the last event; with this frame
it has come to rest, or moves again."""
_RESTS, _MOVES = 1, 2


class Rules(NamedTuple):
    """What decides, of the settings."""

    confirm_score: float
    update_ms: float
    moved_share: float
    stationary_ms: float
    stationary_share: float

    @classmethod
    def of(cls, vision: SceneSettings) -> Self:
        """Those of the settings."""
        numbers = (
            vision.confirmed_from,
            vision.update_interval_s * 1000,
            vision.moved_share,
            vision.stationary_s * 1000,
            vision.stationary_share,
        )
        return cls(*map(float, numbers))  # for one that is an int, the kernels would be compiled once more


@kernel
def carry(
    whole: Int64,
    real: Float64,
    kept: Float64,
    alive: Int64,
    ids: Int64,
    labels: Int64,
    scores: Float64,
    boxes: Float64,
    frame: int,
    time_ms: int,
    rules: Rules,
) -> tuple[Int64, Float64, Float64, Int64, Int64, Int64]:
    """What `lives.follow` does: arrays of the lives [n, WHOLE], [n, REAL] and [n, confirm_frames], and k boxes.

    Returns:
        the three arrays as they are then, the row of each box [k], what there is to tell of it [k], and the rows that
        have ended [e], as they were before.
    """
    going, ended = _parted(whole, alive)
    rows, known = np.full(len(ids), NONE, np.int64), len(going)
    count = known
    for at in range(len(ids)):
        if ids[at] != NONE:
            for row in range(known):
                if whole[going[row], ID] == ids[at]:
                    rows[at] = row
                    break
            if rows[at] == NONE:
                rows[at] = count
                count += 1
    following = np.zeros((count, WHOLE), np.int64)
    others = np.zeros((count, REAL))
    latest = np.zeros((count, kept.shape[1]))
    for row in range(known):
        for column in range(WHOLE):
            following[row, column] = whole[going[row], column]
        for column in range(REAL):
            others[row, column] = real[going[row], column]
        for column in range(kept.shape[1]):
            latest[row, column] = kept[going[row], column]
    found = np.zeros(len(ids), np.int64)
    for at in range(len(ids)):
        row = rows[at]
        if row != NONE:
            if row >= known:
                _begin(following[row], others[row], ids[at], labels[at], scores[at], boxes[at], frame, time_ms)
            else:
                _see(following[row], others[row], labels[at], scores[at], boxes[at], frame, time_ms)
            found[at] = _judge(following[row], others[row], latest[row], time_ms, rules)
    return following, others, latest, rows, found, ended


@kernel
def _parted(whole: Int64, alive: Int64) -> tuple[Int64, Int64]:
    """Rows of the lives whose tracks are among these ids, and of the others."""
    going, ended = np.empty(len(whole), np.int64), np.empty(len(whole), np.int64)
    kept = 0
    for row in range(len(whole)):
        lives = False
        for track_id in alive:
            lives = lives or track_id == whole[row, ID]
        if lives:
            going[kept] = row
            kept += 1
        else:
            ended[row - kept] = row
    return going[:kept], ended[: len(whole) - kept]


@kernel
def _begin(
    whole: Int64, real: Float64, track_id: int, label: int, score: float, box: Float64, frame: int, time_ms: int
) -> None:
    """An object in its first frame."""
    whole[ID], whole[LABEL], whole[VOTES], whole[BEST_FRAME] = track_id, label, 1, frame
    whole[FIRST_MS] = whole[LAST_MS] = whole[RESTING_MS] = time_ms
    real[SCORE] = real[BEST_SCORE] = score
    for side in range(4):
        real[BOX + side] = real[BEST_BOX + side] = box[side]
    report(whole, real, time_ms)
    real[RESTING], real[RESTING + 1] = _middle(real)


@kernel
def _see(whole: Int64, real: Float64, label: int, score: float, box: Float64, frame: int, time_ms: int) -> None:
    """Another frame that shows it."""
    if label == whole[LABEL]:
        whole[VOTES] = min(whole[VOTES] + 1, MOST_VOTES)
    else:
        whole[VOTES] -= 1
        if whole[VOTES] <= 0:
            whole[LABEL], whole[VOTES] = label, 1
    whole[LAST_MS], real[SCORE] = time_ms, score
    best = score > real[BEST_SCORE]
    if best:
        real[BEST_SCORE], whole[BEST_FRAME] = score, frame
    for side in range(4):
        real[BOX + side] = box[side]
        if best:
            real[BEST_BOX + side] = box[side]


@kernel
def _judge(whole: Int64, real: Float64, latest: Float64, time_ms: int, rules: Rules) -> int:
    """What there is to tell of an object that has just been seen."""
    found = 0
    if whole[CONFIRMED] == 0 and _confirm(whole, latest, real[SCORE], rules.confirm_score):
        found |= NEW
        report(whole, real, time_ms)
    before = whole[STATIONARY]
    _rest(whole, real, time_ms, rules)
    if whole[STATIONARY] != before:
        found |= TURNED
    if _away(real, REPORTED, rules.moved_share):
        found |= MOVED
    due = whole[CONFIRMED] == 1 and time_ms - whole[REPORTED_MS] >= rules.update_ms
    if due and (found & MOVED != 0 or whole[PENDING] != 0):
        found |= DUE
    return found


@kernel
def _confirm(whole: Int64, latest: Float64, score: float, least: float) -> bool:
    """Whether it is new with this score: the median of the latest has reached the least."""
    if whole[SCORED] == len(latest):
        for at in range(len(latest) - 1):
            latest[at] = latest[at + 1]
        whole[SCORED] -= 1
    latest[whole[SCORED]] = score
    whole[SCORED] += 1
    if whole[SCORED] < len(latest) or _median(latest) < least:
        return False
    whole[CONFIRMED], whole[SCORED] = 1, 0
    for at in range(len(latest)):
        latest[at] = 0
    return True


@kernel
def _median(numbers: Float64) -> float:
    ordered = numbers.copy()
    for at in range(1, len(ordered)):
        number, place = ordered[at], at
        while place > 0 and ordered[place - 1] > number:
            ordered[place] = ordered[place - 1]
            place -= 1
        ordered[place] = number
    half = len(ordered) // 2
    median: float = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return median


@kernel
def _rest(whole: Int64, real: Float64, time_ms: int, rules: Rules) -> None:
    """Find whether it has come to rest, or moves again; that is told with its next update."""
    if _away(real, RESTING, rules.stationary_share):
        whole[RESTLESS] += 1
        if whole[RESTLESS] >= RESTLESS_FRAMES:
            real[RESTING], real[RESTING + 1] = _middle(real)
            whole[RESTING_MS], whole[RESTLESS] = time_ms, 0
            if whole[STATIONARY]:
                whole[STATIONARY], whole[PENDING] = 0, _MOVES
    else:
        whole[RESTLESS] = 0
        if not whole[STATIONARY] and time_ms - whole[RESTING_MS] >= rules.stationary_ms:
            whole[STATIONARY], whole[PENDING] = 1, _RESTS


@kernel
def report(whole: Int64, real: Float64, time_ms: int) -> None:
    """An event of its life is told."""
    whole[REPORTED_MS], whole[PENDING] = time_ms, 0
    real[REPORTED], real[REPORTED + 1] = _middle(real)


@kernel
def _middle(real: Float64) -> tuple[float, float]:
    return (real[BOX] + real[BOX + 2]) / 2, (real[BOX + 1] + real[BOX + 3]) / 2


@kernel
def _away(real: Float64, place: int, share: float) -> bool:
    """Whether it is farther from a place than this share of its box's size, the root of its area."""
    x, y = _middle(real)
    dx, dy = x - real[place], y - real[place + 1]
    area = (real[BOX + 2] - real[BOX]) * (real[BOX + 3] - real[BOX + 1])
    far: bool = dx * dx + dy * dy > share * share * max(area, 1.0)
    return far
