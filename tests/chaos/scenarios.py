"""Which faults there are, what they need of the pipelines that they happen to, and how often they come."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.broker import Broker
from tests.chaos import faults
from tests.chaos.disks import SmallDisk
from tests.chaos.faults import BROKER_TIMEOUT_S, SESSION_S, Fault
from tests.chaos.stage import Outcome, Plan, Stage
from tests.chaos.verdict import EXACTLY_ONCE, GUARANTEES

KILL, DELAYED = "SIGKILL", "SIGKILL, writes delayed"
ZOMBIE, TWIN, REBALANCE = "zombie", "zombie with a twin", "rebalance"
BROKER_KILLED, AWAY, AWAY_LONG = "broker killed", "broker away", "broker away for 60 s"
TIMEOUT, DISK, MODEL, COMPACTION = "produce timed out", "disk full", "model fails", "SIGKILL, changelog compacted"

# A segment ends with the first record that comes half a second after its first one, and is compacted at once.
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "500",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "100",
}
SLOW: Mapping[str, object] = {"slow_s": 0.2}
HASTY = {"worker__session_timeout_s": SESSION_S}
IMPATIENT = HASTY | {"worker__broker_timeout_s": BROKER_TIMEOUT_S}


@dataclass(frozen=True)
class Arsenal:
    """Everything that can be done to a stage in this test.

    Args:
        disk: the broker's, or why it cannot be made full.
    """

    disk: SmallDisk | str

    def faults(self) -> dict[str, Fault]:
        """By name."""
        found: dict[str, Fault] = {
            KILL: faults.kill,
            DELAYED: faults.kill,
            COMPACTION: faults.kill,
            ZOMBIE: faults.zombie,
            TWIN: faults.twin,
            REBALANCE: faults.rebalance,
            BROKER_KILLED: faults.broker_killed,
            AWAY: faults.broker_away(5),
            AWAY_LONG: faults.broker_away(60),
            TIMEOUT: faults.produce_timeout,
            MODEL: faults.failing_model,
        }
        if isinstance(self.disk, SmallDisk):
            found[DISK] = faults.disk_full(self.disk)
        return found


@dataclass(frozen=True)
class Scenario:
    """Faults one after the other, each so many times, the pipelines that they come to, and what those can promise."""

    name: str
    doses: Mapping[str, int]
    plan: Plan
    guarantees: Sequence[str] = GUARANTEES


def short() -> list[Scenario]:
    """Everything but the 60 s, in small doses."""
    return [
        Scenario(
            "workers die",
            {KILL: 6, ZOMBIE: 1, TWIN: 1},
            Plan(workers=2, script={"delays_s": 0.2}, settings=HASTY),
        ),
        Scenario(
            "the broker fails",
            {BROKER_KILLED: 1, TIMEOUT: 1, DISK: 1, AWAY: 1},
            Plan(settings=IMPATIENT, restarts=30),
        ),
        Scenario("workers come and go", {REBALANCE: 4}, Plan(static=False, settings=HASTY)),
        Scenario(
            "the model fails, the changelog is compacted",
            {MODEL: 1, COMPACTION: 4},
            Plan(per_second=600, slow_share=0.001, script=SLOW, changelog=COMPACTED),
        ),
    ]


def long() -> list[Scenario]:
    """Each fault by itself, in full doses."""
    frozen = Plan(workers=2, script={"delays_s": 0.2}, settings=HASTY)
    return [
        Scenario(KILL, {KILL: 50}, Plan()),
        Scenario(DELAYED, {DELAYED: 50}, Plan(script={"delays_s": 0.3})),
        Scenario(ZOMBIE, {ZOMBIE: 10}, frozen),
        Scenario(TWIN, {TWIN: 10}, frozen),
        Scenario(REBALANCE, {REBALANCE: 30}, Plan(static=False, settings=HASTY)),
        Scenario(BROKER_KILLED, {BROKER_KILLED: 10}, Plan()),
        Scenario(AWAY, {AWAY: 5}, Plan(settings=IMPATIENT, restarts=100)),
        Scenario(AWAY_LONG, {AWAY_LONG: 1}, Plan(restarts=100)),
        Scenario(TIMEOUT, {TIMEOUT: 10}, Plan(settings=IMPATIENT, restarts=50)),
        Scenario(DISK, {DISK: 5}, Plan(restarts=50)),
        Scenario(MODEL, {MODEL: 20}, Plan(per_second=600, slow_share=0.001, script=SLOW, restarts=80)),
        Scenario(COMPACTION, {COMPACTION: 30}, Plan(changelog=COMPACTED)),
    ]


def drawn(seed: int, arsenal: Arsenal) -> Scenario:
    """Some faults in some order, on some pipelines: all of it by the seed."""
    dice = random.Random(seed)
    picked = dice.sample(sorted(arsenal.faults().keys() - {AWAY_LONG, DELAYED}), dice.randint(2, 4))
    haunted = not {ZOMBIE, TWIN}.isdisjoint(picked)
    compacted = COMPACTION in picked or dice.random() < 0.5
    # What a worker cannot keep up with is no hang.
    small = dice.random() < 0.3
    delays_s = 0.0 if small else dice.choice((0.0, 0.05, 0.3))
    plan = Plan(
        partitions=dice.choice((1, 2, 4, 6)),
        workers=2 if haunted else dice.choice((1, 2)),
        static=dice.random() < 0.6 or TWIN in picked,
        per_second=200 if small else dice.choice((200, 800)),
        keys=dice.choice((5, 60, 2000)),
        slow_share=dice.choice((0.0, 0.0003)),
        script=SLOW | {"delays_s": delays_s, "restore_s": dice.choice((0, 0, 1))},
        settings=IMPATIENT
        | {
            "batch__max_batch_size": 4 if small else dice.choice((64, 512)),
            "worker__in_flight": 8 if small or delays_s else dice.choice((1, 8)),
            "worker__transaction_interval_s": dice.choice((0.02, 0.1, 0.5)),
            "worker__transaction_max_records": dice.choice((10, 50_000)),
            "worker__transaction_timeout_s": dice.choice((5, 60)),
        },
        changelog=COMPACTED if compacted else None,
        restarts=60,
    )
    # A late write, by a zombie or because the test holds it back, may be the one that compaction keeps: only
    # transactions shut it out.
    fit = (EXACTLY_ONCE,) if compacted and (haunted or delays_s) else GUARANTEES
    return Scenario(f"random {seed}", {each: dice.randint(1, 3) for each in picked}, plan, fit)


def play(
    scenario: Scenario, stage: Stage, arsenal: Arsenal, judged_as: str | None = None, in_order: bool = False
) -> list[Outcome]:
    """Let everything happen, with a little life before, between and behind.

    Args:
        judged_as, in_order: see `Stage.finish`.
    """
    known = arsenal.faults()
    for name, times in scenario.doses.items():
        if name not in known:
            continue
        for _ in range(times):
            stage.wait(stage.dice.uniform(0.2, 0.6))
            known[name](stage)
        if name == COMPACTION:
            _compact(stage)
    stage.wait(0.3)
    return stage.finish(scenario.name, sum(scenario.doses.values()), judged_as, in_order)


def _compact(stage: Stage) -> None:
    """Wait until every changelog is compacted in part, and have that part restored."""
    changelogs = [line.changelog for line in stage.lines]
    stage.until(lambda: all(compacted(stage.broker, each) for each in changelogs), 20, "compaction of the changelogs")
    faults.kill(stage)


def compacted(broker: Broker, topic: str) -> dict[int, int]:
    """Partition -> the offset up to which the broker has compacted a topic, by its own checkpoint."""
    checkpoint = broker.settings.home / "data" / "cleaner-offset-checkpoint"
    rows = re.findall(rf"^{re.escape(topic)} (\d+) (\d+)$", checkpoint.read_text(), re.MULTILINE)
    return {int(partition): int(offset) for partition, offset in rows if int(offset)}


def complaints(outcomes: Sequence[Outcome]) -> str:
    """All violations in words, with what is needed to look into them; empty where there are none."""
    broken = [
        f"{each.scenario}, {each.guarantee}, seed {each.seed}: {said}" for each in outcomes for said in each.violations
    ]
    evidence = next((each.evidence for each in outcomes if each.evidence), "")
    return "\n".join([*broken, f"evidence in {evidence}"]) if broken else ""
