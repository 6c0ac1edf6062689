"""Whether a run has kept its guarantee: what stands on the broker, against what an uninterrupted run would have made.

Each checker is a pure function and returns its violations in words; none is a pass. Nothing here shares code with the
worker.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.counting import ENTRY
from tests.verify import Record

AT_LEAST_ONCE, EXACTLY_ONCE = "at_least_once", "exactly_once"
GUARANTEES = (AT_LEAST_ONCE, EXACTLY_ONCE)
EXAMPLES = 3
# What the counting pipeline makes of a value, see tests/counting.py: no output, and where it fails before it counts.
REFUSED = (b"poison", b"bad:features", b"bad:infer", b"bad:encode", b"nan")
UNCOUNTED = (b"poison", b"bad:features")

Place = tuple[int, int]  # partition and offset of an input
Key = tuple[int, bytes | None]  # partition and key
State = dict[Key, tuple[int, int]]  # count, and the last input offset in it


@dataclass(frozen=True)
class Evidence:
    """All that stands on the broker after a run, as a read_committed subscriber sees it; each topic in log order."""

    source: str
    inputs: Sequence[Record]
    outputs: Sequence[Record]
    letters: Sequence[Record]
    changelog: Sequence[Record]


@dataclass(frozen=True)
class Expected:
    """What an uninterrupted run makes of the inputs.

    Args:
        values: input -> its output's value; None where it becomes a dead letter.
        state: what the changelog says at the end, key by key.
    """

    values: Mapping[Place, bytes | None]
    state: State


@dataclass(frozen=True)
class Disturbance:
    """A fault that may make a worker repeat what it had not committed when the fault began.

    Args:
        committed: partition -> the group's committed offset just before.
    """

    from_ms: float
    to_ms: float
    committed: Mapping[int, int]

    def explains(self, place: Place, made_ms: float, reach_ms: float) -> bool:
        """Whether an output made at that time may have been in flight."""
        partition, offset = place
        in_time = self.from_ms - reach_ms <= made_ms <= self.to_ms + reach_ms
        return in_time and offset >= self.committed.get(partition, 0)


@dataclass(frozen=True)
class Tally:
    """What one life of a worker has counted in its metrics, as far as it was seen."""

    records_in: float
    records_out: float
    dead_lettered: float


@dataclass
class Lives:
    """The lives of all workers of a run.

    Args:
        whole: whether the tallies hold everything that was counted: no life ended before it was looked at last.
        odd_ends: the reasons of lives that ended as no worker may.
    """

    tallies: list[Tally] = field(default_factory=list)
    whole: bool = False
    odd_ends: list[str] = field(default_factory=list)


def uninterrupted(inputs: Iterable[Record]) -> Expected:
    """What the counting pipeline makes of the inputs when nobody disturbs it."""
    values: dict[Place, bytes | None] = {}
    state: State = {}
    for record in inputs:
        key = (record.partition, record.key)
        count, _ = state.get(key, (0, -1))
        if record.value not in UNCOUNTED:
            count += 1
            state[key] = count, record.offset
        refused = record.value in REFUSED
        values[record.partition, record.offset] = None if refused else value(record.offset, count)
    return Expected(values, state)


def value(offset: int, count: int) -> bytes:
    """The counting pipeline's output."""
    return json.dumps({"offset": offset, "count": count}).encode()


def judge(
    evidence: Evidence,
    expected: Expected,
    guarantee: str,
    *,
    disturbances: Sequence[Disturbance] = (),
    reach_s: float = 0.0,
    overtaking: bool = False,
    lives: Lives | None = None,
) -> list[str]:
    """All violations of a guarantee.

    Args:
        disturbances: what may have made at_least_once repeat something.
        reach_s: how long what is made may stay uncommitted.
        overtaking: whether the test itself lets writes overtake each other, which costs at_least_once its order.
    """
    exactly = guarantee == EXACTLY_ONCE
    lives = lives or Lives()
    return [
        *nameless(evidence),
        *lost(evidence, expected),
        *(repeated(evidence) if exactly else unexplained(evidence, disturbances, reach_s)),
        *(disordered(evidence) if exactly or not overtaking else ()),
        *(differing(evidence, expected) if exactly else ()),
        *wrong_state(evidence, expected, last_wins=exactly),
        *unbalanced(lives, evidence),
        *lives.odd_ends,
    ]


def nameless(evidence: Evidence) -> list[str]:
    """Outputs and dead letters that do not name an input: a subscriber could not recognise a repetition."""
    odd = [record for record in evidence.outputs if _of_output(record, evidence.source) is None]
    odd += [record for record in evidence.letters if _of_letter(record, evidence.source) is None]
    return _say(odd, "records name no input of theirs")


def lost(evidence: Evidence, expected: Expected) -> list[str]:
    """Inputs without an output or a dead letter, with the wrong one of the two, or under another key or partition."""
    outputs, letters = _by_input(evidence)
    inputs = {(record.partition, record.offset): record for record in evidence.inputs}
    good = {place for place, made in expected.values.items() if made is not None}
    bad = inputs.keys() - good
    moved = [
        record
        for made in (outputs, letters)
        for place, records in made.items()
        for record in records
        if place in inputs and (record.partition, record.key) != (place[0], inputs[place].key)
    ]
    changed = [
        record
        for place, records in letters.items()
        for record in records
        if place in inputs and record.value != inputs[place].value
    ]
    return [
        *_say(sorted(good - outputs.keys()), f"of {len(good)} good inputs have no output"),
        *_say(sorted(bad - letters.keys()), f"of {len(bad)} bad inputs have no dead letter"),
        *_say(sorted(outputs.keys() & bad), "bad inputs have an output"),
        *_say(sorted(letters.keys() & good), "good inputs have a dead letter"),
        *_say(sorted((outputs.keys() | letters.keys()) - inputs.keys()), "inputs with an output never were"),
        *_say(moved, "records stand under another key or partition than their input"),
        *_say(changed, "dead letters have another value than their input"),
    ]


