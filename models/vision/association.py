"""Compiled kernels that carry tracks from one frame to the next.

A track is a row of `TRACK_WORDS` float64. Position and size of its box (centre x and y, width, height, in px) each move
at a velocity of their own, in px/s. All noise is in proportion to the size of the box and the same for the four of
them, so the Kalman filter of eight numbers falls apart into four of two with one covariance, three numbers.

References:
    Y. Zhang, P. Sun, Y. Jiang et al.: ByteTrack: Multi-Object Tracking by Associating Every Detection Box. ECCV 2022.
    R. Jonker, A. Volgenant: A Shortest Augmenting Path Algorithm for Dense and Sparse Linear Assignment Problems.
    Computing 38, 1987.
    F. Yang, S. Odashima, S. Masui, S. Jiang: Hard to Track Objects With Irregular Motions and Similar Appearances? Make
    It Easier by Buffering the Matching Space. WACV 2023 (boxes are widened before they are compared).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Columns of a track; ID is 0 until it is confirmed, MISSED the frames since SEEN.
ID, CLASS, SEEN_MS, MISSED, X, Y, W, H, VX, VY, VW, VH, VAR, COVAR, VAR_V = range(15)
TRACK_WORDS = 15
MOST_TRACKS = 300
NONE = -1

# In sizes of the box, the root of its area.
MEASURED = 0.05  # standard deviation of a detected box
PACE = 1.0  # of the speed of a new track, per second
CHANGE = 0.6  # by how much a speed wanders within a second
MARGIN = 0.1  # boxes are widened by this on each side, and by the standard deviation of the place
MOST_MARGIN = 0.4

# The least IoU of widened boxes that makes a pair.
FIRST, WEAK, TENTATIVE, OTHER_CLASS, NEAR = 0.3, 0.3, 0.2, 0.6, 0.1


class Limits(NamedTuple):
    """Which scores may do what, and how long a track is remembered."""

    low: float
    high: float
    new: float
    lost_ms: float


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile without the GIL on first use, and keep the machine code on disk.

    Kernels copy word by word: an assignment to a slice takes half a second to compile.
    """
    return cast(Callable[P, R], njit(nogil=True, cache=True, error_model="numpy")(function))


@kernel
def solve(weights: Float64) -> Int64:
    """What `assign` does, in time cubic in the number of rows or columns, the smaller one."""
    rows, columns = weights.shape
    found = np.full(rows, NONE, np.int64)
    wide = rows <= columns
    n, m = (rows, columns) if wide else (columns, rows)
    # Shortest augmenting paths over costs of -weight; row and column 0 stand for none.
    u, v = np.zeros(n + 1), np.zeros(m + 1)
    matched, way = np.zeros(m + 1, np.int64), np.zeros(m + 1, np.int64)
    least, used = np.empty(m + 1), np.empty(m + 1, np.bool_)
    for row in range(1, n + 1):
        matched[0] = row
        column = 0
        for each in range(m + 1):
            least[each], used[each] = np.inf, False
        while True:
            used[column] = True
            at, delta, following = matched[column], np.inf, 0
            for each in range(1, m + 1):
                if used[each]:
                    continue
                weight = weights[at - 1, each - 1] if wide else weights[each - 1, at - 1]
                cost = -max(weight, 0.0) - u[at] - v[each]
                if cost < least[each]:
                    least[each] = cost
                    way[each] = column
                if least[each] < delta:
                    delta = least[each]
                    following = each
            for each in range(m + 1):
                if used[each]:
                    u[matched[each]] += delta
                    v[each] -= delta
                else:
                    least[each] -= delta
            column = following
            if matched[column] == 0:
                break
        while column != 0:
            before = way[column]
            matched[column] = matched[before]
            column = before
    for column in range(1, m + 1):
        row = matched[column]
        if row == 0:
            continue
        if wide and weights[row - 1, column - 1] > 0:
            found[row - 1] = column - 1
        elif not wide and weights[column - 1, row - 1] > 0:
            found[column - 1] = row - 1
    return found


@kernel
def assign(weights: Float64) -> Int64:
    """Match rows with columns, each at most once, so that the sum of their weights is largest.

    Args:
        weights: [n, m], finite; pairs with a weight of zero or less are never matched.

    Returns:
        [n]: the column of each row, or -1.
    """
    found = np.full(weights.shape[0], NONE, np.int64)
    of_row, of_column = np.zeros(weights.shape[0], np.int64), np.zeros(weights.shape[1], np.int64)
    for row in range(weights.shape[0]):
        for column in range(weights.shape[1]):
            if weights[row, column] > 0:
                of_row[row] += 1
                of_column[column] += 1
                found[row] = column
    # Most objects stand apart: a pair of which neither has another choice belongs together.
    for row in range(weights.shape[0]):
        if of_row[row] == 1 and of_column[found[row]] == 1:
            of_row[row] = of_column[found[row]] = 0
    rows, columns = _nonzero(of_row), _nonzero(of_column)
    if len(rows):
        rivals = np.empty((len(rows), len(columns)))
        for i in range(len(rows)):
            for j in range(len(columns)):
                rivals[i, j] = weights[rows[i], columns[j]]
        solved = solve(rivals)
        for i in range(len(rows)):
            found[rows[i]] = NONE if solved[i] == NONE else columns[solved[i]]
    return found


