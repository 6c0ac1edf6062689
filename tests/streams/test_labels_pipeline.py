"""The label loop in the stream: what an outcome is, and what is poison."""

from __future__ import annotations

import json

import pytest

from streams.clock import ManualClock
from streams.pipelines import PIPELINES
from streams.pipelines.labels.pipeline import LabelsPipeline
from streams.replay import Replay
from streams.settings import Fraud, Labels, Settings
from tests.streams.label_loop import DAY_MS, GOOD, NOW_MS, NOW_S, SEEN_MS, Loop, dead, flag, outcomes, rfc3339, value

# Outcomes


def test_an_outcome_is_the_label_and_the_flag_that_it_belongs_to() -> None:
    loop = Loop()
    loop.score(flag("t1", score=0.812345), flag("t2", score=0.000001))
    first, second = outcomes(loop.label(value(amount=3.5), value(transaction_id="t2", fraud=False)))
    assert first == {
        "transaction_id": "t1", "card_id": "c1", "fraud": True, "event_time": rfc3339(SEEN_MS),
        "label_time": rfc3339(SEEN_MS + 7 * DAY_MS), "label_age_s": 7 * 86400.0, "score": 0.812345, "flagged": True,
        "decision": "review", "model": "fraud/2",
    }  # fmt: skip
    assert (second["fraud"], second["score"], second["flagged"], second["decision"]) == (
        False,
        0.000001,
        False,
        "approve",
    )


def test_without_a_flag_the_flags_fields_are_null() -> None:
    loop = Loop()
    loop.score(flag("t9"))
    (outcome,) = outcomes(loop.label(value()))
    assert {name for name, each in outcome.items() if each is None} == {"score", "flagged", "decision", "model"}


def test_a_transaction_is_known_by_its_card_and_its_id() -> None:
    loop = Loop()
    loop.score(flag("1t1", card_id="c"), flag("t1", card_id="c"), flag("t", card_id="c1"))
    assert outcomes(loop.label(value()))[0]["score"] is None


def test_times_may_be_texts_or_milliseconds() -> None:
    loop = Loop()
    texts = value(event_time="2025-12-24T05:30:00+05:30", label_time="2025-12-31T00:00:00Z")
    first, second = outcomes(loop.label(texts, value()))
    assert {**first, "score": 0} == {**second, "score": 0}
    assert second["event_time"] == "2025-12-24T00:00:00.000Z"


@pytest.mark.parametrize("card", ['"quoted"', "back\\slash", "ünï☃😀", "tab\tnewline\n", "\x00"])
def test_ids_of_any_characters_come_out_as_they_went_in(card: str) -> None:
    loop = Loop()
    loop.score(flag(card + "t", card_id=card))
    (outcome,) = outcomes(loop.label(value(card_id=card, transaction_id=card + "t"), keys=[card.encode()]))
    assert (outcome["card_id"], outcome["transaction_id"], outcome["score"]) == (card, card + "t", 0.25)


def test_the_worker_can_name_and_describe_it() -> None:
    pipeline = PIPELINES["labels"].build(Settings(fraud=Fraud(output="flags.mine")))
    assert (pipeline.name, pipeline.model, pipeline.engine) == ("labels", "labels/1", "python")
    assert pipeline.table.topics() == {"flags.mine": 0}
    pipeline.warm_up()
    pipeline.check_model()
    pipeline.close()


def test_predictions_over_a_file_need_no_flags() -> None:
    replay = Replay(LabelsPipeline(Labels(), Fraud(), ManualClock(NOW_S)), ManualClock(NOW_S))
    replayed = replay.process([b"c1", b"c1"], [value(), b"?"])
    assert json.loads(replayed.values[0] or b"")["fraud"] is True
    assert len(replayed.dead_letters) == 1


# Poison

