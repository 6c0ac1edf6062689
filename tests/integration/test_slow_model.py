"""A model call that takes longer than three sessions of the consumer group."""

from __future__ import annotations

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

SLOW_S, SESSION_S = 30, 6


def test_a_model_call_of_thirty_seconds_costs_no_rebalance(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("slow", "slow-out", partitions=2)
    group = f"{source}-group"
    script = {"input": source, "output": output, "slow_s": SLOW_S}
    worker = workers.counting(group, script, worker__session_timeout_s=SESSION_S).running()
    member = verify.members(servers, group)
    assert len(member) == 1

    verify.send(servers, source, [(0, b"k", b"slow", [])])
    worker.said("the model begins its slow call")
    verify.send(servers, source, ((n % 2, b"k", b"{}", []) for n in range(100)))
    worker.said("the model has ended its slow call", within_s=SLOW_S + 30)
    until(lambda: not verify.behind(servers, group, source), 20, "a commit of everything")

    assert verify.members(servers, group) == member
    assert worker.metric("headrace_rebalances_total") == 1
    assert worker.ready()[0] == 200
    assert worker.output().count("the model begins its slow call") == 1
    assert verify.assert_nothing_lost(verify.read(servers, source), verify.read(servers, output), source) == 0
    assert worker.stop() == 0