@kernel
def _nonzero(counts: Int64) -> Int64:
    """Where a count is not zero."""
    places, found = np.empty(len(counts), np.int64), 0
    for place in range(len(counts)):
        if counts[place]:
            places[found] = place
            found += 1
    return places[:found]


@kernel
def widening(track: Float64) -> float:
    """The share of its sides by which a track's box is widened on each side."""
    return min(MARGIN + math.sqrt(max(track[VAR], 0.0) / (track[W] * track[H])), MOST_MARGIN)


@kernel
def overlap(track: Float64, margin: float, box: Float64) -> float:
    """IoU of a track's box and a detected one (x1, y1, x2, y2), each widened by the same share of its sides."""
    half_w, half_h = track[W] * (0.5 + margin), track[H] * (0.5 + margin)
    wide, high = (box[2] - box[0]) * margin, (box[3] - box[1]) * margin
    left, right = max(track[X] - half_w, box[0] - wide), min(track[X] + half_w, box[2] + wide)
    top, bottom = max(track[Y] - half_h, box[1] - high), min(track[Y] + half_h, box[3] + high)
    if right <= left or bottom <= top:
        return 0.0
    both = (right - left) * (bottom - top)
    area = (box[2] - box[0] + 2 * wide) * (box[3] - box[1] + 2 * high)
    iou: float = both / (4 * half_w * half_h + area - both)
    return iou


@kernel
def match(
    tracks: Float64, boxes: Float64, classes: Int64, rows: Int64, columns: Int64, least: float, same: bool
) -> Int64:
    """Match the tracks `rows` [n] with the boxes `columns` [m] of the same class, or of any other.

    Returns:
        [n]: the box of each of them, a number in `boxes`, or -1.
    """
    found = np.full(len(rows), NONE, np.int64)
    if len(rows) == 0 or len(columns) == 0:
        return found
    weights = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        margin = widening(tracks[row])
        for j, column in enumerate(columns):
            if (classes[column] == tracks[row, CLASS]) == same:
                weights[i, j] = overlap(tracks[row], margin, boxes[column]) - least
    for i, j in enumerate(assign(weights)):
        if j != NONE:
            found[i] = columns[j]
    return found


@kernel
def predict(tracks: Float64, dt: float) -> None:
    """Move tracks on by `dt` seconds; a negative one takes them back."""
    for track in tracks:
        size = math.sqrt(track[W] * track[H])
        wander = (CHANGE * size) ** 2 * abs(dt)
        track[VAR] += 2 * dt * track[COVAR] + dt * dt * (track[VAR_V] + wander / 3)
        track[COVAR] += dt * (track[VAR_V] + wander / 2)
        track[VAR_V] += wander
        track[X] += dt * track[VX]
        track[Y] += dt * track[VY]
        if track[MISSED] == 0:  # what shrinks because it is being hidden must not shrink to nothing
            track[W] = max(track[W] + dt * track[VW], 0.5 * track[W])
            track[H] = max(track[H] + dt * track[VH], 0.5 * track[H])


@kernel
def correct(track: Float64, box: Float64, class_id: int, now_ms: float) -> None:
    """Put a detected box into its track."""
    noise = MEASURED * MEASURED * track[W] * track[H]
    total = track[VAR] + noise
    gain, gain_v = track[VAR] / total, track[COVAR] / total
    measured = (
        (box[0] + box[2]) / 2,
        (box[1] + box[3]) / 2,
        box[2] - box[0],
        box[3] - box[1],
    )
    for axis in range(4):
        off = measured[axis] - track[X + axis]
        track[X + axis] += gain * off
        track[VX + axis] += gain_v * off
    track[W], track[H] = max(track[W], 1.0), max(track[H], 1.0)
    track[VAR_V] -= gain_v * track[COVAR]
    track[COVAR] *= 1 - gain
    track[VAR] *= 1 - gain
    track[CLASS], track[SEEN_MS], track[MISSED] = class_id, now_ms, 0


@kernel
def begin(track: Float64, box: Float64, class_id: int, now_ms: float) -> None:
    """A track of one box, not confirmed yet."""
    for word in range(TRACK_WORDS):
        track[word] = 0
    track[CLASS], track[SEEN_MS] = class_id, now_ms
    track[X], track[Y] = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    track[W], track[H] = max(box[2] - box[0], 1.0), max(box[3] - box[1], 1.0)
    area = track[W] * track[H]
    track[VAR], track[VAR_V] = MEASURED * MEASURED * area, PACE * PACE * area


