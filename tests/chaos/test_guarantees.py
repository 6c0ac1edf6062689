"""Both guarantees, side by side under the same fault: nothing is lost, what is repeated may be, state is exact.

The doses are small in every test run, and those of the long suite with `--chaos-minutes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors.broker import Broker
from tests.chaos import faults
from tests.chaos.conftest import Enter, Options
from tests.chaos.disks import SmallDisk
from tests.chaos.faults import BROKER_TIMEOUT_S, SESSION_S, Fault
from tests.chaos.stage import Outcome, Plan, Stage

pytestmark = pytest.mark.chaos

SEED = 606
Report = Callable[[Sequence[Outcome]], None]


@dataclass(frozen=True)
class Doses:
    """How often a fault comes: in every test run, and in the long suite."""

    short: int
    long: int

    def of(self, chaos: Options) -> int:
        return self.long if chaos.long else self.short


def suffer(stage: Stage, fault: Fault, doses: int) -> None:
    """Let a fault come so often, with a little life before, between and behind."""
    for _ in range(doses):
        stage.wait(stage.dice.uniform(0.3, 0.8))
        fault(stage)
    stage.wait(0.5)


def conclude(outcomes: Sequence[Outcome], report: Report) -> None:
    """Report, and fail where a guarantee was broken."""
    report(outcomes)
    broken = [f"{each.guarantee}, seed {each.seed}: {said}" for each in outcomes for said in each.violations]
    where = next((each.evidence for each in outcomes if each.evidence), "")
    assert not broken, "\n".join([*broken, f"evidence in {where}"])


def test_nothing_goes_wrong(enter: Enter, chaos: Options, report: Report) -> None:
    """Metrics are compared with the topics where no worker takes what it counted with it."""
    stage = enter(Plan(workers=2), SEED)
    stage.wait(Doses(2, 30).of(chaos))
    outcomes = stage.finish("undisturbed", 0)
    conclude(outcomes, report)
    assert [each.repeats for each in outcomes] == [0] * len(outcomes)


KILLED = Plan(workers=1, per_second=1000)
FROZEN = Plan(workers=2, settings={"worker__session_timeout_s": SESSION_S}, script={"delays_s": 0.3})
IMPATIENT = Plan(settings={"worker__broker_timeout_s": BROKER_TIMEOUT_S, "worker__session_timeout_s": SESSION_S})

SCENARIOS: dict[str, tuple[Fault, Doses, Plan]] = {
    "SIGKILL": (faults.kill, Doses(6, 50), KILLED),
    "SIGKILL, writes delayed": (faults.kill, Doses(4, 30), Plan(script={"delays_s": 0.3})),
    "zombie": (faults.zombie, Doses(1, 10), FROZEN),
    "zombie with a twin": (faults.twin, Doses(1, 10), FROZEN),
    "rebalance": (faults.rebalance, Doses(4, 30), Plan(static=False, settings={"worker__session_timeout_s": 6})),
    "broker killed": (faults.broker_killed, Doses(1, 10), Plan()),
    "broker away": (faults.broker_away(60), Doses(0, 1), Plan(restarts=80)),
    "broker away for longer than the workers wait": (faults.broker_away(5), Doses(1, 5), IMPATIENT),
    "produce timed out": (faults.produce_timeout, Doses(1, 10), IMPATIENT),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_guarantees_hold(name: str, enter: Enter, chaos: Options, report: Report) -> None:
    fault, doses, plan = SCENARIOS[name]
    times = doses.of(chaos)
    if not times:
        pytest.skip("takes too long for every test run")
    stage = enter(plan, SEED)
    suffer(stage, fault, times)
    conclude(stage.finish(name, times), report)


def test_slow_and_failing_models(enter: Enter, chaos: Options, report: Report, tmp_path: Path) -> None:
    """Slow calls all the time, and now and then a model that fails for every record, which ends its worker."""
    marker, doses = tmp_path / "model-fails", Doses(2, 20).of(chaos)
    script = {"slow_s": 0.3, "broken_while": str(marker)}
    stage = enter(Plan(slow_share=0.002, per_second=600, script=script, restarts=4 * doses), SEED)
    suffer(stage, faults.failing_model(marker), doses)
    conclude(stage.finish("model slow and failing", doses), report)


# A segment ends with the first record that comes half a second after its first one, and is compacted at once.
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "500",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "100",
}


def test_kills_while_the_changelog_is_compacted(enter: Enter, chaos: Options, report: Report, broker: Broker) -> None:
    doses = Doses(4, 30).of(chaos)
    stage = enter(Plan(changelog=COMPACTED), SEED)
    suffer(stage, faults.kill, doses)
    stage.until(
        lambda: all(cleaned(broker, line.changelog) for line in stage.lines), 20, "compaction of the changelogs"
    )
    faults.kill(stage)  # at the latest what this one's successor restores has been compacted
    conclude(stage.finish("SIGKILL, changelog compacted", doses + 1), report)


def cleaned(broker: Broker, topic: str) -> dict[int, int]:
    """Partition -> the offset up to which the broker has compacted, by its own checkpoint."""
    checkpoint = broker.settings.home / "data" / "cleaner-offset-checkpoint"
    rows = re.findall(rf"^{re.escape(topic)} (\d+) (\d+)$", checkpoint.read_text(), re.MULTILINE)
    return {int(partition): int(offset) for partition, offset in rows if int(offset)}


def test_a_full_disk(enter: Enter, chaos: Options, report: Report, disk: SmallDisk | str) -> None:
    if isinstance(disk, str):
        pytest.skip(f"no disk that can be made full: {disk}")
    doses = Doses(1, 5).of(chaos)
    stage = enter(Plan(restarts=20), SEED)
    suffer(stage, faults.disk_full(disk.fill, disk.free), doses)
    conclude(stage.finish("disk of the broker full", doses), report)
