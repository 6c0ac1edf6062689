"""Which version of a model serves: what operators ask for, on a compacted topic, and what each worker made of it."""

from __future__ import annotations

import msgspec

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


def control_topics(models: Models) -> list[Topic]:
    """The topics of rollouts and of reports; one partition each, for their order is what counts."""
    return [
        Topic(models.control, COMPACTED, copartitioned=False, partitions=1),
        Topic(models.control + REPORTS_SUFFIX, KEPT_A_WEEK, copartitioned=False, partitions=1),
    ]
