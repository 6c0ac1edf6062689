"""Both guarantees, side by side under the same faults: nothing is lost, what is repeated may be, state is exact.

Small doses, for every test run; `headrace bench chaos` has the full ones.
"""

from __future__ import annotations

import pytest

from tests.chaos import scenarios
from tests.chaos.conftest import Enter, Options, Report
from tests.chaos.disks import SmallDisk
from tests.chaos.scenarios import Arsenal
from tests.chaos.stage import Plan
from tests.chaos.verdict import AT_LEAST_ONCE

pytestmark = pytest.mark.chaos

SEED = 606
NAMES = [each.name for each in scenarios.short()]
PLANNED = ("workers come and go",)


def test_nothing_goes_wrong(enter: Enter, report: Report) -> None:
    """No worker takes with it what it has counted: the metrics are compared with the topics."""
    stage = enter(Plan(workers=2), SEED)
    stage.wait(1.0)
    outcomes = stage.finish("undisturbed", 0)
    report(outcomes)
    assert not scenarios.complaints(outcomes)
    assert [each.repeats for each in outcomes] == [0] * len(outcomes)


@pytest.mark.parametrize("name", NAMES)
def test_both_guarantees_hold(name: str, enter: Enter, chaos: Options, report: Report, disk: SmallDisk | str) -> None:
    if chaos.long:
        pytest.skip("the long suite has the same in larger doses")
    arsenal = Arsenal(disk)
    scenario = next(each for each in scenarios.short() if each.name == name)
    outcomes = scenarios.play(scenario, enter(scenario.plan, SEED), arsenal)
    report(outcomes)
    assert not scenarios.complaints(outcomes)
    repeats = {each.guarantee: each.repeats for each in outcomes}
    # A fault that costs at_least_once nothing has hit nothing in flight, and says nothing about exactly_once either.
    assert (repeats.get(AT_LEAST_ONCE, 1) > 0) == (name not in PLANNED), repeats


def test_a_full_disk_is_among_the_faults(disk: SmallDisk | str) -> None:
    if isinstance(disk, str):
        pytest.skip(f"no disk that can be made full: {disk}")
    assert scenarios.DISK in Arsenal(disk).faults()
