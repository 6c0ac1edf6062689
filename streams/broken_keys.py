"""Keys of which most is poison while others are well: one broken producer must not stop the pipeline for the rest."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from streams.errors import PoisonEvent
from streams.records import RecordBatch, shown_key

logger = logging.getLogger(__name__)

MOST_KEYS = 1000  # that are looked after, of each partition
LONGEST_BYTES = 256  # of a key that is looked after; what a longer one sends counts as it always does


@dataclass(slots=True)
class _Balance:
    """Of a key, since it was last zero: what was poison less what was good."""

    since: int  # how many records of all keys had been good by then
    value: int = 0
    own_good: int = 0
    broken: bool = False


class BrokenKeys:
    """Finds the keys of which more is poison than good, by more than `tolerance` records.

    A key counts as broken only if something of another key has been good meanwhile: where nothing is good, it is not
    the key. It is broken until as much of it is good again. A record without a key is nobody's.
    """

    def __init__(self, tolerance: int) -> None:
        self._tolerance = tolerance
        self._balances: dict[int, dict[bytes, _Balance]] = {}
        self._good = 0

    def forget(self, partition: int) -> None:
        """Count a partition anew."""
        self._balances.pop(partition, None)

    def excused(self, batch: RecordBatch, poison: Mapping[int, PoisonEvent]) -> set[int]:
        """Count a batch in. Returns those rows of broken keys that are poison."""
        balances, keys, excused = self._balances.setdefault(batch.partition, {}), batch.keys, set()
        for row in poison:
            if (key := keys[row]) is not None and key not in balances and len(key) <= LONGEST_BYTES:
                if len(balances) == MOST_KEYS:
                    _thin_out(balances)
                balances[key] = _Balance(self._good)
        for row in [row for row, key in enumerate(keys) if key in balances] if balances else ():
            balance = balances[cast(bytes, keys[row])]
            if row not in poison:
                balance.value = max(balance.value - 1, 0)
                balance.own_good += 1
            elif self._debit(batch, row, balance, poison[row]):
                excused.add(row)
        self._good += len(batch) - len(poison)
        for key in [key for key, balance in balances.items() if not balance.value]:
            if balances.pop(key).broken:
                logger.info("key %r is well again", shown_key(key))
        return excused

    def _debit(self, batch: RecordBatch, row: int, balance: _Balance, error: PoisonEvent) -> bool:
        """Returns whether the key is broken."""
        balance.value = min(balance.value + 1, 2 * self._tolerance)  # it is to be well again soon after it is mended
        others_good = self._good - balance.since > balance.own_good
        if balance.value > self._tolerance and others_good and not balance.broken:
            balance.broken = True
            logger.error(
                "%s[%d]@%d: key %r sends more poison than not, while other keys are served; it goes to the dead-letter "
                "topic, and counts towards no limit of dead_letter until the key is well again: mend what sends it; "
                "this one failed at %s: %s",
                *(batch.topic, batch.partition, batch.offsets[row], shown_key(cast(bytes, batch.keys[row]))),
                *(error.stage, error.message),
            )
        return balance.broken


def _thin_out(balances: dict[bytes, _Balance]) -> None:
    """Forget the better half."""
    by_balance = sorted(balances, key=lambda key: (balances[key].broken, balances[key].value))
    for key in by_balance[: len(by_balance) // 2]:
        del balances[key]
