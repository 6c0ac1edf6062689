"""The watchdog: work without progress is a stall; rest, progress and new partitions are not."""

from __future__ import annotations

from streams.watchdog import PartitionView, Watchdog

TIMEOUT_S = 10.0


def _watch(*looks: tuple[float, PartitionView | None]) -> list[float | None]:
    """Seconds without progress of partition 0 at each look; None while it is fine."""
    watchdog = Watchdog(TIMEOUT_S)
    return [watchdog.look({} if view is None else {0: view}, now).get(0) for now, view in looks]


def test_batches_in_flight_without_progress_are_a_stall_that_grows() -> None:
    view = PartitionView(done=100, end=None, in_flight=3)
    assert _watch((0, view), (9, view), (10, view), (25, view)) == [None, None, 10, 25]


def test_records_behind_the_log_end_without_progress_are_a_stall_even_when_nothing_is_in_flight() -> None:
    view = PartitionView(done=100, end=150, in_flight=0)
    assert _watch((0, view), (10, view)) == [None, 10]


def test_a_first_batch_that_never_ends_is_a_stall() -> None:
    view = PartitionView(done=None, end=None, in_flight=1)
    assert _watch((0, view), (12, view)) == [None, 12]


def test_a_partition_without_work_never_stalls() -> None:
    view = PartitionView(done=100, end=100, in_flight=0)
    assert _watch((0, view), (1000, view), (5000, view)) == [None, None, None]


def test_any_progress_starts_the_wait_anew() -> None:
    assert _watch(
        (0, PartitionView(100, 500, 2)),
        (9, PartitionView(101, 500, 2)),
        (18, PartitionView(101, 600, 7)),  # more work is no progress
        (19, PartitionView(101, 700, 7)),
    ) == [None, None, None, 10]


def test_work_that_comes_after_a_rest_gets_its_full_time() -> None:
    idle, busy = PartitionView(100, 100, 0), PartitionView(100, 101, 1)
    assert _watch((0, idle), (100, busy), (109, busy), (110, busy)) == [None, None, None, 10]


def test_a_partition_that_was_away_gets_its_full_time() -> None:
    view = PartitionView(100, 200, 1)
    assert _watch((0, view), (9, None), (11, view), (20, view), (21, view)) == [None, None, None, None, 10]


def test_a_reset_forgets_how_long() -> None:
    watchdog, view = Watchdog(TIMEOUT_S), {0: PartitionView(100, 200, 1)}
    watchdog.look(view, 0)
    watchdog.reset()
    assert watchdog.look(view, 11) == {}
    assert watchdog.look(view, 21) == {0: 10}


def test_partitions_are_judged_one_by_one() -> None:
    watchdog = Watchdog(TIMEOUT_S)
    stuck = PartitionView(5, 10, 1)
    watchdog.look({0: stuck, 1: PartitionView(5, 10, 1), 2: PartitionView(9, 9, 0)}, 0)
    assert watchdog.look({0: stuck, 1: PartitionView(6, 10, 1), 2: PartitionView(9, 9, 0)}, 10) == {0: 10}
