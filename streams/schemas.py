"""The messages on Kafka, as msgspec structs: the one source of decoding, encoding and the published JSON Schema."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

Id = Annotated[str, Meta(min_length=1, max_length=256)]
EventTime = (
    Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset")]
    | Annotated[int, Meta(description="milliseconds since the epoch, UTC")]
)


class Transaction(Struct, gc=False):
    """A card payment, as a producer sends it; key: `card_id`. Unknown fields are ignored."""

    transaction_id: Id
    card_id: Id
    terminal_id: Id
    amount: Annotated[float, Meta(ge=0, le=1e9, description="in the card's own currency")]
    event_time: EventTime
    currency: str | None = None
    country: str | None = None
    channel: str | None = None
    mcc: int | str | None = None


class FraudLabel(Struct, gc=False):
    """What a transaction turned out to be, from a chargeback or an analyst; key: `card_id`. Unknown fields are ignored.

    Of several labels of one transaction the one with the latest `label_time` counts.
    """

    transaction_id: Id
    card_id: Id
    terminal_id: Id
    fraud: bool
    event_time: Annotated[EventTime, Meta(description="of the transaction, as it was sent")]
    label_time: Annotated[EventTime, Meta(description="since when this has been known")]
    amount: Annotated[float, Meta(ge=0, le=1e9, description="of the transaction")] | None = None


class Reason(Struct, gc=False):
    """What one group of facts adds to a score."""

    feature: Annotated[str, Meta(description="the group: amount, time, pace, terminal_traffic, terminal_fraud")]
    text: Annotated[str, Meta(description="its most telling fact in words, with the value")]
    contribution: Annotated[float, Meta(description="by how much it raises the score over `baseline`; they add up")]


class FiredRule(Struct, gc=False):
    """The first of the operator's rules that matched."""

    name: str
    reason: str


class FraudFlag(Struct, gc=False):
    """The prediction for one transaction; key: `card_id`. Reasons are given for flagged ones, most first."""

    transaction_id: str
    card_id: str
    event_time: Annotated[str, Meta(description="RFC 3339, UTC, milliseconds")]
    score: Annotated[float, Meta(ge=0, le=1, description="probability of fraud")]
    flagged: Annotated[bool, Meta(description="whether the decision is another than approve")]
    decision: Literal["approve", "review", "block"]
    model: str
    reasons: list[Reason] = []
    baseline: Annotated[float, Meta(description="score of a typical genuine transaction")] | UnsetType = UNSET
    rule: FiredRule | UnsetType = UNSET
    features: Annotated[dict[str, float], Meta(description="what the model saw, if asked for")] | UnsetType = UNSET


class FraudOutcome(Struct, gc=False):
    """What a transaction turned out to be, beside the flag that it had had; key: `card_id`. One for every label.

    Of several outcomes of one transaction the one with the latest `label_time` counts. The flag's fields are null where
    there was none when the label came.
    """

    transaction_id: str
    card_id: str
    fraud: bool
    event_time: Annotated[str, Meta(description="RFC 3339, UTC, milliseconds")]
    label_time: Annotated[str, Meta(description="RFC 3339, UTC, milliseconds")]
    label_age_s: Annotated[float, Meta(ge=0, description="from the transaction to its label, in seconds")]
    score: Annotated[float, Meta(ge=0, le=1, description="probability of fraud")] | None = None
    flagged: bool | None = None
    decision: str | None = None
    model: str | None = None


class Comparison(Struct, gc=False):
    """What a challenger makes of an event, beside the champion; key: that of the event."""

    id: Annotated[str, Meta(description="topic/partition/offset of the event, as in the prediction's `id` header")]
    champion: Annotated[str, Meta(description="the version that serves, e.g. fraud/2")]
    challenger: str
    champion_prediction: float
    challenger_prediction: float
    answered: Annotated[bool, Meta(description="whether the challenger's answer was published: it is a canary")]


Pixels = Annotated[
    tuple[float, float, float, float], Meta(description="x1, y1, x2, y2 in px of the frame, from its upper left corner")
]
Score = Annotated[float, Meta(ge=0, le=1, description="of the detector")]
TrackId = Annotated[int, Meta(ge=1, description="the object's; from 1 for each camera, never used again")]


class DetectedObject(Struct, gc=False):
    """One object in one frame."""

    label: str
    score: Score
    box: Pixels
    track_id: Annotated[TrackId | None, Meta(description="null while it is not followed")]
    zones: Annotated[list[str], Meta(description="that the middle of the box's lower edge is in")]


