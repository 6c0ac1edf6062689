"""What happens before one camera: tracked boxes in, events out."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from streams.clock import rfc3339
from streams.pipelines.vision import lives
from streams.pipelines.vision.distance import Alert, Closeness, Ground, Pair
from streams.pipelines.vision.lives import Box, Cause, Life
from streams.pipelines.vision.zones import Change, ZoneMap, left, occupied
from streams.schemas import OtherObject, VideoEvent
from streams.sites import Camera, SceneSettings

SCORE_DIGITS, PIXEL_DIGITS, METRE_DIGITS = 4, 1, 2
Reason = Literal["gone", "restarted"]
_CAUSES: dict[str, Cause] = {"enter": "entered", "leave": "left"}


class Site:
    """What the settings say of one camera, made ready; holds no state.

    Args:
        vision: that `streams.sites.check_scenes` has passed.
        camera: None for one that is not listed there.
    """

    def __init__(self, vision: SceneSettings, camera: Camera | None) -> None:
        self.vision, self.confirmed_from = vision, vision.confirmed_from
        self.zones = ZoneMap(camera.zones if camera else ())
        self.ground = Ground(vision, camera)


class Sight(NamedTuple):
    """What one frame shows.

    Args:
        frame: its number, where it has one.
        boxes: float64 [k, 4].
        labels, scores, ids: [k]; -1 for what is not tracked.
        within: [k], zones by number, from this frame alone.
        width, height: of the picture.
    """

    frame: int | None
    time_ms: int
    boxes: NDArray[np.float64]
    labels: list[str]
    scores: list[float]
    ids: list[int]
    within: list[list[int]]
    width: int
    height: int


class Scene:
    """The objects before one camera; state.

    An object is told when the median score of `confirm_frames` frames has reached `confirm_score`, and nothing of it
    before. It ends when its track does; with it end its stays in zones and its unsafe distances. What is told depends
    on the frames and the settings alone.

    Args:
        lives, pairs: where it was; both are its own from now on.
    """

    def __init__(self, camera_id: str, site: Site, lives: Sequence[Life] = (), pairs: Sequence[Pair] = ()) -> None:
        self._camera_id, self._site = camera_id, site
        self._lives = {life.track_id: life for life in lives}
        self._closeness = Closeness(site.vision.unsafe_distances, pairs)

    def lives(self) -> list[Life]:
        """All objects that it knows, in the order in which they appeared."""
        return list(self._lives.values())

    def pairs(self) -> list[Pair]:
        """All pairs that are close, or were."""
        return self._closeness.pairs()

    def copy(self) -> Scene:
        """One that goes its own way."""
        twin = copy.copy(self)
        twin._lives = {track_id: lives.copied(life) for track_id, life in self._lives.items()}
        twin._closeness = self._closeness.copy()
        return twin

    def zones(self, track_id: int) -> list[str]:
        """The zones that an object is in, as far as it is told; none for one that is not known."""
        life = self._lives.get(track_id)
        return occupied(life.presences) if life is not None else []

    def confirmed(self, track_id: int) -> bool:
        """Whether an object has been told of."""
        life = self._lives.get(track_id)
        return life is not None and life.confirmed

    def update(self, sight: Sight, alive: Collection[int]) -> list[VideoEvent]:
        """What is to be told after a frame.

        Args:
            alive: ids of all tracks that live after it, seen or not.
        """
        told = rfc3339(sight.time_ms / 1000)
        events = list(self._end(set(self._lives).difference(alive), "gone", sight.frame, sight.time_ms, told))
        known, frame, time_ms = self._lives, sight.frame, sight.time_ms
        boxes, labels, scores, within = sight.boxes.tolist(), sight.labels, sight.scores, sight.within
        shown: list[int] = []
        for row, track_id in enumerate(sight.ids):
            if track_id > 0:
                life, box = known.get(track_id), tuple(boxes[row])
                if life is None:
                    life = known[track_id] = lives.begin(track_id, labels[row], scores[row], box, frame, time_ms)
                else:
                    lives.see(life, labels[row], scores[row], box, frame, time_ms)
                self._tell(life, within[row], sight, told, events)
                if life.confirmed:
                    shown.append(row)
        events += self._distances(shown, sight, told)
        return events

    def end(self, reason: Reason, frame: int | None, time_ms: int) -> list[VideoEvent]:
        """Everything ends; what is to be told of it."""
        return list(self._end(set(self._lives), reason, frame, time_ms, rfc3339(time_ms / 1000)))

    def _tell(self, life: Life, within: Sequence[int], sight: Sight, told: str, events: list[VideoEvent]) -> None:
        """Add what there is to tell of an object that a frame shows."""
        vision, time_ms = self._site.vision, sight.time_ms
        if not life.confirmed and lives.confirm(life, vision.confirm_frames, self._site.confirmed_from):
            events.append(self._event("new", life, sight.frame, told))
            lives.reported(life, time_ms)
        life.presences, changes = self._site.zones.follow(life.presences, within, time_ms, confirmed=life.confirmed)
        turned: Sequence[Cause] = ()
        if changes:
            entered = [change.zone for change in changes if change.action == "enter"]
            life.visited += tuple(zone for zone in entered if zone not in life.visited)
            turned = list(dict.fromkeys(_CAUSES[change.action] for change in changes if change.action in _CAUSES))
        lives.rest(life, vision, time_ms)
        if life.confirmed and (causes := lives.due(life, vision, time_ms, turned)):
            events.append(self._event("update", life, sight.frame, told, causes=list(causes)))
            lives.reported(life, time_ms)
        events.extend(self._zone(life, change, sight.frame, told) for change in changes)

    def _distances(self, shown: list[int], sight: Sight, told: str) -> list[VideoEvent]:
        if len(shown) < 2:
            return []
        ids = [sight.ids[row] for row in shown]
        labels = [self._lives[track_id].label for track_id in ids]
        site = self._site
        alerts = self._closeness.follow(
            ids,
            labels,
            lambda: site.ground.places(sight.boxes[shown], labels, sight.width, sight.height),
            sight.time_ms,
        )
        return [self._unsafe(alert, sight.frame, told) for alert in alerts]

    def _end(
        self, gone: Collection[int], reason: Reason, frame: int | None, time_ms: int, told: str
    ) -> Iterator[VideoEvent]:
        if not gone:
            return
        for alert in self._closeness.end(gone, time_ms):
            yield self._unsafe(alert, frame, told)
        for track_id in sorted(gone):
            life = self._lives.pop(track_id)
            if life.confirmed:
                yield from self._ended(life, reason, frame, told)

    def _ended(self, life: Life, reason: Reason, frame: int | None, told: str) -> Iterator[VideoEvent]:
        for change in left(life.presences, life.last_ms):
            life.presences = {zone: kept for zone, kept in life.presences.items() if zone != change.zone}
            yield self._zone(life, change, frame, told)
        yield self._event(
            "end",
            life,
            frame,
            told,
            reason=reason,
            duration_s=max(life.last_ms - life.first_ms, 0) / 1000,
            last_seen=rfc3339(life.last_ms / 1000),
            best_score=round(life.best_score, SCORE_DIGITS),
            best_box=_rounded(life.best_box),
            best_frame=life.best_frame,
            zones_visited=list(life.visited),
        )

    def _zone(self, life: Life, change: Change, frame: int | None, told: str) -> VideoEvent:
        stay_s = UNSET if change.action == "enter" else change.stay_s
        return self._event("zone", life, frame, told, zone=change.zone, action=change.action, duration_s=stay_s)

    def _unsafe(self, alert: Alert, frame: int | None, told: str) -> VideoEvent:
        first, second = self._lives[alert.first], self._lives[alert.second]
        return self._event(
            "unsafe_distance",
            first,
            frame,
            told,
            state=alert.state,
            severity=alert.severity,
            other=OtherObject(second.track_id, second.label, _rounded(second.box)),
            distance_m=round(alert.distance_m, METRE_DIGITS),
            closest_m=round(alert.closest_m, METRE_DIGITS),
            limit_m=alert.rule.limit_m,
            duration_s=UNSET if alert.duration_s is None else alert.duration_s,
        )

    def _event(self, kind: Any, life: Life, frame: int | None, told: str, **more: Any) -> VideoEvent:
        return VideoEvent(
            kind,
            self._camera_id,
            frame,
            told,
            life.track_id,
            life.label,
            round(life.score, SCORE_DIGITS),
            _rounded(life.box),
            occupied(life.presences),
            rfc3339(life.first_ms / 1000),
            life.stationary,
            **more,
        )


def _rounded(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return round(x1, PIXEL_DIGITS), round(y1, PIXEL_DIGITS), round(x2, PIXEL_DIGITS), round(y2, PIXEL_DIGITS)
