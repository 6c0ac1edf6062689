"""headrace models promote, compare and rollback, as an operator uses them, on a worker that runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.simulators.transactions import TransactionSettings, blocks
from streams.challenger import chosen
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.fraud_versions import write_versions
from tests.processes import ROOT, WorkerProcess, Workers
from tests.waiting import until

PARTITIONS = 2


class Operator:
    """Runs commands with the settings of a test's workers."""

    def __init__(self, settings: Mapping[str, object], servers: str) -> None:
        self.settings = dict(settings)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self._environment |= {f"HEADRACE_{name.upper()}": str(value) for name, value in settings.items()}
        self._environment |= {"HEADRACE_KAFKA__BOOTSTRAP_SERVERS": servers, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def models(self, *arguments: str, exits: int = 0) -> str:
        command = [sys.executable, "-m", "streams.cli", "models", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == exits, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def operator(tmp_path: Path, kafka: Kafka, make_topics: MakeTopics) -> Operator:
    source, output, labels = make_topics("rollout", "rollout-out", "rollout-labels", partitions=PARTITIONS)
    settings = {
        "fraud__input": source, "fraud__output": output, "fraud__labels": labels, "models__control": f"{source}-models",
        "models__root": write_versions(tmp_path / "repository"), "worker__group": f"{source}-group",
    }  # fmt: skip
    return Operator(settings, kafka.bootstrap_servers)


def _worker(workers: Workers, operator: Operator, **more: object) -> WorkerProcess:
    return workers.fraud(str(operator.settings["worker__group"]), **(operator.settings | more)).running()


def _send(servers: str, operator: Operator, seed: int, count: int) -> None:
    records = []
    for block in blocks(TransactionSettings(seed=seed, customers=300, terminals=300)):
        records += [(crc32(key) % PARTITIONS, key, value, []) for key, value in zip(*block.records(), strict=True)]
        if len(records) >= count:
            break
    verify.send(servers, str(operator.settings["fraud__input"]), records[:count])


def _models(servers: str, operator: Operator) -> list[tuple[bytes | None, str]]:
    """Key of each prediction, and the model that it names."""
    return [
        (each.key, (each.header("model") or b"").decode())
        for each in verify.read(servers, str(operator.settings["fraud__output"]))
    ]


def test_a_promotion_is_served_at_once_survives_a_restart_and_can_be_taken_back(
    operator: Operator, kafka: Kafka, workers: Workers
) -> None:
    worker = _worker(workers, operator)
    ready = worker.ready()[1]
    assert ready["model"] == "fraud/2"
    if ready["engine"] == "onnx-cpu":  # no better one is here, and it says why
        assert set(ready["better_engines"]) == {"tensorrt", "onnx-cuda"}
        assert worker.metric("headrace_engine_passed_info") == 2
    said = operator.models("promote", "fraud/3")
    assert "fraud/3 serves, in place of fraud/2" in said
    assert worker.ready()[1]["model"] == "fraud/3"
    assert worker.metric("headrace_model_info") == 1
    assert worker.metric("headrace_model_info", version="3") == 1
    assert worker.stop() == 0

    again = _worker(workers, operator)
    assert again.ready()[1]["model"] == "fraud/3"
    assert "fraud/2 serves, in place of fraud/3" in operator.models("rollback", "fraud")
    until(lambda: again.ready()[1]["model"] == "fraud/2", 10, "the version before")
    assert "nothing has served before fraud/2" in operator.models("rollback", "fraud", exits=1)
    assert again.stop() == 0


def test_a_worker_whose_settings_fix_a_version_keeps_it_and_says_so(operator: Operator, workers: Workers) -> None:
    worker = _worker(workers, operator, fraud__version=2)
    said = operator.models("promote", "fraud/3", exits=1)
    assert "fix fraud.version = 2" in said
    assert worker.ready()[1]["model"] == "fraud/2"
    assert worker.stop() == 0


def test_what_must_not_serve_is_refused_before_any_worker_hears_of_it(operator: Operator, workers: Workers) -> None:
    assert "golden batch" in operator.models("promote", "fraud/8", exits=1)
    assert "no version 9" in operator.models("promote", "fraud/9", exits=1)
    assert "expected NAME/VERSION" in operator.models("promote", "fraud", exits=2)
    assert "those that start from now on" in operator.models("promote", "fraud/3")


def test_a_worker_whose_repository_holds_another_file_says_so_and_goes_on(
    operator: Operator, tmp_path: Path, workers: Workers
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(str(operator.settings["models__root"]), elsewhere)
    shutil.rmtree(elsewhere / "fraud" / "3")
    worker = _worker(workers, operator, models__root=elsewhere)
    said = operator.models("promote", "fraud/3", exits=1)
    assert "\nerror: 0 of 1 workers do so, 1 refused it" in said
    assert "no version 3" in said
    assert worker.ready()[1]["model"] == "fraud/2"
    assert worker.metric("headrace_rollouts_total", outcome="failed") == 1
    assert worker.stop() == 0


def test_a_topic_of_comparisons_that_does_not_fit_refuses_the_challenger_and_fails_nobody(
    operator: Operator, kafka: Kafka, workers: Workers
) -> None:
    servers, shadow = kafka.bootstrap_servers, f"{operator.settings['fraud__output']}.shadow"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(shadow, PARTITIONS - 1, 1)])[shadow].result(20)
    worker = _worker(workers, operator)
    said = operator.models("promote", "fraud/3", "--shadow", exits=1)
    assert f"'{shadow}' has {PARTITIONS - 1} partitions, but its input" in " ".join(said.split())
    _send(servers, operator, 1, 500)
    until(lambda: worker.metric("headrace_records_out_total") == 500, 30, "all predictions")
    assert "challenger" not in worker.ready()[1]
    assert worker.stop() == 0


def test_a_shadow_answers_nobody_and_a_canary_answers_for_its_keys(
    operator: Operator, kafka: Kafka, workers: Workers
) -> None:
    servers, group = kafka.bootstrap_servers, str(operator.settings["worker__group"])
    source = str(operator.settings["fraud__input"])
    worker = _worker(workers, operator, models__shadow_budget=1.0)
    assert "does not exist" in operator.models("compare", "fraud", exits=1)
    assert "fraud/2 serves, fraud/3 is in the shadow" in operator.models("promote", "fraud/3", "--shadow")
    until(lambda: "challenger" in worker.ready()[1], 10, "a challenger in readiness")
    assert worker.ready()[1]["challenger"] == {"model": "fraud/3", "share": 0.0}
    _send(servers, operator, 1, 2000)
    until(lambda: worker.metric("headrace_challenger_records_total", outcome="compared") == 2000, 30, "comparisons")
    assert {model for _, model in _models(servers, operator)} == {"fraud/2"}
    found = json.loads(operator.models("compare", "fraud", "--json"))
    assert (found["champion"], found["challenger"], found["events"]) == ("fraud/2", "fraud/3", 2000)
    assert found["rank_correlation"] > 0.99
    assert found["mean_difference"] == pytest.approx(-found["mean_absolute_difference"])  # it scores half
    assert found["agreement"]["review"]["challenger_only"] == 0

    assert "fraud/3 answers for 0.3 of the keys" in operator.models("promote", "fraud/3", "--canary", "0.3")
    before = _models(servers, operator)
    _send(servers, operator, 2, 2000)
    until(lambda: not verify.behind(servers, group, source), 30, "a commit of everything")
    answers = _models(servers, operator)
    late = Counter(answers) - Counter(before)
    keys = [key for key, _ in late]
    canaries = {keys[place] for place in chosen(keys, 0.3).tolist()}
    assert 0.1 < len(canaries) / len(set(keys)) < 0.5
    assert all(model == ("fraud/3" if key in canaries else "fraud/2") for key, model in late)

    assert "fraud/2 serves alone, without fraud/3" in operator.models("rollback", "fraud")
    assert worker.metric("headrace_records_out_total") == 4000
    assert worker.stop() == 0
