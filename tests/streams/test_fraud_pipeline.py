"""The fraud domain in the stream: what is poison, what the features are, and that batching changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fraud.history import CardHistory
from models.fraud.inputs import PLAIN_FEATURES
from models.fraud.phrases import PHRASES
from streams.clock import ManualClock
from streams.decoding import EARLIEST_MS
from streams.pipelines.fraud.pipeline import FraudPipeline
from streams.processor import Processor
from streams.records import Outgoing, RecordBatch
from streams.settings import Fraud
from streams.state import KeyedState
from tests.streams.inmemory import batch

NOW_S = 1_767_225_600.0  # 2026-01-01
NOW_MS = int(NOW_S * 1000)
DAY_MS = 86_400_000
IN, OUT = "transactions", "fraud.flags"
GOOD = {"transaction_id": "t1", "card_id": "c1", "terminal_id": "m1", "amount": 10.5, "event_time": NOW_MS}


@pytest.fixture(scope="module")
def pipeline() -> Iterator[FraudPipeline]:
    made = FraudPipeline(Fraud(), clock=ManualClock(NOW_S))
    yield made
    made.close()


@pytest.fixture
def fresh() -> Iterator[Callable[[], FraudPipeline]]:
    """Make pipelines that have seen nothing yet."""
    made: list[FraudPipeline] = []

    def make(**settings: Any) -> FraudPipeline:
        made.append(FraudPipeline(Fraud(**settings), clock=ManualClock(NOW_S)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def _processor(pipeline: Any) -> Processor[Any]:
    return Processor(pipeline, KeyedState("fraud.changelog", CardHistory), clock=ManualClock(NOW_S))


def _value(**fields: object) -> bytes:
    return json.dumps(GOOD | fields).encode()


def _with(field: str, literal: bytes) -> bytes:
    """A transaction with a JSON literal as it stands."""
    return json.dumps(GOOD | {field: "@"}).encode().replace(b'"@"', literal)


def _without(field: str) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name != field}).encode()


def _dead(outgoing: Sequence[Outgoing]) -> list[tuple[bytes | None, dict[str, bytes | None]]]:
    return [
        (value, dict(each.headers_of(row)))
        for each in outgoing
        if each.topic == IN + ".dead-letter"
        for row, value in enumerate(each.values)
    ]


def _flags(outgoing: Sequence[Outgoing]) -> list[dict[str, Any]]:
    return [json.loads(value or b"") for each in outgoing if each.topic == OUT for value in each.values]


POISON: dict[str, bytes | None] = {
    "no value": None,
    "nothing": b"",
    "not JSON": b"transaction",
    "half of it": _value()[:40],
    "something behind it": _value() + b"{}",
    "two in one": _value() + b"\n" + _value(),
    "a list": b"[" + _value() + b"]",
    "a number": b"1",
    "null": b"null",
    "UTF-16": _value().decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + _value(),
    "bytes": bytes(range(256)),
    "invalid UTF-8 in an id": _value().replace(b'"t1"', b'"\xff\xfe"'),
    "a surrogate in UTF-8": _value().replace(b'"t1"', b'"\xed\xa0\x80"'),
    "a lone surrogate in an id": _value().replace(b'"t1"', b'"\\ud800"'),
    "a lone surrogate in the card": _value().replace(b'"c1"', b'"\\udfff"'),
    **{f"no {field}": _without(field) for field in GOOD},
    **{f"null as {field}": _value(**{field: None}) for field in GOOD},
    **{f"a list as {field}": _value(**{field: []}) for field in GOOD},
    **{f"true as {field}": _value(**{field: True}) for field in GOOD},
    "an empty card": _value(card_id=""),
    "an id without end": _value(transaction_id="x" * 5000),
    "a number as card": _value(card_id=1),
    "a negative amount": _value(amount=-0.01),
    "amount NaN": _with("amount", b"NaN"),
    "amount Infinity": _with("amount", b"Infinity"),
    "amount -Infinity": _with("amount", b"-Infinity"),
    "amount 1e400": _with("amount", b"1e400"),
    "amount of 401 digits": _with("amount", b"1" + b"0" * 400),
    "amount beyond reason": _value(amount=1e10),
    "amount as text": _value(amount="10.5"),
    "amount NaN as text": _value(amount="NaN"),
    "time as text that is none": _value(event_time="yesterday"),
    "time without a zone": _value(event_time="2026-01-01T00:00:00"),
    "a date alone": _value(event_time="2026-01-01"),
    "time with a fraction": _with("event_time", b"1767225600000.5"),
    "milliseconds as text": _value(event_time=str(NOW_MS)),
    "time before 1970": _value(event_time=-1),
    "seconds taken for milliseconds": _value(event_time=NOW_MS // 1000),
    "a date before 2000": _value(event_time="1999-12-31T23:59:59Z"),
    "the first of all dates": _value(event_time="0001-01-01T00:00:00+23:59"),
    "the last of all dates": _value(event_time="9999-12-31T23:59:59.999999-23:59"),
    "time too far ahead": _value(event_time=NOW_MS + DAY_MS + 1),
    "microseconds": _value(event_time=NOW_MS * 1000),
    "time beyond 64 bits": _with("event_time", b"9" * 30),
    "time far below 64 bits": _with("event_time", b"-" + b"9" * 30),
    "time of 5000 digits": _with("event_time", b"9" * 5000),
    "a huge number as mcc": _value()[:-1] + b',"mcc":' + b"9" * 5000 + b"}",
    "deep lists": b"[" * 8000,
    "deep lists in an unknown field": _value()[:-1] + b',"x":' + b"[" * 7000 + b"]" * 7000 + b"}",
    "deep objects in an unknown field": _value()[:-1] + b',"x":' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"}",
    "a value over the limit": _value(currency="x" * 20_000),
}


@pytest.mark.parametrize("value", POISON.values(), ids=POISON.keys())
def test_poison_is_dead_lettered_byte_for_byte_and_its_neighbours_are_predicted(
    pipeline: FraudPipeline, value: bytes | None
) -> None:
    records = batch([_value(), value, _value(transaction_id="t3")], keys=[b"c1"] * 3, start=70, topic=IN)
    (outbox,) = _processor(pipeline).process([records]).outboxes
    ((letter, headers),) = _dead(outbox.outgoing)
    assert letter == value
    assert headers["error.stage"] == b"decode"
    assert headers["error.offset"] == b"71"
    assert headers["error.message"]
    assert len(headers["error.message"]) < 1000
    assert headers["error.type"] != b"EventTimeAbsurd" or b"milliseconds since the epoch" in headers["error.message"]
    assert [flag["transaction_id"] for flag in _flags(outbox.outgoing)] == ["t1", "t3"]


@pytest.mark.parametrize("key", [None, b"", b"c2", b"C1", b"c1 ", b"\xff"])
def test_a_key_that_is_not_the_card_is_poison(pipeline: FraudPipeline, key: bytes | None) -> None:
    records = batch([_value(), _value()], keys=[b"c1", key], topic=IN)
    (outbox,) = _processor(pipeline).process([records]).outboxes
    ((_, headers),) = _dead(outbox.outgoing)
    assert headers["error.type"] == b"KeyMismatch"


def test_keys_that_agree_only_when_joined_are_poison(pipeline: FraudPipeline) -> None:
    records = batch([_value(card_id="ab"), _value(card_id="c")], keys=[b"a", b"bc"], topic=IN)
    (outbox,) = _processor(pipeline).process([records]).outboxes
    assert len(_dead(outbox.outgoing)) == 2


@pytest.mark.parametrize(
    "value",
    [
        _value(amount=0),
        _value(amount=10),
        _with("amount", b"1e-400"),
        _value(event_time=NOW_MS + DAY_MS - 1),
        _value(event_time="2026-01-01T05:30:00.123456+05:30"),
        _value(unknown={"deep": [1, None]}, currency="EUR", mcc=5411),
        _value(mcc="5411", channel=None),
        b" \n" + _value() + b"\t ",
        _value()[:-1] + b',"amount":99}',  # the last one wins, as in every JSON reader
    ],
)
def test_what_is_odd_but_right_is_predicted(pipeline: FraudPipeline, value: bytes) -> None:
    (outbox,) = _processor(pipeline).process([batch([value], keys=[b"c1"], topic=IN)]).outboxes
    assert _dead(outbox.outgoing) == []
    assert len(_flags(outbox.outgoing)) == 1


@pytest.mark.parametrize("card", ['"quoted"', "back\\slash", "ünï☃😀", "tab\tnewline\n", "\x00", "\u2028"])
def test_ids_of_any_characters_come_out_as_they_went_in(pipeline: FraudPipeline, card: str) -> None:
    values = [_value(card_id=card, transaction_id=card + "t"), _value()]
    (outbox,) = _processor(pipeline).process([batch(values, keys=[card.encode(), b"c1"], topic=IN)]).outboxes
    assert [(flag["card_id"], flag["transaction_id"]) for flag in _flags(outbox.outgoing)] == [
        (card, card + "t"),
        ("c1", "t1"),
    ]


def test_rfc3339_and_milliseconds_of_the_same_moment_are_equal(pipeline: FraudPipeline) -> None:
    draw = np.random.default_rng(3)
    times = [int(each) for each in draw.integers(EARLIEST_MS, NOW_MS, 500)]
    written = []
    for row, each in enumerate(times):
        moment = datetime.fromtimestamp(each // 1000, UTC).replace(microsecond=each % 1000 * 1000)
        text = moment.isoformat(timespec="milliseconds")
        written.append(text.replace("+00:00", "Z") if row % 2 else text)
    as_numbers = pipeline.decode(batch([_value(event_time=each) for each in times], keys=[b"c1"] * 500, topic=IN))
    as_text = pipeline.decode(batch([_value(event_time=each) for each in written], keys=[b"c1"] * 500, topic=IN))
    both = [value for pair in zip(times, written, strict=True) for value in pair]
    mixed = pipeline.decode(batch([_value(event_time=each) for each in both], keys=[b"c1"] * 1000, topic=IN))
    assert as_numbers.columns.event_time_ms.tolist() == times
    assert as_text.columns.event_time_ms.tolist() == times
    assert mixed.columns.event_time_ms.tolist() == [each for each in times for _ in range(2)]


def test_the_event_time_of_a_flag_is_the_transactions_own(pipeline: FraudPipeline) -> None:
    (outbox,) = _processor(pipeline).process([batch([_value(event_time=NOW_MS - 1)], keys=[b"c1"], topic=IN)]).outboxes
    assert _flags(outbox.outgoing)[0]["event_time"] == "2025-12-31T23:59:59.999Z"


# Features in the stream and elsewhere


@dataclass(frozen=True)
class Stream:
    """Transactions of some cards, a few of them late, some flagged by the model."""

    keys: list[bytes]
    times: NDArray[np.int64]
    amounts: NDArray[np.float64]

    def batches(self, size: int) -> Iterator[RecordBatch]:
        for start in range(0, len(self.keys), size):
            rows = range(start, min(start + size, len(self.keys)))
            values = [
                _value(
                    transaction_id=f"t{row}",
                    card_id=self.keys[row].decode(),
                    amount=float(self.amounts[row]),
                    event_time=int(self.times[row]),
                )
                for row in rows
            ]
            yield batch(values, keys=[self.keys[row] for row in rows], start=start, topic=IN)


@pytest.fixture(scope="module")
def stream() -> Stream:
    draw, count = np.random.default_rng(7), 1500
    times = np.sort(draw.integers(NOW_MS - 45 * DAY_MS, NOW_MS, count))
    late = draw.random(count) < 0.1
    times[late] -= draw.integers(0, DAY_MS // 2, int(late.sum()))
    amounts = np.round(draw.gamma(2.0, 25.0, count), 2)
    amounts[draw.random(count) < 0.05] *= 20
    return Stream([b"c%07d" % card for card in draw.integers(0, 12, count)], times, np.round(amounts, 2))


def _by_hand(stream: Stream) -> NDArray[np.float64]:
    """Every row's plain features from their definitions, one by one; no label has come, so no share is above 0."""
    rows = []
    for row, key in enumerate(stream.keys):
        now, amount = int(stream.times[row]), float(stream.amounts[row])
        moment = datetime.fromtimestamp(now / 1000, UTC)
        found = [amount, float(moment.weekday() >= 5), float(moment.hour <= 6)]
        for days in (1, 7, 30):
            seen = [
                float(stream.amounts[each])
                for each in range(row + 1)
                if stream.keys[each] == key and now - days * DAY_MS < stream.times[each] <= now
            ]
            found += [len(seen), sum(seen) / len(seen)]
        for days in (1, 7, 30):
            found += [sum(now - (7 + days) * DAY_MS < time <= now - 7 * DAY_MS for time in stream.times.tolist()), 0]
        rows.append(found)
    return np.array(rows)


