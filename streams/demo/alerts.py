"""Events of a camera in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from streams.schemas import VideoEvent

Weight = Literal["quiet", "notice", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Alert:
    """What there is to tell.

    Args:
        time: RFC 3339, UTC.
        weight: how much it matters.
        kind: of the event.
    """

    time: str
    camera: str
    text: str
    weight: Weight
    kind: str


def alert(event: VideoEvent) -> Alert | None:
    """An event for people; None for one that only carries on with what they know."""
    told = _told(event)
    return None if told is None else Alert(event.event_time, event.camera_id, *told, event.kind)


def _told(event: VideoEvent) -> tuple[str, Weight] | None:
    who = f"{event.label} #{event.track_id}"
    if event.kind == "new":
        return f"{who} appears", "quiet"
    if event.kind == "end":
        return f"{who} is gone{_after(event)}", "quiet"
    if event.kind == "zone":
        if event.action == "enter":
            return f"{who} enters {event.zone}", "notice"
        if event.action == "leave" and event.reason is not UNSET:
            return f"{who} is out of sight in {event.zone}{_after(event)}", "notice"
        if event.action == "leave":
            return f"{who} leaves {event.zone}{_after(event)}", "notice"
        return f"{who} lingers in {event.zone}, {_seconds(event)} now", "warning"
    if event.kind == "unsafe_distance":
        return _distance(event, who)
    return None


def _distance(event: VideoEvent, who: str) -> tuple[str, Weight]:
    other = "another" if event.other is UNSET else f"{event.other.label} #{event.other.track_id}"
    pair = f"{who} and {other}"
    if event.state == "cleared" and event.reason == "relabelled":
        return f"{pair} are no such pair after all{_after(event)}", "notice"
    if event.state == "cleared" and event.reason == "unmeasured":
        return f"{pair} can be measured no more{_after(event)}, {event.distance_m:.1f} m apart at the last", "notice"
    if event.state == "cleared" and event.reason is not UNSET:
        return f"{pair} are out of sight{_after(event)}, {event.distance_m:.1f} m apart at the last", "notice"
    if event.state == "cleared":
        return f"{pair} are safe again{_after(event)}, {event.closest_m:.1f} m at the closest", "notice"
    near = f"{pair} are {event.distance_m:.1f} m apart"
    if event.state == "escalated":
        return f"{near}, closer still", "critical"
    return f"{near}, less than {event.limit_m:g} m", "critical" if event.severity == "critical" else "warning"


def _after(event: VideoEvent) -> str:
    return "" if event.duration_s is UNSET else f" after {_seconds(event)}"


def _seconds(event: VideoEvent) -> str:
    return f"{event.duration_s:.1f} s"