@kernel
def free_tracks(tracks: Float64, box_of: Int64, confirmed: bool) -> Int64:
    """Rows of the tracks that have no box yet, of those that are confirmed or of the others."""
    rows = np.empty(len(tracks), np.int64)
    found = 0
    for row in range(len(tracks)):
        if box_of[row] == NONE and (tracks[row, ID] > 0) == confirmed:
            rows[found] = row
            found += 1
    return rows[:found]


@kernel
def free_boxes(scores: Float64, track_of: Int64, least: float, below: float) -> Int64:
    """Rows of the boxes that have no track yet, and a score from `least` up to `below`."""
    rows = np.empty(len(scores), np.int64)
    found = 0
    for row in range(len(scores)):
        if track_of[row] == NONE and least <= scores[row] < below:
            rows[found] = row
            found += 1
    return rows[:found]


@kernel
def associate(tracks: Float64, boxes: Float64, scores: Float64, classes: Int64, limits: Limits) -> tuple[Int64, Int64]:
    """The box of each track [n] and the track of each box [k], rows; -1 for none.

    Boxes with high scores come first, then those with low ones, each for confirmed tracks; what is left of the high
    ones may confirm a track, or go on with one of another class that nearly coincides.
    """
    box_of, track_of = np.full(len(tracks), NONE, np.int64), np.full(len(boxes), NONE, np.int64)
    for stage in range(4):
        rows = free_tracks(tracks, box_of, stage != 2)
        low = stage == 1
        columns = free_boxes(scores, track_of, limits.low if low else limits.high, limits.high if low else np.inf)
        least = (FIRST, WEAK, TENTATIVE, OTHER_CLASS)[stage]
        found = match(tracks, boxes, classes, rows, columns, least, stage != 3)
        for place in range(len(rows)):
            if found[place] != NONE:
                box_of[rows[place]] = found[place]
                track_of[found[place]] = rows[place]
    return box_of, track_of


@kernel
def step(
    tracks: Float64,
    next_id: int,
    boxes: Float64,
    scores: Float64,
    classes: Int64,
    now_ms: float,
    dt: float,
    limits: Limits,
) -> tuple[Float64, int, Int64]:
    """Carry tracks [n, TRACK_WORDS] over to a frame with k boxes.

    Returns:
        tracks as they are then, the next id, and the track id of each box [k]: -1 where it has none.
    """
    tracks = tracks.copy()
    predict(tracks, dt)
    box_of, track_of = associate(tracks, boxes, scores, classes, limits)
    ids = np.full(len(boxes), NONE, np.int64)
    for box in range(len(boxes)):  # in the order of the boxes, by which new ids are given
        row = track_of[box]
        if row != NONE:
            correct(tracks[row], boxes[box], classes[box], now_ms)
            if tracks[row, ID] == 0:
                tracks[row, ID] = next_id
                next_id += 1
            ids[box] = np.int64(tracks[row, ID])
    following = np.empty((MOST_TRACKS, TRACK_WORDS))
    count = 0
    for row in range(len(tracks)):
        if box_of[row] == NONE:
            tracks[row, MISSED] += 1
            if tracks[row, ID] == 0 or now_ms - tracks[row, SEEN_MS] > limits.lost_ms:
                continue
        for word in range(TRACK_WORDS):
            following[count, word] = tracks[row, word]
        count += 1
    for box in free_boxes(scores, track_of, limits.new, np.inf)[: MOST_TRACKS - count]:
        begin(following[count], boxes[box], classes[box], now_ms)
        count += 1
    return following[:count].copy(), next_id, ids


@kernel
def confirmed(tracks: Float64) -> Int64:
    """Ids of the tracks that have one."""
    ids, count = np.empty(len(tracks), np.int64), 0
    for row in range(len(tracks)):
        if tracks[row, ID] > 0:
            ids[count] = np.int64(tracks[row, ID])
            count += 1
    return ids[:count]


@kernel
def look(tracks: Float64, boxes: Float64, classes: Int64, dt: float) -> Int64:
    """The track id of each of k boxes [k] in a frame `dt` seconds from the tracks, -1 for none; nothing changes."""
    tracks = tracks.copy()
    predict(tracks, dt)
    ids = np.full(len(boxes), NONE, np.int64)
    rows = free_tracks(tracks, np.full(len(tracks), NONE, np.int64), True)
    for place, box in enumerate(match(tracks, boxes, classes, rows, np.arange(len(boxes)), NEAR, True)):
        if box != NONE:
            ids[box] = np.int64(tracks[rows[place], ID])
    return ids