class Watched:
    """The fraud pipeline, and every row of features that its model saw."""

    def __init__(self, inner: FraudPipeline) -> None:
        self._inner = inner
        self.seen: list[NDArray[np.float64]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def features(self, columns: Any, store: Any) -> NDArray[np.float64]:
        found = self._inner.features(columns, store)
        self.seen.append(found)
        return found


def test_features_in_the_stream_are_those_of_the_definitions_for_every_row(
    fresh: Callable[[], FraudPipeline], stream: Stream
) -> None:
    watched = Watched(fresh())
    processor = _processor(watched)
    for records in stream.batches(64):
        processor.process([records])
    seen = np.concatenate(watched.seen)[:, : len(PLAIN_FEATURES)]
    np.testing.assert_allclose(seen, _by_hand(stream), rtol=0, atol=1e-6)
    assert seen[:, PLAIN_FEATURES.index("terminal_count_30d")].max() > 100


def _everything(pipeline: FraudPipeline, stream: Stream, size: int, again: Callable[[int], bool]) -> list[Any]:
    processor = _processor(pipeline)
    found: dict[str, list[Any]] = {}
    for number, records in enumerate(stream.batches(size)):
        for _ in range(2 if again(number) else 1):
            (outbox,) = processor.process([records]).outboxes
            for flag in _flags(outbox.outgoing):
                found.setdefault(flag["transaction_id"], []).append(flag)
    for flags in found.values():
        for other in flags[1:]:
            assert other == flags[0], "a redelivery changed a prediction"
    return [found[f"t{row}"][0] for row in range(len(stream.keys))]


def test_predictions_are_the_same_for_any_batching_and_after_redeliveries(
    fresh: Callable[[], FraudPipeline], stream: Stream
) -> None:
    whole = _everything(fresh(), stream, len(stream.keys), lambda _: False)
    for size, again in ((200, 2), (37, 3), (1, 5)):
        split = _everything(fresh(), stream, size, lambda number, again=again: number % again == 0)  # type: ignore[misc]
        for ours, theirs in zip(split, whole, strict=True):
            assert ours["score"] == pytest.approx(theirs["score"], abs=2e-6)
            names = ("transaction_id", "card_id", "event_time", "flagged", "decision", "model")
            assert [ours[name] for name in names] == [theirs[name] for name in names]


def test_an_odd_neighbour_does_not_change_the_bytes_of_a_prediction(pipeline: FraudPipeline) -> None:
    plain = _value(amount=0.01, event_time=NOW_MS - 12 * 3_600_000)
    odd = _value(card_id='c"2', transaction_id="t2")
    (alone,) = _processor(pipeline).process([batch([plain], keys=[b"c1"], topic=IN)]).outboxes
    (beside,) = _processor(pipeline).process([batch([plain, odd], keys=[b"c1", b'c"2'], topic=IN)]).outboxes
    first = next(each for each in alone.outgoing if each.topic == OUT).values[0]
    assert next(each for each in beside.outgoing if each.topic == OUT).values[0] == first


def test_reasons_are_given_for_the_flagged_alone_and_add_up(fresh: Callable[[], FraudPipeline], stream: Stream) -> None:
    pipeline = fresh()
    flags = _everything(pipeline, stream, 300, lambda _: False)
    flagged = [flag for flag in flags if flag["flagged"]]
    assert 0 < len(flagged) < len(flags)
    for flag in flags:
        assert 0 <= flag["score"] <= 1
        assert flag["model"] == pipeline.served.model
        if not flag["flagged"]:
            assert (flag["decision"], flag["reasons"]) == ("approve", [])
            assert "baseline" not in flag
            continue
        assert flag["decision"] in ("review", "block")
        contributions = [reason["contribution"] for reason in flag["reasons"]]
        assert contributions == sorted(contributions, reverse=True)
        assert flag["baseline"] + sum(contributions) == pytest.approx(flag["score"], abs=1e-3)
        assert {reason["feature"] for reason in flag["reasons"]} == set(PHRASES)
        assert all(reason["text"] for reason in flag["reasons"])


def test_a_flag_carries_what_the_model_saw_where_that_is_asked_for(
    fresh: Callable[..., FraudPipeline], stream: Stream
) -> None:
    watched = Watched(fresh(include_features=True))
    flags = _everything(watched, stream, 100, lambda _: False)  # type: ignore[arg-type]
    for flag, row in zip(flags, np.concatenate(watched.seen).tolist(), strict=True):
        assert list(flag["features"].values()) == row
