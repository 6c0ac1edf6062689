"""Incremental fetches: a broker remembers what is fetched from it, and both sides name only what has changed.

aiokafka names every partition in every fetch, and the broker each of them in its answer: where little flows, that is
most of what a fetch costs.

References:
    KIP-227: Introduce Incremental FetchRequests to Increase Partition Scalability.
"""

from __future__ import annotations

from collections.abc import Collection

from aiokafka.protocol.fetch import FetchRequest

from streams.wire import Fetch, Fetched, Place, Wanted

LARGEST_EPOCH = 0x7FFFFFFF
_NEW = 0


class FetchSession:
    """What one broker knows of a consumer's fetches; one of them is on its way at a time.

    A fetch that fails leaves open what the broker has made of it, so the next one begins a new session.

    Attributes:
        wanted: by the last fetch.
        heard: what was wanted when the last answer came; what that does not name is as it was.
        heard_ms: when that was, in ms since the epoch.
    """

    def __init__(self) -> None:
        self._id, self._epoch = 0, _NEW
        self.wanted: Wanted = {}
        self.heard: Collection[Place] = ()
        self.heard_ms = 0

    def asking(self, whole: FetchRequest) -> Fetch:
        """A request for the same as this one."""
        known = {} if self._epoch == _NEW else self.wanted
        wanted = self.wanted = {
            (topic, partition): (offset, max_bytes)
            for topic, partitions in whole.topics
            for partition, offset, max_bytes in partitions
        }
        changed = {place: fetch for place, fetch in wanted.items() if known.get(place) != fetch}
        return Fetch(whole, (self._id, self._epoch), changed, known.keys() - wanted.keys(), wanted)

    def answered(self, answer: Fetched, now_ms: int) -> None:
        """The broker's answer to it; one older than sessions, or without room for another, keeps none."""
        if not answer.error and (answer.partitions or not answer.throttled_ms):  # throttled, it says nothing
            refused = {each.place for each in answer.partitions if each.error}
            self.heard, self.heard_ms = self.wanted.keys() - refused, now_ms
        if answer.error or not answer.session:
            self.restart()
            return
        self._id = answer.session
        self._epoch = self._epoch % LARGEST_EPOCH + 1

    def restart(self) -> None:
        """Begin a new session with the next fetch, e.g. where there was no answer."""
        self._epoch = _NEW  # with the id that was: the broker need not remember that any longer
