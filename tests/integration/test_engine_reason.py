"""What a subscriber is told about the engine, read by another client than Headrace's own."""

from __future__ import annotations

from zlib import crc32

from connectors.simulators.transactions import TransactionSettings, blocks
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.waiting import until

COUNT = 300


def _predictions(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, engine: str
) -> tuple[dict[str, str], list[verify.Record]]:
    """The better engines that readiness names, and the predictions of one worker."""
    servers = kafka.bootstrap_servers
    source, output, labels = make_topics("engine", "engine-out", "engine-labels", partitions=2)
    group = f"{source}-group"
    worker = workers.fraud(
        group, fraud__input=source, fraud__output=output, fraud__labels=labels, fraud__engine=engine
    ).running()
    block = next(iter(blocks(TransactionSettings(seed=4, customers=300, terminals=300))))
    events = list(zip(*block.records(), strict=True))[:COUNT]
    verify.send(servers, source, [(crc32(key) % 2, key, value, []) for key, value in events])
    until(lambda: not verify.behind(servers, group, source), 30, "a commit of everything")
    better: dict[str, str] = worker.ready()[1].get("better_engines", {})
    assert worker.stop() == 0
    return better, verify.read(servers, output)


def test_each_prediction_says_why_no_better_engine_made_it(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    better, predictions = _predictions(kafka, make_topics, workers, "auto")
    assert len(predictions) == COUNT
    for each in predictions:
        names = [name for name, _ in each.headers]
        assert names == ["model", "engine", *(["engine-reason"] if better else []), "id"]
        reason = (each.header("engine-reason") or b"").decode()
        assert all(name in reason for name in better)
        assert len(reason.encode()) <= 200
        assert reason.isprintable()
    if better and all("there is no NVIDIA driver" in reason for reason in better.values()):
        assert {each.header("engine-reason") for each in predictions} == {b"tensorrt, onnx-cuda: no GPU"}


def test_predictions_of_an_engine_that_was_asked_for_give_no_reason(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    better, predictions = _predictions(kafka, make_topics, workers, "onnx-cpu")
    assert better == {}
    assert len(predictions) == COUNT
    assert {each.header("engine") for each in predictions} == {b"onnx-cpu"}
    assert all(each.header("engine-reason") is None for each in predictions)
