"""The long suite, with `--chaos-minutes`: full doses, a negative control for each checker, and chance.

Chance goes on until the minutes are over, which the rest may take longer than.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from tests.chaos import scenarios
from tests.chaos.conftest import Enter, Options, Report
from tests.chaos.disks import SmallDisk
from tests.chaos.faults import SESSION_S
from tests.chaos.scenarios import KILL, ZOMBIE, Arsenal, Scenario
from tests.chaos.stage import Plan
from tests.chaos.verdict import AT_LEAST_ONCE, EXACTLY_ONCE

pytestmark = pytest.mark.chaos

SEED = 606
NAMES = [each.name for each in scenarios.long()]


@pytest.fixture(autouse=True)
def _long(chaos: Options) -> None:
    if not chaos.long:
        pytest.skip("part of the long suite: --chaos-minutes")


@pytest.fixture
def arsenal(disk: SmallDisk | str) -> Arsenal:
    return Arsenal(disk)


@pytest.mark.parametrize("name", NAMES)
def test_full_doses(name: str, enter: Enter, report: Report, arsenal: Arsenal) -> None:
    scenario = next(each for each in scenarios.long() if each.name == name)
    if not scenario.doses.keys() & arsenal.faults().keys():
        pytest.skip(f"no disk that can be made full: {arsenal.disk}")
    outcomes = scenarios.play(scenario, enter(scenario.plan, SEED), arsenal)
    report(outcomes)
    assert not scenarios.complaints(outcomes)


@dataclass(frozen=True)
class Control:
    """A safeguard that is switched off, the faults that need it, and the complaint that must come."""

    guarantee: str
    doses: Mapping[str, int]
    plan: Plan
    complaint: str
    judged_as: str | None = None
    in_order: bool = False


def without(safeguard: str, **script: object) -> dict[str, object]:
    return {"without": safeguard, **script}


FROZEN = {"worker__session_timeout_s": SESSION_S}
CONTROLS = {
    "max(acked)+1 is committed": Control(
        AT_LEAST_ONCE,
        {KILL: 6},
        Plan(
            script=without("commit_the_low_water_mark", delays_s=0.3),
            settings={"worker__commit_interval_s": 0.05},  # hardly a kill without a commit just before
        ),
        "good inputs have no output",
    ),
    "state is restored read_uncommitted": Control(
        EXACTLY_ONCE,
        {KILL: 10},
        Plan(script=without("restore_what_is_committed"), settings={"worker__transaction_interval_s": 0.5}),
        "outputs differ from an uninterrupted run's",
    ),
    "the position jumps over others' writes": Control(
        AT_LEAST_ONCE,
        {ZOMBIE: 4},
        # Many keys: what was missed must not soon be written anew.
        Plan(
            workers=2,
            static=False,
            keys=4_000,
            script=without("know_the_changelog_without_gaps", delays_s=0.3),
            settings=FROZEN,
        ),
        "keys have another state",
    ),
    "no transactions": Control(AT_LEAST_ONCE, {KILL: 4}, Plan(), "are there more than once", judged_as=EXACTLY_ONCE),
    "writes overtake each other": Control(
        AT_LEAST_ONCE, {}, Plan(script={"delays_s": 0.3}), "stand behind a later one of their key", in_order=True
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_safeguard_that_is_switched_off_is_missed(
    name: str, enter: Enter, chaos: Options, report: Report, arsenal: Arsenal
) -> None:
    control = CONTROLS[name]
    stage = enter(control.plan, SEED, [control.guarantee])
    scenario = Scenario(f"control: {name}", control.doses, control.plan)
    (outcome,) = scenarios.play(scenario, stage, arsenal, control.judged_as, control.in_order)
    missed = not any(control.complaint in each for each in outcome.violations)
    report([replace(outcome, violations=["the checker has not seen it"] if missed else [])])
    assert not missed, outcome.violations


def test_what_chance_brings(enter: Enter, chaos: Options, report: Report, arsenal: Arsenal) -> None:
    """One seed after the other, until the time is up; each is judged, whatever became of those before."""
    said = []
    for seed in itertools.count(chaos.seed):
        if chaos.left_s <= 0:
            break
        scenario = scenarios.drawn(seed, arsenal)
        guarantees = [each for each in chaos.guarantees if each in scenario.guarantees]
        if not guarantees:
            continue
        try:
            stage = enter(scenario.plan, seed, guarantees)
            outcomes = scenarios.play(scenario, stage, arsenal)
        except AssertionError as error:
            said.append(f"{scenario.name}: {error}")
            continue
        report(outcomes)
        said.append(scenarios.complaints(outcomes))
    assert not any(said), "\n".join(filter(None, said))
