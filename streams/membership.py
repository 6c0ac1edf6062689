"""What a group says of this worker as its member, beyond what aiokafka makes of it.

Error codes that aiokafka does not know are all one unknown error to it, and with an error that it takes for final it
waits for somebody who asks: the worker would stand without partitions, alive and silent.
"""

from __future__ import annotations

import time
from typing import Any

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
    UnknownError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from streams.acls import lacking
from streams.settings import Worker

JOINING = (JoinGroupRequest, SyncGroupRequest)
GROUP_REQUESTS = (*JOINING, HeartbeatRequest)
GROUP_MAX_SIZE_REACHED, FENCED_INSTANCE_ID = 81, 82  # Kafka's codes
SLOT_QUARREL_S = 60.0


class Membership:
    """One worker in its group.

    Attributes:
        excluded: why the group cannot have this worker, a sentence; empty while it can.
    """

    def __init__(self, group: str, worker: Worker) -> None:
        self.excluded = ""
        self._group = group
        self._worker = worker
        self._heard_at = self._displaced_at = float("-inf")
        self._displaced_member = ""
        self._refusals = {
            InconsistentGroupProtocolError.errno: f"group {group} has members that share none of a worker's ways to "
            "assign partitions, so they are no workers of Headrace: give the worker a group of its own with --group",
            InvalidSessionTimeoutError.errno: f"the broker refuses worker.session_timeout_s = "
            f"{worker.session_timeout_s:g}: it has to lie within the broker's group.min.session.timeout.ms and "
            "group.max.session.timeout.ms",
            InvalidGroupIdError.errno: f"the broker refuses {group!r} as the name of a group: give another with "
            "--group",
            GroupAuthorizationFailedError.errno: f"the broker does not let this client join group {group}: "
            f"{lacking('READ')}, or another group with --group",
            GROUP_MAX_SIZE_REACHED: f"group {group} is full: the broker allows no more members than its group.max.size",
        }

    def heard(self, request: Any, response: Any) -> None:
        """Look at a coordinator's answer before aiokafka does.

        Raises:
            KafkaConnectionError: the coordinator failed by itself: aiokafka asks again.
            KafkaError: offsets cannot be committed because their topic is gone. aiokafka would try until they land
                on a new topic of that name.
        """
        if isinstance(request, FindCoordinatorRequest):
            self._refused(response.error_code)
        elif isinstance(request, OffsetCommitRequest):
            codes = {code for _, partitions in response.topics for _, code in partitions}
            if UnknownTopicOrPartitionError.errno in codes:
                names = ", ".join(repr(topic) for topic, _ in response.topics)
                raise KafkaError(f"committing offsets of {names}: the topic is gone")
            self._known(request._consumer_id, UnknownMemberIdError.errno not in codes)
        elif isinstance(request, GROUP_REQUESTS):
            self._coordinated(request, response)

    def _coordinated(self, request: Any, response: Any) -> None:
        code = response.error_code
        if code == UnknownError.errno:
            raise KafkaConnectionError("the group coordinator has an error of its own")
        self._refused(code)
        if code == FENCED_INSTANCE_ID:  # another joined in the slot before this was answered
            response.error_code = UnknownMemberIdError.errno
            self._displaced()
        elif isinstance(request, HeartbeatRequest):
            self._known(request._member_id, code != UnknownMemberIdError.errno)
        elif not code:
            self._heard_at = time.monotonic()

    def _refused(self, code: int) -> None:
        self.excluded = self.excluded or self._refusals.get(code, "")

    def _known(self, member: str, known: bool) -> None:
        """Whether the group knows a member's id; several requests may tell of the same displacement."""
        now = time.monotonic()
        if known:
            self._heard_at = now
        elif member not in ("", self._displaced_member):
            self._displaced_member = member
            if now - self._heard_at < self._worker.session_timeout_s:  # else it was we who paused
                self._displaced()

    def _displaced(self) -> None:
        """Twice within a while, another worker is in our slot, which joins whenever we do."""
        if self._worker.slot is None:
            return
        before, self._displaced_at = self._displaced_at, time.monotonic()
        if self._displaced_at - before < SLOT_QUARREL_S:
            self.excluded = self.excluded or (
                f"another worker of group {self._group} runs in slot {self._worker.slot!r}; the two have taken the "
                "partitions from each other, and this one ends: give each worker a slot of its own"
            )
