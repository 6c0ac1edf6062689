"""How the demo words what happens before a camera."""

from __future__ import annotations

from typing import Any

import pytest

from streams.demo.alerts import alert
from streams.schemas import OtherObject
from tests.streams.demo.answers import BOX, event

FORKLIFT = OtherObject(5, "forklift", BOX)
UNSAFE: dict[str, Any] = {"other": FORKLIFT, "distance_m": 1.84, "closest_m": 0.71, "limit_m": 3.0}


@pytest.mark.parametrize(
    ("kind", "fields", "text", "weight"),
    [
        ("new", {}, "person #3 appears", "quiet"),
        ("end", {"duration_s": 12.34}, "person #3 is gone after 12.3 s", "quiet"),
        ("zone", {"zone": "dock", "action": "enter"}, "person #3 enters dock", "notice"),
        ("zone", {"zone": "dock", "action": "leave", "duration_s": 4.0}, "person #3 leaves dock after 4.0 s", "notice"),
        (
            "zone", {"zone": "dock", "action": "loiter", "duration_s": 8.0},
            "person #3 lingers in dock, 8.0 s now", "warning",
        ),
        (
            "unsafe_distance", {**UNSAFE, "state": "raised", "severity": "warning"},
            "person #3 and forklift #5 are 1.8 m apart, less than 3 m", "warning",
        ),
        (
            "unsafe_distance", {**UNSAFE, "state": "raised", "severity": "critical"},
            "person #3 and forklift #5 are 1.8 m apart, less than 3 m", "critical",
        ),
        (
            "unsafe_distance", {**UNSAFE, "state": "escalated", "severity": "critical"},
            "person #3 and forklift #5 are 1.8 m apart, closer still", "critical",
        ),
        (
            "unsafe_distance", {**UNSAFE, "state": "cleared", "severity": "critical", "duration_s": 2.5},
            "person #3 and forklift #5 are safe again after 2.5 s, 0.7 m at the closest", "notice",
        ),
        (
            "unsafe_distance",
            {**UNSAFE, "state": "cleared", "severity": "critical", "duration_s": 2.5, "reason": "gone"},
            "person #3 and forklift #5 are out of sight after 2.5 s, 1.8 m apart at the last", "notice",
        ),
        (
            "unsafe_distance",
            {**UNSAFE, "state": "cleared", "severity": "warning", "duration_s": 2.5, "reason": "relabelled"},
            "person #3 and forklift #5 are no such pair after all after 2.5 s", "notice",
        ),
        (
            "zone", {"zone": "dock", "action": "leave", "duration_s": 8.0, "reason": "gone"},
            "person #3 is out of sight in dock after 8.0 s", "notice",
        ),
    ],
)  # fmt: skip
def test_each_event_is_a_sentence(kind: str, fields: dict[str, Any], text: str, weight: str) -> None:
    said = alert(event(kind, **fields))
    assert said is not None
    assert (said.camera, said.kind, said.text, said.weight) == ("gate", kind, text, weight)


def test_updates_are_left_out() -> None:
    assert alert(event("update", causes=["moved"])) is None
