"""Zones of one camera: which objects are in them, with inertia, and who enters, leaves and loiters."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.vision.polygons import inside
from streams.sites import Zone

logger = logging.getLogger(__name__)

Action = Literal["enter", "leave", "loiter"]


class Presence(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How one object stands to one zone.

    Args:
        inside: what counts.
        run: frames in a row that say otherwise.
        turned_ms: event time of the first of them.
        since_ms: event time since when it is inside.
        loitered: whether that has been told.
    """

    inside: bool
    run: int
    turned_ms: int
    since_ms: int
    loitered: bool


Presences = dict[str, Presence]
_OUTSIDE = Presence(False, 0, 0, 0, False)


class Change(NamedTuple):
    """Something to tell about an object and a zone; `stay_s` is since it entered."""

    zone: str
    action: Action
    stay_s: float


class ZoneMap:
    """The zones of one camera.

    Args:
        zones: that `streams.sites.check_scenes` has passed.
        camera_id: whose they are, for the log.
    """

    def __init__(self, zones: Sequence[Zone], camera_id: str = "") -> None:
        self.zones = tuple(zones)
        self._camera_id = camera_id
        self._ends = np.cumsum([len(zone.polygon) for zone in zones], dtype=np.int64)
        self._corners = np.array([corner for zone in zones for corner in zone.polygon], np.float64).reshape(-1, 2)
        self._shares = np.repeat([zone.normalised for zone in zones], [len(zone.polygon) for zone in zones])
        self._labels = [frozenset(zone.labels) for zone in zones]
        self._size, self._scaled = (0, 0), self._corners
        self._told: set[str] = set()

    def within(self, boxes: NDArray[np.float64], labels: Sequence[str], width: int, height: int) -> list[list[int]]:
        """For each of k boxes the zones, by number, that its bottom centre is in and that its label counts in."""
        if not self.zones or not len(boxes):
            return [[]] * len(labels)  # one for all, which nobody writes to
        if self._size != (width, height):
            scale = np.where(self._shares[:, None], (width, height), 1.0)
            self._size, self._scaled = (width, height), self._corners * scale
            self._tell_outside()
        # Whoever is cut off by the lower edge stands in its last row, which zones that end with the picture hold.
        lowest = np.minimum(boxes[:, 3], np.nextafter(height - 1.0, 0.0))
        feet = np.stack(((boxes[:, 0] + boxes[:, 2]) / 2, lowest), 1)
        found = inside(feet, self._scaled, self._ends).tolist()
        return [
            [zone for zone, here in enumerate(row) if here and (not self._labels[zone] or label in self._labels[zone])]
            for row, label in zip(found, labels, strict=True)
        ]

    def _tell_outside(self) -> None:
        """Log the zones in which nothing of a picture can stand, each once."""
        first = 0
        for zone, end in zip(self.zones, self._ends.tolist(), strict=True):
            corners = self._scaled[first:end]
            first = end
            outside = (corners.min(0) >= self._size).any() or (corners.max(0) <= 0).any()
            if outside and zone.name not in self._told:
                self._told.add(zone.name)
                logger.warning(
                    "zone %r of camera %r lies outside its pictures of %d x %d: nothing is ever in it; its corners are "
                    "pixels, or shares of the picture where all are from 0 to 1",
                    zone.name, self._camera_id, *self._size,
                )  # fmt: skip

    def names(self, within: Sequence[int]) -> list[str]:
        """Names of zones by number."""
        return [self.zones[zone].name for zone in within]

    def follow(
        self, presences: Presences, within: Sequence[int], time_ms: int, *, confirmed: bool
    ) -> tuple[Presences, Sequence[Change]]:
        """Where an object stands after one more frame, and what there is to tell.

        Args:
            presences: as they were; not changed. Zones that are not there any more are dropped.
            within: zones that it is in by this frame alone.
            confirmed: until it is, it enters nothing, but its frames count.
        """
        if not presences and not within:
            return presences, ()
        following: Presences = {}
        changes: list[Change] = []
        for number, zone in enumerate(self.zones):
            before, here = presences.get(zone.name, _OUTSIDE), number in within
            if before is _OUTSIDE and not here:
                continue
            after = _step(before, here, time_ms, zone.inertia_frames if confirmed else None)
            if after.inside != before.inside:
                action: Action = "enter" if after.inside else "leave"
                changes.append(Change(zone.name, action, 0.0 if after.inside else _stay(before, after.turned_ms)))
            elif after.inside and not after.loitered and zone.loiter_s is not None:
                stay_s = _stay(after, time_ms)
                if here and stay_s >= zone.loiter_s:
                    after = msgspec.structs.replace(after, loitered=True)
                    changes.append(Change(zone.name, "loiter", stay_s))
            if after.inside or after.run:
                following[zone.name] = after
        return following, changes


def warm_up() -> None:
    """Compile the kernel, or load it."""
    ZoneMap([Zone("all", ((0, 0), (1, 0), (1, 1)))]).within(np.ones((1, 4)), [""], 2, 2)


def occupied(presences: Mapping[str, Presence]) -> list[str]:
    """Names of the zones that an object is in."""
    return [name for name, presence in presences.items() if presence.inside] if presences else []


def left(presences: Mapping[str, Presence], time_ms: int) -> list[Change]:
    """What there is to tell when an object ends that was last seen then."""
    return [Change(zone, "leave", _stay(presences[zone], time_ms)) for zone in occupied(presences)]


def _stay(presence: Presence, until_ms: int) -> float:
    return max(until_ms - presence.since_ms, 0) / 1000


def _step(before: Presence, here: bool, time_ms: int, inertia_frames: int | None) -> Presence:
    """Args: inertia_frames: how long a run turns it; None: none does."""
    if here == before.inside:
        return before if not before.run else Presence(before.inside, 0, 0, before.since_ms, before.loitered)
    turned_ms = before.turned_ms if before.run else time_ms
    if inertia_frames is None or before.run + 1 < inertia_frames:
        return Presence(before.inside, before.run + 1, turned_ms, before.since_ms, before.loitered)
    return Presence(here, 0, turned_ms, turned_ms if here else 0, False)
