"""Incremental fetches: a broker remembers what is fetched from it, and both sides name only what has changed.

aiokafka names every partition in every fetch, and the broker each of them in its answer: where little flows, that is
most of what a fetch costs.

References:
    KIP-227: Introduce Incremental FetchRequests to Increase Partition Scalability.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

from aiokafka.protocol.fetch import FetchRequest, FetchRequestStruct

SESSIONS_FROM_VERSION = 7
LARGEST_EPOCH = 0x7FFFFFFF
_NEW = 0

Known = dict[tuple[str, int], tuple[int, int]]
"""(topic, partition) -> the offset that is fetched from, and how many bytes at most."""


class FetchSession:
    """What one broker knows of a consumer's fetches; one of them is on its way at a time.

    A fetch that fails leaves open what the broker has made of it, so the next one begins a new session.
    """

    def __init__(self) -> None:
        self._id, self._epoch = 0, _NEW
        self._known: Known = {}

    def asking(self, whole: FetchRequest) -> FetchRequest:
        """A request for the same as this one."""
        wanted = {
            (topic, partition): (offset, max_bytes)
            for topic, partitions in whole.topics
            for partition, offset, max_bytes in partitions
        }
        known, self._known = self._known, wanted
        if self._epoch == _NEW:
            known = {}
        return _Incremental(whole, self._id, self._epoch, known, wanted)

    def answered(self, response: Any) -> None:
        """The broker's answer to it; one older than sessions, or without room for another, keeps none."""
        if response.API_VERSION < SESSIONS_FROM_VERSION or response.error_code or not response.session_id:
            self.failed()
            return
        self._id = response.session_id
        self._epoch = self._epoch % LARGEST_EPOCH + 1

    def failed(self) -> None:
        """There was no answer."""
        self._epoch = _NEW  # with the id that was: the broker need not remember that any longer


class _Incremental(FetchRequest):
    def __init__(self, whole: FetchRequest, session: int, epoch: int, known: Known, wanted: Known) -> None:
        self._whole, self._session, self._epoch = whole, session, epoch
        self._changed = {partition for partition, fetch in wanted.items() if known.get(partition) != fetch}
        self._gone = known.keys() - wanted.keys()

    def build(self, request_struct_class: type[FetchRequestStruct]) -> FetchRequestStruct:
        if request_struct_class.API_VERSION < SESSIONS_FROM_VERSION:
            return self._whole.build(request_struct_class)
        changes = copy.copy(self._whole)
        changes._topics = [
            (topic, changed)
            for topic, partitions in self._whole.topics
            if (changed := [each for each in partitions if (topic, each[0]) in self._changed])
        ]
        built = changes.build(request_struct_class)
        built.session_id, built.session_epoch = self._session, self._epoch
        gone = defaultdict(list)
        for topic, partition in self._gone:
            gone[topic].append(partition)
        built.forgotten_topics_data = list(gone.items())
        return built
