"""What a supervisor sees of a worker: its phases over HTTP, its end, and what it costs when there is nothing to do."""

from __future__ import annotations

import time

import psutil

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

IDLE_CORE_SHARE = 0.03
LOOK_S = 10.0


def test_ready_only_when_partitions_flow(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output = make_topics("ready", "ready-out", partitions=2)
    group = f"{source}-group"
    settings = {"fraud__input": source, "fraud__output": output, "worker__session_timeout_s": 10}
    gone = workers.fraud(group, **settings).running()
    assert gone.get("/health/live")[0] == 200
    status, body = gone.ready()
    assert (status, body["ready"], body["phase"]) == (200, True, "running")
    assert body["pipeline"] == "fraud"
    assert body["engine"]
    gone.kill()

    # Its successor has no slot, so it joins only when the killed one's session has ended: time enough to look at it.
    worker = workers.fraud(group, **settings).started()
    assert worker.get("/health/live")[0] == 200
    status, body = worker.ready()
    assert (status, body["ready"]) == (503, False)
    assert body["phase"] in ("starting", "restoring")
    assert body["reason"]
    worker.running()
    assert worker.stop() == 0


def test_not_ready_while_restoring(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output = make_topics("restoring", "restoring-out")
    group = f"{source}-group"
    script = {"input": source, "output": output}
    assert workers.counting(group, script).running().stop() == 0
    worker = workers.counting(group, script | {"restore_s": 5.0}).started()

    def restoring() -> bool:
        status, body = worker.ready()
        assert status == 503
        return bool(body["phase"] == "restoring")

    until(restoring, 20, "the phase `restoring`")
    assert f"{group}.changelog" in worker.ready()[1]["reason"]
    worker.running()
    assert worker.stop() == 0


def test_a_stalled_worker_says_so_and_then_ends(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output = make_topics("stalled", "stalled-out", partitions=2)
    servers, group, script = kafka.bootstrap_servers, f"{source}-group", {"input": source, "output": output}
    worker = workers.counting(group, script | {"slow_s": 600}, worker__stall_timeout_s=3).running()
    verify.send(servers, source, [(1, b"k", b"slow", [])])
    worker.said("the model begins its slow call")
    until(lambda: worker.ready()[0] == 503, 10, "a readiness of 503")
    body = worker.ready()[1]
    assert body["phase"] == "stalled"
    assert f"{source}[1]" in body["reason"]
    assert worker.ended(20) not in (0, None)
    assert "Traceback" not in worker.output()
    assert f"error: {source}[1] makes no progress" in worker.output()

    after = workers.counting(group, script, worker__slot="1").running()
    until(lambda: not verify.behind(servers, group, source), 30, "a commit of everything")
    assert after.stop() == 0
    assert verify.assert_nothing_lost(verify.read(servers, source), verify.read(servers, output), source) == 0


def test_a_stall_that_passes_is_forgiven(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output = make_topics("passing", "passing-out")
    script = {"input": source, "output": output, "slow_s": 7}
    worker = workers.counting(f"{source}-group", script, worker__stall_timeout_s=4).running()
    verify.send(kafka.bootstrap_servers, source, [(0, b"k", b"slow", [])])
    until(lambda: worker.ready()[1]["phase"] == "stalled", 15, "the phase `stalled`")
    worker.running()
    assert worker.stop() == 0


def test_sigterm_commits_what_was_acknowledged(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    """Ended in the midst of its work, its successor repeats nothing."""
    source, output = make_topics("ending", "ending-flags", partitions=4)
    servers, group, count = kafka.bootstrap_servers, f"{source}-group", 40_000
    settings = {"fraud__input": source, "fraud__output": output, "batch__max_batch_size": 64, "worker__slot": "1"}
    value = b'{"transaction_id":"t","card_id":"c%d","terminal_id":"m","amount":1.5,"event_time":%d}'
    rows = ((n % 4, b"c%d" % (n % 700), value % (n % 700, 1_735_689_600_000 + n), []) for n in range(count))
    verify.send(servers, source, rows)
    worker = workers.fraud(group, **settings).started()
    until(lambda: sum(verify.ends(servers, output).values()), 30, "a first output")
    assert worker.stop(within_s=15) == 0
    written = verify.ends(servers, output)
    assert verify.committed(servers, group, source) == written

    after = workers.fraud(group, **settings).running()
    until(lambda: not verify.behind(servers, group, source), 60, "a commit of everything")
    assert after.stop() == 0
    assert verify.assert_nothing_lost(verify.read(servers, source), verify.read(servers, output), source) == 0


def test_an_idle_worker_costs_next_to_nothing(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    source, output = make_topics("idle", "idle-flags", partitions=8)
    worker = workers.fraud(f"{source}-group", fraud__input=source, fraud__output=output).running()
    process = psutil.Process(worker.pid)
    time.sleep(2)  # what the start has left to do
    before, started = process.cpu_times(), time.monotonic()
    time.sleep(LOOK_S)  # the measurement itself
    after = process.cpu_times()
    share = (after.user + after.system - before.user - before.system) / (time.monotonic() - started)
    assert share < IDLE_CORE_SHARE, f"an idle worker used {share:.2%} of a core"
    assert worker.stop() == 0
