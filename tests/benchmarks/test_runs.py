"""The benchmarks run against the product as it is: small, and only for the shape of their answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Kafka

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks.vision import FASTESTDET

CHECKOUT = Path(__file__).parents[2]
LIMIT_S = 120


def answer(kafka: Kafka, *arguments: str) -> dict[str, Any]:
    """The last line of a benchmark with `--json`."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--bootstrap", kafka.bootstrap_servers, "--json"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_throughput_counts_what_the_product_wrote(kafka: Kafka) -> None:
    contenders = "headrace,headrace_fraud,headrace_poison,fraud_bare,librdkafka"
    found = answer(kafka, "throughput", "--quick", "--rounds", "1", "--contenders", contenders)
    assert list(found) == contenders.split(",")
    assert all(rate > 0 for rate in found.values())


def test_latency_gives_percentiles_for_each_rate(kafka: Kafka) -> None:
    found = answer(kafka, "latency", "--quick", "--rounds", "1", "--rates", "500", "--contenders", "headrace")
    assert found["500"]["headrace"]["lost"] == 0
    assert 0 < found["500"]["headrace"]["p50_ms"] <= found["500"]["headrace"]["p99_ms"]


def test_state_restores_every_card(kafka: Kafka) -> None:
    found = answer(kafka, "state", "--quick", "--transactions", "1")
    assert found["100000"]["records"] == 100_000
    assert found["100000"]["bytes_per_card"] > 0


@pytest.mark.skipif(not FASTESTDET.is_file(), reason="needs FastestDet in ../shared/data")
def test_vision_accounts_for_every_frame(kafka: Kafka) -> None:
    found = answer(kafka, "vision", "--quick")
    assert found["detectors"]
    for measured in found["detectors"].values():
        assert min(measured["headrace"]["fps"], measured["bare"]["fps"], measured["headrace"]["p95_ms"]) > 0
        counts = measured["counts"]
        assert counts["sent"] == counts["done"] == counts["out"] + counts["dropped"]
        assert set(measured["network"]["onnx-cpu"]) == {"1", "4", "16"}
