"""The messages on Kafka, as msgspec structs: the one source of decoding, encoding and the published JSON Schema."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

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


class Reason(Struct, gc=False):
    """One feature that raised a score."""

    feature: str
    value: float
    contribution: Annotated[float, Meta(description="how much of the score is due to it")]


class FraudFlag(Struct, gc=False):
    """The prediction for one transaction; key: `card_id`. Reasons are given for flagged ones."""

    transaction_id: str
    card_id: str
    event_time: Annotated[str, Meta(description="RFC 3339, UTC, milliseconds")]
    score: Annotated[float, Meta(ge=0, le=1, description="probability of fraud")]
    flagged: bool
    decision: Literal["approve", "review", "decline"]
    model: str
    reasons: list[Reason] = []
