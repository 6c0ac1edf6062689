"""How far apart objects stand, in metres, and which pairs are too close for too long.

Where a camera has a homography, the bottom centre of a box is a point on the ground. Where it has none, a box of a
known real height is so far away as a pinhole camera would show it in that height, and its bottom centre is the
direction: good to a tenth or so for whoever stands upright and is seen whole.

References:
    R. Hartley, A. Zisserman: Multiple View Geometry in Computer Vision. Cambridge University Press, 2004 (2.3, 6.1).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.sites import Camera, SceneSettings, UnsafeDistance

MOST_PAIRS = 256  # that are close at once, before one camera
BLIND_MS = 10_000  # a pair in view that cannot be measured for so long is let go
EDGE_PX = 2.0  # a box that ends so near the upper or lower edge of the picture goes on behind it
Places = NDArray[np.float64]

State = Literal["raised", "escalated", "cleared"]
Ending = Literal["gone", "restarted"]  # of an object's life
Reason = Ending | Literal["relabelled", "unmeasured"]
Severity = Literal["warning", "critical"]


class Pair(msgspec.Struct, array_like=True, gc=False):
    """Two objects that are close, or were.

    Args:
        rule: its number among the settings' distances.
        first, second: track ids.
        near_ms: since when they have been closer than the limit, before that is told.
        far_ms: since when they have been safe again; None while they are not.
        raised_ms: when it was told; None before.
        critical: whether that was told.
        closest_m, last_m: the least distance so far, and the last.
        blind_ms: since when both are in view and one of them stands nobody knows where; None while that is known.
    """

    rule: int
    first: int
    second: int
    near_ms: int
    far_ms: int | None
    raised_ms: int | None
    critical: bool
    closest_m: float
    last_m: float
    blind_ms: int | None = None


class Alert(NamedTuple):
    """Something to tell about two objects.

    Args:
        reason: why it is cleared although nothing was seen to move away; None where it was, or nothing is cleared.
    """

    rule: UnsafeDistance
    first: int
    second: int
    state: State
    severity: Severity
    distance_m: float
    closest_m: float
    duration_s: float | None
    reason: Reason | None


class Ground:
    """Where objects before one camera stand.

    Args:
        camera: None for one that is not in the settings.
    """

    def __init__(self, vision: SceneSettings, camera: Camera | None) -> None:
        self._heights = vision.heights_m
        self._homography = None
        angle = vision.field_of_view_deg
        if camera is not None:
            angle = camera.field_of_view_deg or angle
            if camera.homography is not None:
                self._homography = np.array(camera.homography, np.float64)
        self._focal = 0.5 / math.tan(math.radians(angle) / 2)  # in widths of the picture

    def places(self, boxes: NDArray[np.float64], labels: Sequence[str], width: int, height: int) -> Places:
        """[k, 3] in metres, for k boxes; NaN for what cannot be said. Only distances between them mean anything."""
        feet = np.stack(((boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]), 1)
        if self._homography is not None:
            return self._mapped(feet, width, height)
        return self._estimated(feet, boxes, labels, width, height)

    def _mapped(self, feet: NDArray[np.float64], width: int, height: int) -> Places:
        rows = self._homography
        if rows is None:
            raise ValueError("mapping to the ground: there is no homography")
        # Ground has the sign that it has at the lower edge of the picture; the rest is above the horizon.
        below = rows[2] @ (width / 2, height, 1.0)
        mapped = np.column_stack((feet, np.ones(len(feet)))) @ rows.T
        depth = mapped[:, 2]
        places = np.zeros((len(feet), 3))
        with np.errstate(divide="ignore", invalid="ignore"):
            places[:, :2] = mapped[:, :2] / depth[:, None]
            places[~(depth * below > 0)] = np.nan
        return places

    def _estimated(
        self, feet: NDArray[np.float64], boxes: NDArray[np.float64], labels: Sequence[str], width: int, height: int
    ) -> Places:
        focal = self._focal * width
        real = np.array([self._heights.get(label, np.nan) for label in labels])
        whole = (boxes[:, 1] > EDGE_PX) & (boxes[:, 3] < height - EDGE_PX)
        depth = np.where(whole, focal * real / (boxes[:, 3] - boxes[:, 1]), np.nan)
        rays = np.column_stack(((feet - (width / 2, height / 2)) / focal, np.ones(len(feet))))
        return rays * depth[:, None]


class Closeness:
    """The pairs that are too close before one camera; state.

    Args:
        rules: that `streams.sites.check_scenes` has passed.
    """

    def __init__(self, rules: Sequence[UnsafeDistance], pairs: Sequence[Pair] = ()) -> None:
        self._rules = tuple(rules)
        self._pairs = {(p.rule, p.first, p.second): p for p in pairs if 0 <= p.rule < len(self._rules)}

    def pairs(self) -> list[Pair]:
        """All that are held."""
        return list(self._pairs.values())

    def copy(self) -> Closeness:
        """One that goes its own way."""
        twin = Closeness(self._rules)
        twin._pairs = {key: copy.copy(pair) for key, pair in self._pairs.items()}
        return twin

    def concerns(self, labels: Sequence[str]) -> bool:
        """Whether there is anything to measure between objects of these labels."""
        return any(rule.labels[0] in labels and rule.labels[1] in labels for rule in self._rules)

    def follow(
        self, ids: Sequence[int], labels: Sequence[str], where: Callable[[], Places], time_ms: int
    ) -> list[Alert]:
        """What there is to tell after a frame that shows these objects.

        Args:
            where: their places [k, 3]; asked for only where it matters.
        """
        alerts = self._relabelled(dict(zip(ids, labels, strict=True)), time_ms) if self._pairs else []
        if not self.concerns(labels):
            return alerts
        places = where()
        for number, rule in enumerate(self._rules):
            for first, second, distance in self._close(number, rule, ids, labels, places):
                measured = self._lost_sight if math.isnan(distance) else self._measure
                alert = measured(number, first, second, distance, time_ms)
                if alert is not None:
                    alerts.append(alert)
        return alerts

    def end(self, gone: Collection[int], reason: Ending, time_ms: int) -> list[Alert]:
        """What there is to tell when objects have ended: how far apart they are now, nobody knows."""
        alerts = []
        for key, pair in list(self._pairs.items()):
            if pair.first in gone or pair.second in gone:
                del self._pairs[key]
                if pair.raised_ms is not None:
                    alerts.append(self._alert(pair, "cleared", time_ms, reason))
        return alerts

    def _relabelled(self, labels: Mapping[int, str], time_ms: int) -> list[Alert]:
        """What there is to tell of pairs that turned out to be something else."""
        alerts = []
        for key, pair in list(self._pairs.items()):
            found = labels.get(pair.first), labels.get(pair.second)
            if None in found or found == self._rules[pair.rule].labels:
                continue
            del self._pairs[key]
            if pair.raised_ms is not None:
                alerts.append(self._alert(pair, "cleared", time_ms, "relabelled"))
        return alerts

    def _close(
        self, number: int, rule: UnsafeDistance, ids: Sequence[int], labels: Sequence[str], places: Places
    ) -> list[tuple[int, int, float]]:
        """The pairs that are within the rule's reach, nearest first, and those that are held; with their distance.

        That of a pair that is held may be NaN.
        """
        one, other = ([at for at, label in enumerate(labels) if label == kind] for kind in rule.labels)
        if not one or not other:
            return []
        apart = np.sqrt(((places[one][:, None] - places[other][None]) ** 2).sum(2))
        same = rule.labels[0] == rule.labels[1]
        if same:
            apart[np.tril_indices(len(one))] = np.inf
        rows, columns = np.nonzero(apart <= rule.limit_m)
        order = np.argsort(apart[rows, columns], kind="stable")
        found = {}
        for at in order[:MOST_PAIRS].tolist():
            row, column = rows[at], columns[at]
            found[self._key(ids[one[row]], ids[other[column]], same)] = float(apart[row, column])
        spots = {ids[at]: places[at] for at in (*one, *other)} if self._pairs else {}
        for held, first, second in self._pairs:
            if held == number and first in spots and second in spots and (first, second) not in found:
                found[first, second] = math.dist(spots[first], spots[second])
        return [(first, second, distance) for (first, second), distance in found.items()]

    @staticmethod
    def _key(first: int, second: int, same: bool) -> tuple[int, int]:
        return (second, first) if same and second < first else (first, second)

    def _measure(self, number: int, first: int, second: int, distance: float, time_ms: int) -> Alert | None:
        rule, key = self._rules[number], (number, first, second)
        pair = self._pairs.get(key)
        if pair is None:
            if len(self._pairs) >= MOST_PAIRS:
                return None
            pair = self._pairs[key] = Pair(number, first, second, time_ms, None, None, False, distance, distance)
        if pair.blind_ms is not None:  # what nobody saw counts for nothing
            unseen_ms, pair.blind_ms = max(time_ms - pair.blind_ms, 0), None
            pair.near_ms += unseen_ms
            pair.far_ms = None if pair.far_ms is None else pair.far_ms + unseen_ms
        pair.last_m, pair.closest_m = distance, min(pair.closest_m, distance)
        if pair.raised_ms is None:
            if distance > rule.limit_m:
                del self._pairs[key]
                return None
            if time_ms - pair.near_ms < rule.raise_s * 1000:
                return None
            pair.raised_ms, pair.critical = time_ms, pair.closest_m < rule.severe_m
            return self._alert(pair, "raised", time_ms)
        if distance > rule.limit_m * rule.clear_factor:
            pair.far_ms = time_ms if pair.far_ms is None else pair.far_ms
            if time_ms - pair.far_ms < rule.clear_s * 1000:
                return None
            del self._pairs[key]
            return self._alert(pair, "cleared", time_ms)
        pair.far_ms = None
        if distance < rule.severe_m and not pair.critical:
            pair.critical = True
            return self._alert(pair, "escalated", time_ms)
        return None

    def _lost_sight(self, number: int, first: int, second: int, _: float, time_ms: int) -> Alert | None:
        """Both are in view, and how far apart they are cannot be said."""
        key = number, first, second
        pair = self._pairs[key]
        pair.blind_ms = time_ms if pair.blind_ms is None else pair.blind_ms
        if time_ms - pair.blind_ms < BLIND_MS:
            return None
        del self._pairs[key]
        return None if pair.raised_ms is None else self._alert(pair, "cleared", time_ms, "unmeasured")

    def _alert(self, pair: Pair, state: State, time_ms: int, reason: Reason | None = None) -> Alert:
        duration_s = None
        if state == "cleared" and pair.raised_ms is not None:
            duration_s = max(time_ms - pair.raised_ms, 0) / 1000
        return Alert(
            self._rules[pair.rule], pair.first, pair.second, state, "critical" if pair.critical else "warning",
            pair.last_m, pair.closest_m, duration_s, reason,
        )  # fmt: skip