class PictureClass(Struct, gc=False):
    """What a picture as a whole may show."""

    label: str
    score: Annotated[float, Meta(ge=0, le=1, description="its probability, as the classifier gives it")]


class VideoDetections(Struct, gc=False):
    """What there is in a frame; key: `camera_id`. One for every frame that was looked at, best scores first."""

    camera_id: str
    frame: Annotated[int | None, Meta(description="the number that came with it")]
    event_time: Annotated[str, Meta(description="RFC 3339, UTC, milliseconds")]
    width: Annotated[int, Meta(description="of the frame in px, as `height`")]
    height: int
    objects: Annotated[list[DetectedObject], Meta(description="none where the model is a classifier")]
    model: str
    classes: (
        Annotated[list[PictureClass], Meta(description="where the model is a classifier: the most probable ones")]
        | UnsetType
    ) = UNSET


class OtherObject(Struct, gc=False):
    """The second of two objects."""

    track_id: TrackId
    label: str
    box: Annotated[Pixels, Meta(description="in the last frame that showed it")]


class VideoEvent(Struct, gc=False):
    """Something that an operator wants to know; key: `camera_id`.

    An object's life is one `new`, some `update`, one `end`. `zone` and `unsafe_distance` are alerts about objects that
    live. All events carry the object as it was in its last frame.
    """

    kind: Annotated[Literal["new", "update", "end", "zone", "unsafe_distance"], Meta(description="what happened")]
    camera_id: str
    frame: Annotated[int | None, Meta(description="the one in which it was noticed")]
    event_time: Annotated[str, Meta(description="of that frame: RFC 3339, UTC, milliseconds")]
    track_id: TrackId
    label: str
    score: Score
    box: Pixels
    zones: Annotated[list[str], Meta(description="that the object is in from now on")]
    first_seen: Annotated[str, Meta(description="RFC 3339, UTC, milliseconds")]
    stationary: bool = False
    causes: (
        Annotated[
            list[Literal["moved", "entered", "left", "stationary", "moving"]],
            Meta(description="of an update: since the one before it"),
        ]
        | UnsetType
    ) = UNSET
    zone: Annotated[str, Meta(description="of a zone alert")] | UnsetType = UNSET
    action: Literal["enter", "leave", "loiter"] | UnsetType = UNSET
    state: (
        Annotated[
            Literal["raised", "escalated", "cleared"],
            Meta(description="of an unsafe distance; escalated: now critical"),
        ]
        | UnsetType
    ) = UNSET
    severity: Literal["warning", "critical"] | UnsetType = UNSET
    other: OtherObject | UnsetType = UNSET
    distance_m: Annotated[float, Meta(ge=0, description="between the two, where they stand")] | UnsetType = UNSET
    closest_m: Annotated[float, Meta(ge=0, description="the least distance so far")] | UnsetType = UNSET
    limit_m: float | UnsetType = UNSET
    duration_s: (
        Annotated[float, Meta(ge=0, description="of the life that ends, the stay in the zone, the unsafe distance")]
        | UnsetType
    ) = UNSET
    last_seen: Annotated[str, Meta(description="of the life that ends: RFC 3339")] | UnsetType = UNSET
    reason: (
        Annotated[
            Literal["gone", "restarted", "relabelled", "unmeasured"],
            Meta(
                description="why a life ends: not seen any more, or the camera began again; where a zone is left or a "
                "distance cleared: that this was why, or that an object is another than it was taken for, or that it "
                "can no longer be measured, and nothing was seen to move away"
            ),
        ]
        | UnsetType
    ) = UNSET
    best_score: Score | UnsetType = UNSET
    best_box: Pixels | UnsetType = UNSET
    best_frame: int | UnsetType | None = UNSET
    zones_visited: list[str] | UnsetType = UNSET


def milliseconds(times: Sequence[datetime | int]) -> NDArray[np.int64]:
    """int64 [n]: event times in ms since the epoch; what int64 cannot hold becomes its bounds, absurd anyway."""
    try:
        return np.array(times, np.int64)
    except (TypeError, OverflowError):
        return np.array([_clip(time) for time in times], np.int64)


def _clip(time: datetime | int) -> int:
    milliseconds = round(time.timestamp() * 1000) if isinstance(time, datetime) else time
    return max(min(milliseconds, 2**63 - 1), -(2**63))
