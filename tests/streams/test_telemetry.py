"""Metrics: named by one rule, labelled with the pipeline, and readable by Prometheus' own parser."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.records import STAGES, Processed
from streams.telemetry import COUNTED_AT_ONCE, METRICS, MOST_KEYS, Telemetry
from tests.streams.inmemory import batch

# Base units of Prometheus, and what the project counts; `ready` and `info` are Prometheus' own idioms. Ratios
# have no unit: the last seven are the names that everybody knows them by.
UNITS = {
    "tasks", "transactions", "records", "seconds", "bytes", "keys", "partitions", "rebalances", "rollouts", "timeouts",
    "ready", "info", "labels", "precision", "recall", "error", "psi", "ks", "pvalue", "drifting",
}  # fmt: skip
BOUNDED = {"outcome", "key", "stage", "error_type", "partition", "model", "version", "engine", "feature"}


def _samples(telemetry: Telemetry) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(telemetry.expose().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _exercised() -> Telemetry:
    telemetry = Telemetry("fraud")
    for name, metric in METRICS.items():
        labels = [f'odd "{label}"\\\n' for label in metric.labels]
        if metric.kind == "counter":
            telemetry.add(name, 2, *labels)
        elif metric.kind == "gauge":
            telemetry.set(name, 3, *labels)
        else:
            telemetry.observe(name, 0.2, *labels)
    return telemetry


@pytest.mark.parametrize("name", METRICS)
def test_names_say_noun_unit_and_whether_they_count(name: str) -> None:
    metric = METRICS[name]
    assert re.fullmatch(r"headrace(_[a-z]+)+", name)
    assert name.endswith("_total") == (metric.kind == "counter")
    words = name.removeprefix("headrace_").removesuffix("_total").split("_")
    assert UNITS & set(words), f"{name} has no unit"
    if metric.kind in ("seconds", "age"):
        assert words[-1] == "seconds"
    assert metric.help.endswith(".")


@pytest.mark.parametrize("name", METRICS)
def test_labels_come_from_bounded_sets(name: str) -> None:
    assert set(METRICS[name].labels) <= BOUNDED


def test_every_metric_of_the_table_is_exposed_with_its_labels() -> None:
    samples = _samples(_exercised())
    for name, metric in METRICS.items():
        exposed = name if metric.kind in ("counter", "gauge") else f"{name}_count"
        assert exposed in samples, f"{exposed} is not on the page"
        labels, _ = samples[exposed][0]
        assert set(labels) == {"pipeline", *metric.labels}


def test_every_sample_carries_its_pipeline_and_its_labels_survive_odd_text() -> None:
    for name, found in _samples(_exercised()).items():
        for labels, _ in found:
            assert labels["pipeline"] == "fraud", name
            assert all(
                value == f'odd "{label}"\\\n' for label, value in labels.items() if label not in ("pipeline", "le")
            )


def test_metrics_without_labels_are_there_from_the_start() -> None:
    samples = _samples(Telemetry("fraud"))
    assert samples["headrace_records_in_total"] == [({"pipeline": "fraud"}, 0.0)]
    assert samples["headrace_end_to_end_seconds_count"] == [({"pipeline": "fraud"}, 0.0)]


def test_metrics_of_one_domain_are_there_once_they_have_been_fed() -> None:
    telemetry = Telemetry("labels")
    assert "headrace_fraud_precision" not in _samples(telemetry)
    telemetry.set("headrace_fraud_precision", 0.25)
    assert _samples(telemetry)["headrace_fraud_precision"] == [({"pipeline": "labels"}, 0.25)]


@pytest.mark.parametrize("name", ["headrace_label_age_seconds", "headrace_batch_records", "headrace_restore_seconds"])
def test_many_values_at_once_are_observed_as_one_by_one_by_the_library(name: str) -> None:
    at_once, one_by_one = Telemetry("fraud"), Telemetry("fraud")
    values = np.concatenate([np.random.default_rng(0).gamma(0.3, 1e5, 500), [0.0, 1.0, 3600.0, 86400.0, 1e9]])
    at_once.observe_all(name, values[:200])
    at_once.observe_all(name, values[200:])
    at_once.observe_all(name, values[:0])
    for value in values.tolist():
        one_by_one._child(name).observe(value)
    for sample, found in _samples(one_by_one).items():
        assert [value for _, value in _samples(at_once)[sample]] == pytest.approx([value for _, value in found])


def test_what_several_threads_observe_is_counted_once_while_the_page_is_asked_for() -> None:
    telemetry, each, threads = Telemetry("fraud"), 5 * COUNTED_AT_ONCE + 7, 4

    def observe() -> None:
        for _ in range(each):
            telemetry.observe("headrace_stage_seconds", 0.25, "infer")

    with ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(observe) for _ in range(threads)]
        while not all(future.done() for future in done):
            telemetry.expose()
        for future in done:
            future.result()
    label = {"pipeline": "fraud", "stage": "infer"}
    assert (label, threads * each) in _samples(telemetry)["headrace_stage_seconds_count"]
    assert (label, threads * each / 4) in _samples(telemetry)["headrace_stage_seconds_sum"]
    assert not any(telemetry._observed.values())


def test_two_workers_in_one_process_do_not_mix() -> None:
    one, other = Telemetry("fraud"), Telemetry("vision")
    one.add("headrace_records_out_total", 5)
    assert _samples(other)["headrace_records_out_total"] == [({"pipeline": "vision"}, 0.0)]


def test_inputs_are_outputs_plus_dead_letters() -> None:
    telemetry = Telemetry("fraud")
    telemetry.acknowledged(batch([b"x"] * 10), 7, {("decode", "A"): 2, ("infer", "B"): 1}, 100.0)
    telemetry.acknowledged(batch([b"x"] * 4), 4, {}, 100.0)
    samples = _samples(telemetry)
    inputs = samples["headrace_records_in_total"][0][1]
    outputs = samples["headrace_records_out_total"][0][1]
    dead = sum(value for _, value in samples["headrace_records_dead_lettered_total"])
    assert (inputs, outputs, dead) == (14, 11, 3)


def test_drops_are_told_apart_by_the_beginnings_of_so_many_keys() -> None:
    telemetry = Telemetry("vision")
    for number in range(MOST_KEYS + 20):
        records = batch([b"x"])
        records.shed = Counter({b"%d-" % number + b"\xff" * 1_000_000: 2})
        telemetry.acknowledged(records, 1, {}, 100.0)
    dropped = _samples(telemetry)["headrace_records_dropped_total"]
    assert len(dropped) <= MOST_KEYS + 1
    assert max(len(labels["key"]) for labels, _ in dropped) < 100
    assert sum(value for _, value in dropped) == 2 * (MOST_KEYS + 20)


def test_end_to_end_is_the_age_of_the_oldest_record() -> None:
    telemetry = Telemetry("fraud")
    records = batch([b"x"] * 3)
    records.timestamps_ms = [98_000, 99_000, 99_500]
    telemetry.acknowledged(records, 3, {}, 100.0)
    assert _samples(telemetry)["headrace_end_to_end_seconds_sum"][0][1] == pytest.approx(2.0)


def test_lag_is_the_age_of_the_last_record_that_has_a_time() -> None:
    telemetry = Telemetry("fraud")
    for timestamp_ms, lag_s in ((-1, 0.0), (97_000, 3.0), (-1, 3.0), (99_000, 1.0)):
        records = batch([b"x"])
        records.timestamps_ms = [timestamp_ms]
        telemetry.acknowledged(records, 1, {}, 100.0)
        telemetry.lag({0: 5}, 100.0)
        assert telemetry.value("headrace_lag_seconds", "0") == lag_s


def test_a_computed_micro_batch_feeds_every_stage() -> None:
    telemetry = Telemetry("fraud")
    telemetry.processed(Processed([], 12, dict.fromkeys(STAGES, 0.25)))
    samples = _samples(telemetry)
    stages = {labels["stage"]: value for labels, value in samples["headrace_stage_seconds_sum"]}
    assert stages == dict.fromkeys(STAGES, 0.25)
    assert samples["headrace_batch_records_sum"][0][1] == 12


def test_a_partition_that_moved_away_is_no_longer_exposed() -> None:
    telemetry = Telemetry("fraud")
    telemetry.set("headrace_lag_records", 5, "0")
    telemetry.set("headrace_lag_records", 6, "1")
    telemetry.forget("headrace_lag_records", "0")
    telemetry.forget("headrace_lag_records", "7")
    assert [labels["partition"] for labels, _ in _samples(telemetry)["headrace_lag_records"]] == ["1"]


def test_the_model_in_use_is_named() -> None:
    telemetry = Telemetry("fraud")
    telemetry.model("fraud/3", "onnx-cpu")
    ((labels, value),) = _samples(telemetry)["headrace_model_info"]
    assert (labels, value) == (
        {"pipeline": "fraud", "model": "fraud", "version": "3", "engine": "onnx-cpu"},
        1.0,
    )
