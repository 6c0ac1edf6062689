"""Models are replaced while transactions flow: nothing is lost, and what is broken never serves."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from connectors.simulators.transactions import TransactionSettings, blocks
from models import manifest, repository
from models.fraud.inputs import INPUTS
from models.repository import Repository
from streams.promoting import Rollouts
from streams.rollout import Report, Rollout
from streams.settings import Kafka as KafkaSettings
from streams.settings import Models
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.fraud_versions import BROKEN, GOOD, write_versions
from tests.processes import WorkerProcess, Workers
from tests.waiting import until

PARTITIONS, SWAPS, EVENTS_PER_TURN = 4, 100, 200
PAUSE_S = 0.03
REPORT_S = 20.0


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_versions(tmp_path_factory.mktemp("models"))


class Load:
    """Sends some thousand simulated transactions a second from a thread of its own, until it is told to stop."""

    def __init__(self, servers: str, topic: str) -> None:
        self._sender = verify.Sender(servers, topic)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        events = _events()
        while not self._stop.wait(PAUSE_S):
            records = list(itertools.islice(events, EVENTS_PER_TURN))
            self._sender.send(records)
            self.sent += len(records)


def _events() -> Iterator[tuple[int, bytes, bytes, verify.Headers]]:
    for block in blocks(TransactionSettings(seed=9, customers=500, terminals=400)):
        for key, value in zip(*block.records(), strict=True):
            yield crc32(key) % PARTITIONS, key, value, []


async def _swap(rollouts: Rollouts, root: Path, version: int, previous: Rollout | None) -> tuple[Rollout, Report]:
    """Ask for a version, and wait for what the worker says."""
    path = root / "fraud" / str(version) / "manifest.toml"
    sha256 = manifest.decode(path.read_bytes(), path).sha256 if path.exists() else "0" * 64
    rollout = Rollout("fraud", version, sha256).after(previous)
    offset = await rollouts.ask(rollout)
    async for report in rollouts.reports(offset, REPORT_S):
        return rollout, report
    raise AssertionError(f"no worker has answered the rollout of {rollout.reference}")


def _until_it_scored(worker: WorkerProcess, load: Load, reference: str) -> None:
    """Wait for a transaction that was sent since now, so that no other version than the one that serves can have it."""
    sent = load.sent + EVENTS_PER_TURN
    until(lambda: worker.metric("headrace_records_out_total") > sent, 60, f"a transaction that {reference} scored")


def test_a_hundred_swaps_under_load_lose_nothing_and_nothing_broken_serves(
    versions: Path, kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers = kafka.bootstrap_servers
    source, output, labels = make_topics("swaps", "swaps-out", "swaps-labels", partitions=PARTITIONS)
    control, group = f"{source}-models", f"{source}-group"
    worker = workers.fraud(
        group, fraud__input=source, fraud__output=output, fraud__labels=labels, models__root=versions,
        fraud__include_features="true", models__control=control, worker__http_port=0,
    ).running()  # fmt: skip
    schedule = [list(BROKEN)[turn // 5 % len(BROKEN)] if turn % 5 == 4 else GOOD[turn % 2] for turn in range(SWAPS)]

    async def swap_all() -> None:
        last, serving = None, worker.ready()[1]["model"]
        async with Rollouts(KafkaSettings(bootstrap_servers=servers), Models(control=control)) as rollouts:
            for version in schedule:
                last, report = await _swap(rollouts, versions, version, last)
                if version in GOOD:
                    assert (report.error, report.serving) == ("", f"fraud/{version}")
                    serving = report.serving
                    await asyncio.to_thread(_until_it_scored, worker, load, serving)
                else:
                    assert report.serving == serving
                    assert re.search(BROKEN[version], report.error), f"fraud/{version}: {report.error!r}"

    with Load(servers, source) as load:
        until(lambda: worker.metric("headrace_records_out_total") > 0, 60, "the first prediction")
        asyncio.run(swap_all())
    until(lambda: not verify.behind(servers, group, source), 60, "a commit of everything")
    done, failed = worker.metric("headrace_rollouts_total", outcome="done"), SWAPS // 5
    assert (worker.metric("headrace_rollouts_total", outcome="failed"), worker.stop()) == (failed, 0)
    assert done >= SWAPS // 2

    outputs = verify.read(servers, output)
    assert Counter(each.source(source) for each in outputs) == Counter(
        (record.partition, record.offset) for record in verify.read(servers, source)
    )
    assert len(outputs) == load.sent
    _assert_scored_by_who_is_named(outputs, versions)


def _assert_scored_by_who_is_named(outputs: list[verify.Record], root: Path) -> None:
    flags = [json.loads(each.value or b"") for each in outputs]
    named = np.array([(each.header("model") or b"").decode() for each in outputs])
    assert {flag["model"] for flag in flags} <= set(named)
    assert [flag["model"] for flag in flags] == named.tolist()
    assert set(named) == {f"fraud/{version}" for version in GOOD}
    features = np.array([[flag["features"][name] for name in INPUTS] for flag in flags], np.float32)
    scores = np.array([flag["score"] for flag in flags])
    for version in GOOD:
        with_it = named == f"fraud/{version}"
        engine = repository.open_engine(Repository([root]).load("fraud", version))
        expected = engine.infer({"features": features[with_it]})["score"]
        np.testing.assert_allclose(scores[with_it], expected, rtol=0, atol=2e-6)
        engine.close()
