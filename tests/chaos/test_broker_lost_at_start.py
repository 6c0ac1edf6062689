"""The broker goes away between a worker's first look at its topics and its first assignment."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from connectors.broker import Broker
from tests.conftest import MakeTopics
from tests.processes import Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

BROKER_TIMEOUT_S, MARGIN_S, JOIN_S = 3, 10, 30


def test_a_worker_that_was_never_assigned_ends_with_one_sentence(
    private_broker: Callable[..., Broker], make_topics: MakeTopics, workers: Workers
) -> None:
    # This coordinator lets the first member wait for others, so that the assignment cannot come before the end.
    broker = private_broker(properties={"group.initial.rebalance.delay.ms": "60000"})
    broker.start()
    (source,) = make_topics("early", kafka=broker)
    script, group = {"input": source, "output": f"{source}-out"}, f"{source}-group"
    settings = {"worker__broker_timeout_s": BROKER_TIMEOUT_S}
    worker = workers.counting(group, script, broker.bootstrap_servers, **settings).started()
    log = broker.settings.home / "logs" / "server.log"
    joined = re.compile(rf"Preparing to rebalance group {group} ").search
    until(lambda: joined(log.read_text(errors="replace")), JOIN_S, "the broker's word that the worker has joined")
    broker.kill()
    assert worker.ready()[0] == 503
    assert worker.ended(BROKER_TIMEOUT_S + MARGIN_S) == 1
    lines = worker.output().splitlines()
    assert "Traceback" not in worker.output()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "no contact with the group coordinator" in lines[-1]
