"""Dead letters: the record that failed, byte for byte, and why; and the limit on how many there may be."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from streams.broken_keys import BrokenKeys
from streams.clock import rfc3339
from streams.errors import DeadLetterLimit, PoisonEvent
from streams.records import Header, Headers, Outgoing, RecordBatch, shown_key
from streams.settings import DeadLetter

SUFFIX = ".dead-letter"
PREFIX = "error."
MAX_MESSAGE = 1000  # a message may repeat the value; the letter must still fit its topic
_STOPPED = "the pipeline stops, this batch stays uncommitted: mend what sends them, or raise that setting"


def dead_letters(
    batch: RecordBatch, poison: Mapping[int, PoisonEvent], *, pipeline: str, model: str, now_s: float
) -> Outgoing:
    """Records for the dead-letter topic: key, value and headers as they came, with `error.*` headers behind them.

    A record that comes from a dead-letter topic again keeps its `error.first-failed-at` and counts its attempts up.

    Args:
        batch: where the records stand.
        poison: row in the batch -> why it failed.
        now_s: processing time, seconds since the epoch.
    """
    rows = sorted(poison)
    topic, partition = (PREFIX + "topic", batch.topic.encode()), (PREFIX + "partition", str(batch.partition).encode())
    served = [(PREFIX + "pipeline", pipeline.encode()), (PREFIX + "model", model.encode())]
    now = rfc3339(now_s).encode()
    headers = [
        [
            *batch.headers[row],
            *_reason(poison[row]),
            topic,
            partition,
            (PREFIX + "offset", str(batch.offsets[row]).encode()),
            *served,
            *_history(batch.headers[row], now),
        ]
        for row in rows
    ]
    return Outgoing(
        batch.topic + SUFFIX, [batch.keys[r] for r in rows], [batch.values[r] for r in rows], headers, shrunk=True
    )


def _reason(error: PoisonEvent) -> list[Header]:
    message = error.message[:MAX_MESSAGE].encode(errors="backslashreplace")
    kind = error.kind.encode(errors="backslashreplace")
    return [(PREFIX + "stage", error.stage.encode()), (PREFIX + "type", kind), (PREFIX + "message", message)]


def _history(headers: Headers, now: bytes) -> list[Header]:
    """How often, and since when: a record that was a dead letter before says so itself."""
    earlier = {name: value for name, value in headers if name.startswith(PREFIX)} if headers else {}
    attempts = _attempts(earlier.get(PREFIX + "attempts")) + 1
    since = earlier.get(PREFIX + "first-failed-at") or now
    return [(PREFIX + "attempts", str(attempts).encode()), (PREFIX + "first-failed-at", since)]


def _attempts(header: bytes | None) -> int:
    return int(header) if header is not None and header.isdigit() and len(header) < 10 else 0


class DeadLetterGuard:
    """Stops a pipeline whose dead letters are no longer exceptions. Counted per partition.

    The share is looked at over the last `share_window` records, once that many were seen. What is poison of a key that
    is broken by itself does not count: see `BrokenKeys`.
    """

    def __init__(self, settings: DeadLetter) -> None:
        self._settings = settings
        self._recent: dict[int, deque[tuple[int, int]]] = {}
        self._sums: dict[int, list[int]] = {}
        self._in_a_row: dict[int, int] = {}
        self._counted: dict[int, int] = {}  # partition -> last offset
        self._broken = BrokenKeys(settings.max_consecutive // 4)

    def forget(self, partition: int) -> None:
        """Count a partition anew."""
        for counts in (self._recent, self._sums, self._in_a_row):
            counts.pop(partition, None)
        self._broken.forget(partition)

    def check(self, batch: RecordBatch, poison: Mapping[int, PoisonEvent]) -> None:
        """Count a batch in, before anything of it is produced.

        Raises:
            DeadLetterLimit: too many in a row, or too large a share; the message says what to look at.
        """
        if batch.offsets[0] <= self._counted.get(batch.partition, -1):
            self.forget(batch.partition)  # read again after a rebalance: what was counted behind it comes again, too
        self._counted[batch.partition] = batch.offsets[-1]
        excused = self._broken.excused(batch, poison)
        poison = {row: error for row, error in poison.items() if row not in excused} if excused else poison
        in_a_row = self._count_in_a_row(batch, poison, excused)
        limit = self._settings
        if in_a_row >= limit.max_consecutive:
            raise DeadLetterLimit(
                f"{in_a_row} poison events in a row at {_place(batch)}, the limit is dead_letter.max_consecutive = "
                f"{limit.max_consecutive}; {_example(batch, poison)}; {_STOPPED}"
            )
        records, bad = self._count_share(batch.partition, len(batch) - len(excused), len(poison))
        if records >= limit.share_window and bad / records > limit.max_share:
            raise DeadLetterLimit(
                f"{bad} of the last {records} records at {_place(batch)} are poison, the limit is "
                f"dead_letter.max_share = {limit.max_share}; {_example(batch, poison)}; {_STOPPED}"
            )

    def _count_in_a_row(self, batch: RecordBatch, poison: Mapping[int, PoisonEvent], excused: set[int]) -> int:
        longest = run = self._in_a_row.get(batch.partition, 0)
        if poison:
            for row in range(len(batch)):
                if row not in excused:
                    run = run + 1 if row in poison else 0
                    longest = max(longest, run)
        elif len(excused) < len(batch):
            longest = run = 0
        self._in_a_row[batch.partition] = run
        return longest if poison else 0

    def _count_share(self, partition: int, records: int, bad: int) -> tuple[int, int]:
        recent = self._recent.setdefault(partition, deque())
        sums = self._sums.setdefault(partition, [0, 0])
        if records:
            recent.append((records, bad))
        sums[0] += records
        sums[1] += bad
        while recent and sums[0] - recent[0][0] >= self._settings.share_window:
            old_records, old_bad = recent.popleft()
            sums[0] -= old_records
            sums[1] -= old_bad
        return sums[0], sums[1]


def _place(batch: RecordBatch) -> str:
    return f"{batch.topic}[{batch.partition}]@{batch.offsets[0]}..{batch.offsets[-1]}"


def _example(batch: RecordBatch, poison: Mapping[int, PoisonEvent]) -> str:
    row = min(poison, default=None)
    if row is None:
        return "none in the last batch"
    error = poison[row]
    key = batch.keys[row]
    whose = "" if key is None else f" of key {shown_key(key)!r}"
    return f"for example @{batch.offsets[row]}{whose} at {error.stage}: {error.message}"
