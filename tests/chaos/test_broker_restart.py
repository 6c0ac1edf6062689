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
AWAY_S = 20.0
GIVES_UP_S = 60.0


@pytest.mark.parametrize("stop", ["stopped", "killed"])
def test_a_broker_away_for_twenty_seconds(
    private_broker: Callable[..., Broker], make_topics: MakeTopics, workers: Workers, stop: str
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
    if stop == "killed":
        broker.kill()
    else:
        broker.stop()
    time.sleep(AWAY_S)  # the outage itself
    assert worker.alive, "an outage shorter than worker.broker_timeout_s must not end the worker"
    broker.start()
    back = time.monotonic()

    feed(20_000, 10_000)
    until(lambda: not worker.alive or not verify.behind(servers, group, source), GIVES_UP_S, "a commit, or the end")
    print(f"the worker {'went on' if worker.alive else 'ended'} {time.monotonic() - back:.1f} s after the broker's start")
    if not worker.alive:
        assert worker.process.returncode != 0
        worker = workers.counting(group, script, servers, **settings).running()
        until(lambda: not verify.behind(servers, group, source), 60, "a commit of everything by the restart")
    assert worker.stop() == 0
    inputs, outputs = verify.read(servers, source), verify.read(servers, output)
    assert len(inputs) == 30_000
    verify.assert_nothing_lost(inputs, outputs, source)
