"""Which version of a model serves: what operators ask for, on a compacted topic, and what each worker made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from streams.records import RecordBatch
from streams.settings import Models
from streams.topics import Topic

REPORTS_SUFFIX = ".reports"
SHADOW = ".shadow"  # behind the output topic: where challengers are compared
HISTORY = 20  # versions that a rollback can go back through
COMPACTED = {"cleanup.policy": "compact"}
KEPT_A_WEEK = {"cleanup.policy": "delete", "retention.ms": str(7 * 24 * 60 * 60 * 1000)}


class Challenge(msgspec.Struct, frozen=True):
    """A version beside the one that serves: 0 of the keys, in the shadow, or a canary for a share of them."""

    version: int
    sha256: str
    share: float = 0.0


class Rollout(msgspec.Struct, frozen=True):
    """What is to serve; key: the model's name. The latest one counts.

    `sha256` is that of the version's network, so that a worker whose repository holds another file refuses it.
    `previous` are the versions that served before, the last one first.
    """

    model: str
    version: int
    sha256: str
    challenge: Challenge | None = None
    previous: tuple[int, ...] = ()
    asked_at: str = ""

    @property
    def reference(self) -> str:
        return f"{self.model}/{self.version}"

    def after(self, last: Rollout | None) -> Rollout:
        """This one, with what it takes over from the last one."""
        if last is None:
            return self
        kept = (last.version, *last.previous) if last.version != self.version else last.previous
        return msgspec.structs.replace(self, previous=kept[:HISTORY])


class Report(msgspec.Struct, frozen=True):
    """What became of a rollout in one worker; key: the model's name.

    `rollout` is the offset of the record that it answers, `serving` the reference that serves there now,
    `challenger` that of the version beside it, empty where there is none, `error` why they are not what was asked for,
    `seconds` how long it took to load and check them.
    """

    worker: str
    pipeline: str
    rollout: int
    asked: str
    serving: str
    engine: str
    seconds: float
    challenger: str = ""
    error: str = ""


def incomparable(pipeline: str) -> str:
    """Why a pipeline's model has no challenger."""
    return (
        f"pipeline {pipeline} takes no challenger, since its answers are no single numbers to be set beside each "
        "other; promote the version instead, and roll back where it is worse"
    )


T = TypeVar("T", Rollout, Report)


def decode(
    batches: Iterable[RecordBatch], kind: type[T], tell: Callable[[str], object] | None = None
) -> list[tuple[int, T]]:
    """What these records hold, with their offsets; one that holds no `kind` is left out, and `tell` hears why."""
    found: list[tuple[int, T]] = []
    for batch in batches:
        for offset, value in zip(batch.offsets, batch.values, strict=True):
            try:
                found.append((offset, msgspec.json.decode(value or b"", type=kind)))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                if tell is not None:
                    place = f"{batch.topic}[{batch.partition}]@{offset}"
                    tell(f"decoding the {kind.__name__.lower()} {place}: {error}; it is left out")
    return found


def control_topics(models: Models) -> list[Topic]:
    """The topics of rollouts and of reports; one partition each, for their order is what counts."""
    return [
        Topic(models.control, COMPACTED, copartitioned=False, partitions=1),
        Topic(models.control + REPORTS_SUFFIX, KEPT_A_WEEK, copartitioned=False, partitions=1),
    ]
