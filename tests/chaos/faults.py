"""What can go wrong: each fault is a function that does it once to a stage, within a bound."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from connectors.kafka_port import answers_metadata
from tests.chaos.disks import SmallDisk
from tests.chaos.stage import Line, Stage

Fault = Callable[[Stage], None]

SESSION_S = 3.0
BROKER_TIMEOUT_S = 3.0
MOST_WORKERS = 3


def kill(stage: Stage) -> None:
    """SIGKILL one worker of each line at a random moment; one in four as it starts."""
    stage.wait(stage.dice.uniform(0.1, 1.2))
    for line in stage.lines:
        line.fleet.kill(_one(stage, line))
    if stage.dice.random() < 0.25:
        return  # the next one may come while it starts
    stage.until(stage.ready, 40, "readiness after a kill")


def zombie(stage: Stage) -> None:
    """SIGSTOP for longer than the session, with writes in flight, and SIGCONT when another one has its partitions."""
    for line in stage.lines:
        if len(line.fleet.slots) == 1:  # rebalances may have left one
            line.fleet.add(str(time.monotonic_ns()))
    stage.until(stage.ready, 40, "readiness of those who take over")
    with stage.disturbed():
        slots = [(line, _one(stage, line)) for line in stage.lines]
        for line, slot in slots:
            line.fleet.suspend(slot)
        stage.until(lambda: all(map(_taken_over, stage.lines)), 30, "others to take over")
        stage.wait(stage.dice.uniform(0.2, 1.0))
        for line, slot in slots:
            line.fleet.resume(slot)
        stage.wait(1.5)  # what it had in flight goes out, and it hears that it was replaced


def twin(stage: Stage) -> None:
    """The same, but what replaces it is another worker of its own slot; that supervisor then finds the old one."""
    with stage.disturbed():
        frozen = []
        for line in stage.lines:
            slot = _one(stage, line)
            frozen.append((line, line.fleet.slots[slot]))
            line.fleet.slots[slot].suspend()
            line.fleet.add(slot)
        stage.until(stage.ready, 40, "readiness of the twins")
        stage.wait(stage.dice.uniform(0.2, 1.0))
        for _, worker in frozen:
            worker.resume()
        stage.wait(stage.dice.uniform(1.0, 3.0))
        for line, worker in frozen:
            line.fleet.discard(worker)


def rebalance(stage: Stage) -> None:
    """A worker comes, or one goes in order: one at the least, three at the most."""
    for line in stage.lines:
        fleet = line.fleet
        if len(fleet.slots) == 1 or (len(fleet.slots) < MOST_WORKERS and stage.dice.random() < 0.5):
            fleet.add(str(time.monotonic_ns()))
        else:
            fleet.remove(_one(stage, line))
    stage.until(stage.ready, 40, "readiness after a rebalance")
    stage.wait(stage.dice.uniform(0.0, 0.5))


def broker_killed(stage: Stage) -> None:
    """SIGKILL the broker and start it again."""
    stage.wait(stage.dice.uniform(0.2, 1.0))
    with stage.disturbed():
        stage.broker.kill()
        stage.wait(stage.dice.uniform(0.0, 1.0))
        stage.broker.start()


def broker_away(seconds: float) -> Fault:
    """Stop the broker in order, and start it again after a while."""

    def away(stage: Stage) -> None:
        with stage.disturbed():
            stage.broker.stop()
            stage.wait(seconds)
            stage.broker.start()

    return away


def produce_timeout(stage: Stage) -> None:
    """SIGSTOP the broker for longer than a write may take, and SIGCONT: it then does what it was asked long before."""
    pid = stage.broker.status().pid
    assert pid is not None
    with stage.disturbed():
        os.kill(pid, signal.SIGSTOP)
        try:
            stage.wait(BROKER_TIMEOUT_S + stage.dice.uniform(0.5, 2.0))
        finally:
            os.kill(pid, signal.SIGCONT)


def failing_model(stage: Stage) -> None:
    """The model of each line fails for every record, until a worker has ended because of it."""
    stage.wait(stage.dice.uniform(0.2, 1.0))
    with stage.disturbed():
        ends = {line.source: len(line.fleet.ends) for line in stage.lines}
        for line in stage.lines:
            line.breaks_model.touch()

        def all_have_ended() -> bool:
            over = [line for line in stage.lines if len(line.fleet.ends) > ends[line.source]]
            for line in over:
                line.breaks_model.unlink(missing_ok=True)
            return len(over) == len(stage.lines)

        stage.until(all_have_ended, 40, "the end of a worker whose model fails")


def disk_full(disk: SmallDisk) -> Fault:
    """The broker's disk has no byte left; once the broker has given up, or after a while, there is room again."""

    def full(stage: Stage) -> None:
        stage.wait(stage.dice.uniform(0.2, 1.0))
        with stage.disturbed():
            disk.fill()
            try:
                deadline = time.monotonic() + 10
                while answers_metadata(stage.broker.settings.port) and time.monotonic() < deadline:
                    stage.wait(0.1)
            finally:
                disk.free()
            stage.broker.kill()
            stage.broker.start()

    return full


def _taken_over(line: Line) -> bool:
    """Whether those that are not suspended have all partitions."""
    return line.fleet.assigned() == line.plan.partitions


def _one(stage: Stage, line: Line) -> str:
    return stage.dice.choice(sorted(line.fleet.slots))