POISON: dict[str, tuple[bytes | None, str]] = {
    "no value": (None, "Tombstone"),
    "not JSON": (b"label", "DecodeError"),
    "half of it": (value()[:40], "DecodeError"),
    "invalid UTF-8 in an id": (value().replace(b'"t1"', b'"\xff\xfe"'), "UnicodeDecodeError"),
    "deep lists in an unknown field": (value()[:-1] + b',"x":' + b"[" * 7000 + b"]" * 7000 + b"}", "RecursionError"),
    "a value over the limit": (value(note="x" * 20_000), "ValueTooLarge"),
    **{f"no {field}": (json.dumps({k: v for k, v in GOOD.items() if k != field}).encode(), "ValidationError")
       for field in GOOD},
    "fraud as a number": (value(fraud=1), "ValidationError"),
    "fraud as text": (value(fraud="true"), "ValidationError"),
    "a negative amount": (value(amount=-0.01), "ValidationError"),
    "amount NaN": (value(amount="@").replace(b'"@"', b"NaN"), "DecodeError"),
    "amount 1e400": (value(amount="@").replace(b'"@"', b"1e400"), "ValidationError"),
    "a time without a zone": (value(label_time="2026-01-01T00:00:00"), "ValidationError"),
    "a label from the future": (value(label_time=NOW_MS + 3_600_001), "LabelFromFuture"),
    "a label time beyond 64 bits": (value(label_time="@").replace(b'"@"', b"9" * 30), "LabelFromFuture"),
    "a label before its transaction": (value(label_time=SEEN_MS - 1), "LabelBeforeEvent"),
    "an event before 2000": (value(event_time="1999-12-31T23:59:59Z"), "EventTimeAbsurd"),
    "seconds taken for milliseconds": (value(event_time=SEEN_MS // 1000), "EventTimeAbsurd"),
    "an event far below 64 bits": (value(event_time="@").replace(b'"@"', b"-" + b"9" * 30), "EventTimeAbsurd"),
    "a transaction from the future": (value(event_time=NOW_MS + DAY_MS, label_time=NOW_MS + DAY_MS), "LabelFromFuture"),
    "another card than its key": (value(card_id="c2"), "KeyMismatch"),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "kind"), POISON.values(), ids=POISON.keys())
def test_poison_is_dead_lettered_with_a_sentence_and_its_neighbours_have_outcomes(bad: bytes | None, kind: str) -> None:
    loop = Loop()
    loop.score(flag("t1"))
    outgoing = loop.label(value(), bad, value(transaction_id="t3"))
    ((letter, got, message),) = dead(outgoing)
    assert (letter, got) == (bad, kind)
    assert message
    assert kind != "EventTimeAbsurd" or "milliseconds since the epoch" in message
    assert [outcome["transaction_id"] for outcome in outcomes(outgoing)] == ["t1", "t3"]
    assert len(loop.state.store(0)) == 2


@pytest.mark.parametrize("good", [
    value(label_time=NOW_MS + 3_600_000 - 1), value(label_time=SEEN_MS), value(amount=None), value(amount=0),
    value(note={"deep": [1]}),
])  # fmt: skip
def test_what_is_odd_but_right_has_an_outcome(good: bytes) -> None:
    loop = Loop()
    assert dead(loop.label(good)) == []
    assert len(loop.state.store(0)) == 1


def test_a_card_that_scores_have_passed_without_seeing_it_is_poison() -> None:
    loop = Loop()
    loop.score(flag("t1", SEEN_MS), flag("t2", SEEN_MS + DAY_MS, card_id="c3"))
    labels = [
        value(),
        value(card_id="c2"),
        value(card_id="c2", event_time=SEEN_MS + 2 * DAY_MS),  # the scores are not there yet
        value(card_id="c2", event_time=NOW_MS - 60 * DAY_MS),  # too old to know
        value(card_id="c2", event_time=NOW_MS - 30_000, label_time=NOW_MS),
    ]
    outgoing = loop.label(*labels, keys=[b"c1", *[b"c2"] * 4])
    ((letter, kind, message),) = dead(outgoing)
    assert (letter, kind) == (labels[1], "UnknownCard")
    assert message == "expected a card that has been scored, got 'c2'"
    assert len(outcomes(outgoing)) == 4


def test_a_card_of_a_partition_whose_scores_are_behind_is_not_poison() -> None:
    loop = Loop()
    loop.score(flag("t1", SEEN_MS + DAY_MS))
    assert dead(loop.label(value(card_id="c2"), partition=1, keys=[b"c2"])) == []
    loop.score(flag("t2", SEEN_MS - 1, card_id="c3"), partition=1)
    assert dead(loop.label(value(card_id="c2"), partition=1, keys=[b"c2"])) == []
    loop.score(flag("t3", SEEN_MS, card_id="c3"), partition=1)
    ((_, kind, _),) = dead(loop.label(value(card_id="c2"), partition=1, keys=[b"c2"]))
    assert kind == "UnknownCard"


def test_of_the_last_minutes_nothing_is_known_yet() -> None:
    loop = Loop()
    loop.score(flag("t1", NOW_MS))
    times = [NOW_MS - 30_000, NOW_MS - 5 * 60_000]
    labels = [value(card_id="c2", event_time=time, label_time=NOW_MS) for time in times]
    outgoing = loop.label(*labels, keys=[b"c2"] * 2)
    assert [letter for letter, _, _ in dead(outgoing)] == labels[1:]
    assert len(outcomes(outgoing)) == 1


def test_the_table_is_waited_for_and_a_card_that_it_cannot_know_is_not_poison() -> None:
    loop, asked = Loop(), list[int]()

    def reached(time_ms: int) -> bool:
        asked.append(time_ms)
        return False

    loop.pipeline.table.reached = reached
    loop.score(flag("t1"))
    assert dead(loop.label(value(card_id="c2"), keys=[b"c2"])) == []
    assert asked == [SEEN_MS + 7 * DAY_MS]
    loop.label(value(label_time=NOW_MS), value())
    assert SEEN_MS + 7 * DAY_MS < asked[-1] < NOW_MS - 60_000  # not live: else a table that has only begun would do
