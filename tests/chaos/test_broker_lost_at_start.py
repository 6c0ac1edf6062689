"""The broker goes away between a worker's first look at its topics and its first assignment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.broker import Broker
from tests.conftest import MakeTopics
from tests.processes import Workers

pytestmark = pytest.mark.chaos

BROKER_TIMEOUT_S, MARGIN_S = 3, 10


def test_a_worker_that_was_never_assigned_ends_with_one_sentence(
    private_broker: Callable[..., Broker], make_topics: MakeTopics, workers: Workers
) -> None:
    # This coordinator lets the first member wait for others, so that the assignment cannot come before the end.
    broker = private_broker(properties={"group.initial.rebalance.delay.ms": "60000"})
    broker.start()
    (source,) = make_topics("early", kafka=broker)
    script = {"input": source, "output": f"{source}-out"}
    settings = {"worker__broker_timeout_s": BROKER_TIMEOUT_S}
    worker = workers.counting(f"{source}-group", script, broker.bootstrap_servers, **settings).started()
    broker.kill()
    assert worker.ended(BROKER_TIMEOUT_S + MARGIN_S) == 1
    lines = worker.output().splitlines()
    assert "Traceback" not in worker.output()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    # Whether its clients had connected by then is chance.
    assert "no contact with the group coordinator" in lines[-1] or "nobody answers" in lines[-1]
