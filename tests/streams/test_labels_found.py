"""The label loop in the stream: the table of flags, and which flag a label belongs to."""

from __future__ import annotations

import itertools

from tests.streams.inmemory import batch
from tests.streams.label_loop import DAY_MS, FLAGS, NOW_MS, SEEN_MS, Loop, flag, outcomes, value

# The table


def test_the_table_follows_the_flags_and_passes_over_what_is_none() -> None:
    loop = Loop()
    table = loop.pipeline.table
    assert table.next_offset(FLAGS, 0) is None
    assert table.watermark(FLAGS, 0) is None
    absurd = [flag("t7", NOW_MS + 2 * DAY_MS), flag("t8", NOW_MS - 40 * 365 * DAY_MS), flag("t9", score=2.0)]
    loop.score(None, b"?", flag("t1"), *absurd, flag("t2", SEEN_MS - 5), b"{}")
    loop.score(b"?")
    assert len(table) == 2
    assert (table.newest_ms, table.newest_of(0), table.newest_of(1)) == (SEEN_MS, SEEN_MS, None)
    assert (table.watermark(FLAGS, 0), table.watermark(FLAGS, 1)) == (SEEN_MS, None)
    assert (table.next_offset(FLAGS, 0), table.next_offset(FLAGS, 1)) == (9, None)
    assert 0 < table.nbytes < 100


def test_flags_that_come_again_do_not_count_twice() -> None:
    loop = Loop()
    first = [flag("t1", score=0.75), flag("t2", score=0.75)]
    records = batch(first, topic=FLAGS, start=10)
    for _ in range(2):
        loop.pipeline.table.apply(records)  # by offset
    loop.pipeline.table.apply(batch([flag("t1", score=0.125), flag("t3")], topic=FLAGS, start=12))  # by transaction
    assert len(loop.pipeline.table) == 3
    assert outcomes(loop.label(value()))[0]["score"] == 0.75


# What labels find


def test_a_label_waits_for_its_transaction_and_is_counted_once() -> None:
    loop = Loop()
    loop.score(flag("t0", SEEN_MS))
    loop.label(value(), value(), value(transaction_id="t0"))
    assert loop.counts() == {"matched": 1, "waiting": 1}
    loop.score(flag("t1"))
    assert loop.counts() == {"matched": 2}


def test_a_label_whose_transaction_does_not_come_in_time_is_unknown_for_good() -> None:
    loop = Loop()
    loop.score(flag("t0", SEEN_MS))
    loop.label(value(), value(transaction_id="t2", event_time=SEEN_MS + DAY_MS))
    loop.score(flag("t3", SEEN_MS + 7 * DAY_MS))
    assert loop.counts() == {"waiting": 2}
    loop.score(flag("t4", SEEN_MS + 7 * DAY_MS + 1))
    assert loop.counts() == {"waiting": 1, "unknown": 1}
    loop.score(flag("t1", SEEN_MS), flag("t2", SEEN_MS + DAY_MS))  # a week late, and in time
    assert loop.counts() == {"matched": 1, "unknown": 1}


def test_a_label_is_counted_as_long_as_its_flag_is_held_and_no_longer() -> None:
    loop = Loop()
    loop.score(flag("t1", NOW_MS - 46 * DAY_MS), flag("t2", NOW_MS - 40 * DAY_MS))
    labels = [value(transaction_id=f"t{at}", event_time=NOW_MS - days * DAY_MS, label_time=NOW_MS - 30 * DAY_MS)
              for at, days in ((1, 46), (2, 40), (3, 46), (4, 40))]  # fmt: skip
    loop.label(*labels)
    assert loop.counts() == {"matched": 2, "waiting": 2}
    loop.score(flag("t5", NOW_MS))  # the flags are far ahead of the labels
    assert loop.counts() == {"matched": 1, "unknown": 1}


def test_only_the_flags_of_the_labels_own_partition_let_it_wait_no_longer() -> None:
    loop = Loop()
    loop.score(flag("t0", SEEN_MS))
    loop.label(value())
    loop.score(flag("t9", SEEN_MS + 8 * DAY_MS, card_id="c9"), partition=1)
    assert loop.counts() == {"waiting": 1}


def test_labels_that_contradict_and_labels_that_come_too_late_are_counted() -> None:
    loop = Loop()
    loop.score(flag("t1"), flag("t2"))
    late = value(transaction_id="t5", event_time=NOW_MS - 60 * DAY_MS)
    loop.label(value(fraud=False), value(label_time=NOW_MS), value(transaction_id="t2"), late)
    assert loop.counts() == {"matched": 2, "superseded": 1, "expired": 1}


def test_a_restart_from_the_changelog_and_a_redelivery_give_the_same() -> None:
    labels = [
        value(transaction_id=f"t{number % 7}", fraud=number % 3 == 0, label_time=SEEN_MS + number % 5 * DAY_MS)
        for number in range(40)
    ]
    flags = [flag(f"t{number}", SEEN_MS - number * DAY_MS) for number in range(0, 14, 2)]
    first = Loop()
    first.score(*flags)
    log: dict[bytes, bytes | None] = {}
    for start in (0, 10, 20):
        for one in first.label(*labels[start : start + 10]):
            if one.topic == "labels.changelog":
                log.update(zip(one.keys, one.values, strict=True))  # type: ignore[arg-type]
    second = Loop()
    second.score(*flags)
    second.state.store(0).merge(list(log), list(log.values()))
    second.label(*labels[20:])  # 20 to 29 come again
    first.label(*labels[30:])
    assert second.counts() == first.counts()
    assert second.gauges()["labels_matched"] == 4
    assert second.state.store(0).labels()[1].tolist() == first.state.store(0).labels()[1].tolist()


def test_all_orders_of_flags_and_labels_end_alike() -> None:
    flags = [flag("t1"), flag("t2", SEEN_MS + DAY_MS)]
    labels = [value(), value(fraud=False, label_time=SEEN_MS + 8 * DAY_MS), value(transaction_id="t3")]
    ends = []
    for order in itertools.permutations(range(5)):
        loop = Loop()
        for number in order:
            if number < 2:
                loop.score(flags[number])
            else:
                loop.label(labels[number - 2])
        ends.append((loop.counts(), loop.state.store(0).labels()[1].tolist()))
    assert all(end == ends[0] for end in ends)
    assert ends[0][0] == {"matched": 1, "waiting": 1, "superseded": 1}
