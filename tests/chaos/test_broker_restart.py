"""The broker goes away for a while and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from connectors.broker import Broker
from tests import verify
from tests.conftest import MakeTopics
from tests.processes import Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

PARTITIONS = 4
GIVES_UP_S = 60.0
NOTICED_S = 30.0


@pytest.mark.parametrize(("stop", "away_s"), [(Broker.stop, 10.0), (Broker.kill, 1.0)], ids=["stopped", "killed"])
def test_a_broker_goes_away_and_comes_back(
    private_broker: Callable[..., Broker],
    make_topics: MakeTopics,
    workers: Workers,
    stop: Callable[[Broker], object],
    away_s: float,
) -> None:
    """The worker goes on by itself, or ends with an error within a minute and its restart goes on. Nothing is lost."""
    broker = private_broker()
    broker.start()
    servers = broker.bootstrap_servers
    source, output = make_topics("away", "away-out", partitions=PARTITIONS, kafka=broker)
    group, script = f"{source}-group", {"input": source, "output": output}

    def feed(first: int, count: int) -> None:
        rows = ((n % PARTITIONS, b"k%d" % (n % 100), b"{}", []) for n in range(first, first + count))
        verify.send(servers, source, rows)

    settings = {"batch__max_batch_size": 64, "worker__slot": "1"}
    worker = workers.counting(group, script, servers, **settings).running()
    feed(0, 20_000)
    until(lambda: sum(verify.committed(servers, group, source).values()) > 0, 30, "a first commit")
    stop(broker)
    time.sleep(away_s)  # the outage itself
    assert worker.alive, "an outage shorter than worker.broker_timeout_s must not end the worker"
    broker.start()

    feed(20_000, 10_000)
    until(lambda: not worker.alive or not verify.behind(servers, group, source), GIVES_UP_S, "a commit, or the end")
    if not worker.alive:
        assert worker.process.returncode != 0
        worker = workers.counting(group, script, servers, **settings).running()
        until(lambda: not verify.behind(servers, group, source), 60, "a commit of everything by the restart")
    assert worker.stop() == 0
    inputs, outputs = verify.read(servers, source), verify.read(servers, output)
    assert len(inputs) == 30_000
    verify.assert_nothing_lost(inputs, outputs, source)


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_a_broker_that_does_not_come_back(
    private_broker: Callable[..., Broker], make_topics: MakeTopics, workers: Workers, busy: bool
) -> None:
    """A worker ends with an error after `worker.broker_timeout_s`, whether it has something to write or not."""
    broker = private_broker()
    broker.start()
    servers = broker.bootstrap_servers
    source, output = make_topics("gone", "gone-out", partitions=PARTITIONS, kafka=broker)
    script = {"input": source, "output": output, "slow_s": 3}
    worker = workers.counting(f"{source}-group", script, servers, worker__broker_timeout_s=5).running()
    if busy:
        verify.send(servers, source, [(0, b"k", b"slow", [])])
        worker.said("the model begins its slow call")
    broker.kill()
    assert worker.ended(NOTICED_S) == 1
    assert "Traceback" not in worker.output()
    assert worker.output().splitlines()[-1].startswith("error: ")
