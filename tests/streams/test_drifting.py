"""The worker's watch over data drift: what it shows, when it says something, and when it says nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.drift import DriftMonitor, Report, compare
from models.reference import HOUR_MS, Reference
from streams.drifting import DriftWatch
from streams.telemetry import Telemetry

NAMES = ("amount", "hour")
ROWS_AN_HOUR, HOURS = 40, 48


def _rows(seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bytes]]:
    random = np.random.default_rng(seed)
    count = ROWS_AN_HOUR * HOURS
    features = np.stack([random.normal(shift, 1, count), random.random(count)], axis=1)
    times = np.arange(count) * (HOUR_MS // ROWS_AN_HOUR)
    return features, random.random(count), times, [b"card-%d" % number for number in range(count)]


class Stub:
    """A pipeline whose model watches real rows with the real monitor."""

    def __init__(self) -> None:
        features, scores, times, keys = _rows(1)
        self.reference = Reference.of(features, scores, NAMES, times, np.arange(len(keys)))
        self.served, self.settling, self.known = self, "", True
        self.see()

    def see(self, shift: float = 0.0) -> None:
        self.monitor = DriftMonitor(self.reference)
        self.monitor.update(*_rows(2, shift))

    def drift(self) -> Callable[[], Report] | None:
        return partial(compare, self.reference, self.monitor.window()) if self.known else None

    def unsettled(self) -> str:
        return self.settling


@pytest.fixture
def stub() -> Stub:
    return Stub()


def _look(stub: Stub, telemetry: Telemetry, *changes: Callable[[], None]) -> DriftWatch:
    async def looks() -> DriftWatch:
        with ThreadPoolExecutor(1) as compute:
            watch = DriftWatch(stub, compute, telemetry)
            await watch.look()
            for change in changes:
                change()
                await watch.look()
            return watch

    return asyncio.run(looks())


def _shown(telemetry: Telemetry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("feature", "")): sample.value
        for family in text_string_to_metric_families(telemetry.expose().decode())
        for sample in family.samples
        if sample.name.startswith("headrace_drift")
    }


def test_rows_like_the_training_sample_are_quiet(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry("fraud")
    with caplog.at_level(logging.INFO):
        _look(stub, telemetry)
    shown = _shown(telemetry)
    assert {feature for name, feature in shown if name == "headrace_drifting"} == {*NAMES, "score"}
    assert not any(value for (name, _), value in shown.items() if name == "headrace_drifting")
    assert shown["headrace_drift_records", ""] >= 200
    assert not caplog.records


def test_a_feature_that_moves_is_shown_and_said_once_and_so_is_its_end(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry("fraud")
    with caplog.at_level(logging.WARNING):
        _look(stub, telemetry, lambda: stub.see(shift=1.0), lambda: None)
    shown = _shown(telemetry)
    drifting = {feature: value for (name, feature), value in shown.items() if name == "headrace_drifting"}
    assert drifting == {"amount": 1.0, "hour": 0.0, "score": 0.0}
    assert shown["headrace_drift_ks", "amount"] > 0.3
    assert [record.message.partition(" (PSI")[0] for record in caplog.records] == ["drift: amount"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        _look(stub, telemetry, lambda: stub.see())
    assert "again" in caplog.records[-1].message


def test_a_state_that_is_not_full_yet_gives_no_verdict_and_takes_the_old_one_back(stub: Stub) -> None:
    telemetry = Telemetry("fraud")
    _look(stub, telemetry, partial(setattr, stub, "settling", "the state covers 3 days of 37"))
    assert _shown(telemetry) == {("headrace_drift_records", ""): 0.0}


def test_a_model_without_a_training_sample_shows_nothing(stub: Stub) -> None:
    telemetry = Telemetry("fraud")
    stub.known = False
    _look(stub, telemetry)
    assert not any(value for value in _shown(telemetry).values())