def repeated(evidence: Evidence) -> list[str]:
    """Inputs with more than one output or dead letter."""
    outputs, letters = _by_input(evidence)
    made = Counter({place: len(records) for place, records in outputs.items()})
    made.update({place: len(records) for place, records in letters.items()})
    twice = sorted((place, times) for place, times in made.items() if times > 1)
    return _say(twice, f"of {len(evidence.inputs)} inputs are there more than once (input, times)")


def repetitions(evidence: Evidence) -> int:
    """How many outputs and dead letters are repetitions."""
    return sum(len(records) - 1 for made in _by_input(evidence) for records in made.values())


def unexplained(evidence: Evidence, disturbances: Sequence[Disturbance], reach_s: float) -> list[str]:
    """Repetitions of what was not in flight in any disturbance: committed before, or made at another time."""
    odd = []
    for made in _by_input(evidence):
        for place, records in made.items():
            # The last one made may be anybody's; each one before it was made again only because it was in flight.
            times = sorted(record.timestamp_ms for record in records)[:-1]
            odd += [
                (place, made_ms)
                for made_ms in times
                if not any(each.explains(place, made_ms, reach_s * 1000) for each in disturbances)
            ]
    return _say(odd, "repetitions were not in flight when something was disturbed (input, made at)")


def disordered(evidence: Evidence) -> list[str]:
    """Keys whose outputs, without repetitions, do not stand in the order of their inputs; dead letters likewise."""
    odd = []
    for records, place_of in ((evidence.outputs, _of_output), (evidence.letters, _of_letter)):
        last: dict[Key, int] = {}
        seen: set[Place] = set()
        for record in records:
            place = place_of(record, evidence.source)
            if place is None or place in seen:
                continue
            seen.add(place)
            key = (record.partition, record.key)
            if last.get(key, -1) > place[1]:
                odd.append(f"{place} of key {record.key!r} behind offset {last[key]}")
            last[key] = place[1]
    return _say(odd, "outputs stand behind a later one of their key")


def differing(evidence: Evidence, expected: Expected) -> list[str]:
    """Outputs with another value than an uninterrupted run's: they were computed from another state."""
    odd = []
    for place, records in _by_input(evidence)[0].items():
        want = expected.values.get(place)
        odd += [(place, record.value, want) for record in records if want is not None and record.value != want]
    return _say(sorted(odd), "outputs differ from an uninterrupted run's (input, got, expected)")


def wrong_state(evidence: Evidence, expected: Expected, *, last_wins: bool) -> list[str]:
    """Keys whose final state differs from an uninterrupted run's.

    Args:
        last_wins: take a key's last record, as compaction does; else the one with the largest input offset.
    """
    found: State = {}
    for record in evidence.changelog:
        key = (record.partition, record.key)
        if record.value is None:
            found.pop(key, None)
            continue
        count, offset = ENTRY.unpack(record.value)
        if last_wins or offset > found.get(key, (0, -1))[1]:
            found[key] = (count, offset)
    odd = [
        (key, found.get(key), expected.state.get(key))
        for key in found.keys() | expected.state.keys()
        if found.get(key) != expected.state.get(key)
    ]
    return _say(sorted(odd, key=repr), f"of {len(expected.state)} keys have another state (key, got, expected)")


def unbalanced(lives: Lives, evidence: Evidence) -> list[str]:
    """Metrics in which the inputs are not the sum of outputs and dead letters."""
    odd = [each for each in lives.tallies if each.records_in != each.records_out + each.dead_lettered]
    said = _say(odd, "workers have counted inputs that are not the sum of outputs and dead letters")
    if lives.whole:
        made = len(evidence.outputs), len(evidence.letters)
        counted = sum(each.records_out for each in lives.tallies), sum(each.dead_lettered for each in lives.tallies)
        if made != counted:
            said.append(f"the metrics count {counted} outputs and dead letters, the topics hold {made}")
    return said


def _by_input(evidence: Evidence) -> tuple[dict[Place, list[Record]], dict[Place, list[Record]]]:
    outputs: dict[Place, list[Record]] = defaultdict(list)
    letters: dict[Place, list[Record]] = defaultdict(list)
    for record in evidence.outputs:
        if (place := _of_output(record, evidence.source)) is not None:
            outputs[place].append(record)
    for record in evidence.letters:
        if (place := _of_letter(record, evidence.source)) is not None:
            letters[place].append(record)
    return outputs, letters


def _of_output(record: Record, source: str) -> Place | None:
    return _place(source, *(record.header("id") or b"").decode().rpartition("/")[::2])


def _of_letter(record: Record, source: str) -> Place | None:
    topic, partition, offset = (record.header(f"error.{name}") or b"" for name in ("topic", "partition", "offset"))
    return _place(source, f"{topic.decode()}/{partition.decode()}", offset.decode())


def _place(source: str, log: str, offset: str) -> Place | None:
    topic, _, partition = log.rpartition("/")
    return (int(partition), int(offset)) if topic == source and partition.isdigit() and offset.isdigit() else None


def _say(odd: Sequence[object], what: str) -> list[str]:
    return [f"{len(odd)} {what}, first {', '.join(_shown(odd))}"] if odd else []


def _shown(odd: Sequence[object]) -> Iterator[str]:
    return (each if isinstance(each, str) else repr(each) for each in odd[:EXAMPLES])
