"""What happens before one camera: tracked boxes in, events out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from models.vision.association import NONE
from streams.clock import rfc3339
from streams.pipelines.vision import lives
from streams.pipelines.vision.distance import Alert, Closeness, Ending, Ground, Pair
from streams.pipelines.vision.life_steps import CONFIRMED, DUE, ID, LABEL, MOVED, NEW, TURNED, Rules
from streams.pipelines.vision.lives import Box, Cause, Life, Lives, StoredLives
from streams.pipelines.vision.zones import Change, Presences, ZoneMap, left, occupied
from streams.schemas import OtherObject, VideoEvent
from streams.sites import Camera, SceneSettings

SCORE_DIGITS, PIXEL_DIGITS, METRE_DIGITS = 4, 1, 2
_CAUSES: dict[str, Cause] = {"enter": "entered", "leave": "left"}


class Site:
    """What the settings say of one camera, made ready; holds no state.

    Args:
        vision: that `streams.sites.check_scenes` has passed.
        camera: None for one that is not listed there.
    """

    def __init__(self, vision: SceneSettings, camera: Camera | None) -> None:
        self.vision, self.rules = vision, Rules.of(vision)
        self.zones = ZoneMap(camera.zones, camera.id) if camera else ZoneMap(())
        self.ground = Ground(vision, camera)


class Sight(NamedTuple):
    """What one frame shows.

    Args:
        frame: its number, where it has one.
        boxes: float64 [k, 4].
        scores: float64 [k].
        labels: [k].
        ids: int64 [k]; -1 for what is not tracked.
        within: [k], zones by number, from this frame alone.
        width, height: of the picture.
    """

    frame: int | None
    time_ms: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: list[str]
    ids: NDArray[np.int64]
    within: list[list[int]]
    width: int
    height: int


class Stay(NamedTuple):
    """What an object has to do with zones: how it stands to them, and those that it has been in, in that order."""

    presences: Presences
    visited: tuple[str, ...]

    def without(self, zone: str) -> Stay:
        """The same, outside a zone."""
        return self._replace(presences={name: kept for name, kept in self.presences.items() if name != zone})


class Stored(msgspec.Struct, array_like=True):
    """A scene as it is written; stays by track id."""

    lives: StoredLives
    stays: dict[int, Stay]
    pairs: list[Pair]


_NO_STAY = Stay({}, ())


class Scene:
    """The objects before one camera; state.

    An object is told when the median score of `confirm_frames` frames has reached `confirm_score`, and nothing of it
    before. It ends when its track does; with it end its stays in zones and its unsafe distances. What is told depends
    on the frames and the settings alone.
    """

    def __init__(self, camera_id: str, site: Site) -> None:
        self._camera_id, self._site = camera_id, site
        self._lives = Lives.none(site.vision.confirm_frames)
        self._stays: dict[int, Stay] = {}
        self._closeness = Closeness(site.vision.unsafe_distances)

    def stored(self) -> Stored:
        """All that is remembered."""
        self._lives = self._lives.named()  # here, so that the next time finds nothing to do
        return Stored(self._lives.stored(), self._stays, self._closeness.pairs())

    @classmethod
    def restored(cls, camera_id: str, site: Site, stored: Stored, alive: Collection[int]) -> Scene:
        """The scene that `stored` was called on, but with these settings.

        Args:
            alive: ids of the tracks that there are.

        Raises:
            ValueError: it cannot be one.
        """
        self = cls(camera_id, site)
        self._lives = Lives.restored(stored.lives, site.vision.confirm_frames)
        known = set(self._lives.whole[:, ID].tolist())
        if not known <= set(alive):
            raise ValueError("expected objects with tracks, one each, got others")
        if not stored.stays.keys() <= known:
            raise ValueError("expected stays of objects that there are, got others")
        if not all(pair.first in known and pair.second in known for pair in stored.pairs):
            raise ValueError("expected pairs of objects that there are, got others")
        zones = {zone.name for zone in site.zones.zones}
        self._stays = {
            track_id: Stay({zone: kept for zone, kept in stay.presences.items() if zone in zones}, stay.visited)
            for track_id, stay in stored.stays.items()
        }
        self._closeness = Closeness(site.vision.unsafe_distances, stored.pairs)
        return self

    def copy(self) -> Scene:
        """One that goes its own way."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._stays, twin._closeness = self._stays.copy(), self._closeness.copy()
        return twin

    def zones(self, ids: NDArray[np.int64], within: Sequence[Sequence[int]]) -> list[list[str]]:
        """The zones that boxes are in: those of an object as far as it is told, those of another as one frame has it.

        Args:
            ids: int64 [k]; -1 for what is not tracked.
            within: [k], zones by number.
        """
        if not self._site.zones.zones:
            return [[]] * len(within)  # one for all, which nobody writes to
        whole = self._lives.whole
        told = set(whole[whole[:, CONFIRMED] == 1, ID].tolist())
        return [
            occupied(self._stay(track_id).presences) if track_id in told else self._site.zones.names(here)
            for track_id, here in zip(ids.tolist(), within, strict=True)
        ]

    def update(self, sight: Sight, alive: NDArray[np.int64]) -> list[VideoEvent]:
        """What is to be told after a frame.

        Args:
            alive: ids of all tracks that live after it, seen or not.
        """
        following, rows, found, ended = lives.follow(
            self._lives, alive, sight.ids, sight.labels, sight.scores, sight.boxes, sight.frame, sight.time_ms,
            self._site.rules,
        )  # fmt: skip
        events = self._end(ended.tolist(), "gone", sight.frame, sight.time_ms) if len(ended) else []
        self._lives = following
        # Few frames have anything to tell; but where there are zones, each says where its objects are.
        zoned = bool(self._site.zones.zones)
        for row, what, within in zip(rows.tolist(), found.tolist(), sight.within, strict=True):
            if what & (NEW | DUE) or (zoned and row != NONE):
                events += self._tell(row, what, within, sight)
        if self._site.vision.unsafe_distances:
            events += self._distances(rows, sight)
        return events

    def end(self, reason: Ending, frame: int | None, time_ms: int) -> list[VideoEvent]:
        """Everything ends; what is to be told of it."""
        events = self._end(range(len(self._lives.whole)), reason, frame, time_ms)
        self._lives = Lives.none(self._site.vision.confirm_frames)
        return events

    def _stay(self, track_id: int) -> Stay:
        return self._stays.get(track_id, _NO_STAY)

    def _tell(self, row: int, found: int, within: Sequence[int], sight: Sight) -> Iterator[VideoEvent]:
        """What there is to tell of an object that a frame shows."""
        life, time_ms = self._lives.one(row), sight.time_ms
        if found & NEW:
            before = life.stationary != bool(found & TURNED)
            yield self._event("new", life._replace(stationary=before), sight.frame, time_ms)
        changes = self._follow_zones(life, within, time_ms)
        actions = dict.fromkeys(_CAUSES[change.action] for change in changes if change.action in _CAUSES)
        if life.confirmed and (actions or found & DUE):
            moved: tuple[Cause, ...] = ("moved",) if found & MOVED else ()
            if causes := [*moved, *actions, *self._lives.pending(row)]:
                yield self._event("update", life, sight.frame, time_ms, causes=causes)
                self._lives.reported(row, time_ms)
        for change in changes:
            yield self._zone(life, change, sight.frame, time_ms)

    def _follow_zones(self, life: Life, within: Sequence[int], time_ms: int) -> Sequence[Change]:
        """What there is to tell of an object and the zones."""
        stay = self._stay(life.track_id)
        presences, changes = self._site.zones.follow(stay.presences, within, time_ms, confirmed=life.confirmed)
        entered = [change.zone for change in changes if change.action == "enter" and change.zone not in stay.visited]
        if stay is not _NO_STAY or presences:
            self._stays[life.track_id] = Stay(presences, (*stay.visited, *entered))
        return changes

    def _distances(self, rows: NDArray[np.int64], sight: Sight) -> list[VideoEvent]:
        shown = np.flatnonzero(rows != NONE)
        shown = shown[self._lives.whole[rows[shown], CONFIRMED] == 1]
        if len(shown) < 2:
            return []
        names = list(self._lives.labels)
        labels = [names[number] for number in self._lives.whole[rows[shown], LABEL].tolist()]
        ground = self._site.ground
        alerts = self._closeness.follow(
            sight.ids[shown].tolist(),
            labels,
            lambda: ground.places(sight.boxes[shown], labels, sight.width, sight.height),
            sight.time_ms,
        )
        return [self._unsafe(alert, sight.frame, sight.time_ms) for alert in alerts]

    def _end(self, rows: Collection[int], reason: Ending, frame: int | None, time_ms: int) -> list[VideoEvent]:
        """What there is to tell of lives that end; who calls takes them out."""
        ending = sorted((self._lives.one(row) for row in rows), key=attrgetter("track_id"))
        ids = {life.track_id for life in ending}
        events = [self._unsafe(alert, frame, time_ms) for alert in self._closeness.end(ids, reason, time_ms)]
        for life in ending:
            if life.confirmed:
                events += self._ended(life, reason, frame, time_ms)
        self._stays = {track_id: stay for track_id, stay in self._stays.items() if track_id not in ids}
        return events

    def _ended(self, life: Life, reason: Ending, frame: int | None, time_ms: int) -> Iterator[VideoEvent]:
        stay = self._stay(life.track_id)
        for change in left(stay.presences, life.last_ms):
            self._stays[life.track_id] = stay = stay.without(change.zone)
            yield self._zone(life, change, frame, time_ms, reason)
        yield self._event(
            "end",
            life,
            frame,
            time_ms,
            reason=reason,
            duration_s=max(life.last_ms - life.first_ms, 0) / 1000,
            last_seen=rfc3339(life.last_ms / 1000),
            best_score=round(life.best_score, SCORE_DIGITS),
            best_box=_rounded(life.best_box),
            best_frame=life.best_frame,
            zones_visited=list(stay.visited),
        )

    def _zone(
        self, life: Life, change: Change, frame: int | None, time_ms: int, reason: Ending | UnsetType = UNSET
    ) -> VideoEvent:
        stay_s = UNSET if change.action == "enter" else change.stay_s
        return self._event(
            "zone", life, frame, time_ms, zone=change.zone, action=change.action, duration_s=stay_s, reason=reason
        )

    def _unsafe(self, alert: Alert, frame: int | None, time_ms: int) -> VideoEvent:
        ids = self._lives.whole[:, ID].tolist()
        first, second = (self._lives.one(ids.index(track_id)) for track_id in (alert.first, alert.second))
        return self._event(
            "unsafe_distance",
            first,
            frame,
            time_ms,
            state=alert.state,
            severity=alert.severity,
            other=OtherObject(second.track_id, second.label, _rounded(second.box)),
            distance_m=round(alert.distance_m, METRE_DIGITS),
            closest_m=round(alert.closest_m, METRE_DIGITS),
            limit_m=alert.rule.limit_m,
            duration_s=UNSET if alert.duration_s is None else alert.duration_s,
            reason=alert.reason or UNSET,
        )

    def _event(self, kind: Any, life: Life, frame: int | None, time_ms: int, **more: Any) -> VideoEvent:
        return VideoEvent(
            kind,
            self._camera_id,
            frame,
            rfc3339(time_ms / 1000),
            life.track_id,
            life.label,
            round(life.score, SCORE_DIGITS),
            _rounded(life.box),
            occupied(self._stay(life.track_id).presences),
            rfc3339(life.first_ms / 1000),
            life.stationary,
            **more,
        )


def _rounded(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return round(x1, PIXEL_DIGITS), round(y1, PIXEL_DIGITS), round(x2, PIXEL_DIGITS), round(y2, PIXEL_DIGITS)
