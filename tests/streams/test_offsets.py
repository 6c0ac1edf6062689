"""The low-water mark: never past a batch that is still in flight, whatever the order in which batches finish."""

from __future__ import annotations

import random

from streams.offsets import Flight, LowWaterMarks


def test_nothing_is_committable_before_something_is_done() -> None:
    marks = LowWaterMarks()
    marks.begin("p0", 10)
    assert marks.committable("p0") is None
    assert list(marks.partitions()) == []


def test_a_batch_in_flight_holds_the_mark_below_it() -> None:
    # A batch at 2585, with 2586 to 2589 done behind it: 2590 must not be committed.
    marks = LowWaterMarks()
    flights = [marks.begin("p0", offset + 1) for offset in range(2585, 2590)]
    for flight in flights[1:]:
        marks.finish("p0", flight)
    assert marks.committable("p0") is None
    marks.finish("p0", flights[0])
    assert marks.committable("p0") == 2590


def test_finishing_twice_changes_nothing() -> None:
    marks = LowWaterMarks()
    first, second = marks.begin("p0", 5), marks.begin("p0", 9)
    marks.finish("p0", first)
    marks.finish("p0", first)
    assert marks.committable("p0") == 5
    marks.finish("p0", second)
    assert (marks.committable("p0"), marks.in_flight("p0")) == (9, 0)


def test_a_flight_of_before_a_reset_does_not_move_the_mark_of_the_next_delivery() -> None:
    marks = LowWaterMarks()
    before = marks.begin("p0", 100)
    marks.reset()
    again = marks.begin("p0", 50)
    assert not marks.is_alive("p0", before)
    marks.finish("p0", before)
    assert marks.committable("p0") is None
    marks.finish("p0", again)
    assert marks.committable("p0") == 50


def test_a_flight_that_ends_after_a_reset_and_before_the_next_delivery_is_dead_too() -> None:
    marks = LowWaterMarks()
    before = marks.begin("p0", 100)
    marks.reset(["p0"])
    marks.finish("p0", before)
    assert marks.committable("p0") is None
    assert marks.in_flight("p0") == 0


def test_a_reset_of_some_partitions_leaves_the_others_alone() -> None:
    marks = LowWaterMarks()
    gone, kept = marks.begin("p0", 7), marks.begin("p1", 8)
    done = marks.begin("p2", 9)
    marks.finish("p2", done)
    marks.reset(["p0", "never seen"])
    assert not marks.is_alive("p0", gone)
    assert marks.is_alive("p1", kept)
    marks.finish("p1", kept)
    assert (marks.committable("p1"), marks.committable("p2")) == (8, 9)
    assert set(marks.partitions()) == {"p1", "p2"}


class Trivial:
    """What the mark should be, worked out from scratch each time."""

    def __init__(self) -> None:
        self.delivered: dict[int, list[tuple[Flight, int]]] = {}
        self.done: set[int] = set()

    def committable(self, partition: int) -> int | None:
        mark = None
        for flight, next_offset in self.delivered.get(partition, []):
            if id(flight) not in self.done:
                break
            mark = next_offset
        return mark


def test_any_order_of_deliveries_finishes_and_resets_agrees_with_a_trivial_model() -> None:
    for seed in range(60):
        draw = random.Random(seed)
        marks, model = LowWaterMarks(), Trivial()
        every: list[tuple[int, Flight]] = []  # also those of before a reset, which may finish at any time
        offsets = dict.fromkeys(range(3), 0)
        for _ in range(300):
            partition = draw.randrange(3)
            action = draw.random()
            if action < 0.45:
                offsets[partition] += draw.randint(1, 40)
                flight = marks.begin(partition, offsets[partition])
                model.delivered.setdefault(partition, []).append((flight, offsets[partition]))
                every.append((partition, flight))
            elif action < 0.95 and every:
                partition, flight = draw.choice(every)
                marks.finish(partition, flight)
                model.done.add(id(flight))
            else:
                gone = draw.choice([None, [partition], [0, 1]])
                for each in [0, 1, 2] if gone is None else gone:
                    model.delivered.pop(each, None)
                    offsets[each] = draw.randint(0, offsets[each])
                marks.reset(gone)
            for each in range(3):
                assert marks.committable(each) == model.committable(each), f"seed {seed}, partition {each}"
            held = {id(flight) for flights in model.delivered.values() for flight, _ in flights}
            for each, flight in every[-20:]:
                assert marks.is_alive(each, flight) == (id(flight) in held), f"seed {seed}"
