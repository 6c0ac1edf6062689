from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contenders import CONTENDERS, ECHOES, REFERENCE
from benchmarks.contenders.contract import Measurement, Meter, parse_options
from benchmarks.processes import ROOT, ChildError, started
from benchmarks.schedule import NS_PER_S, Latencies, Lateness, Schedule, combine
from benchmarks.throughput import Outcome, summarise
from benchmarks.work import INPUTS, Scorer, features, transaction, transactions, write_network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    write_network(path)
    return path


def test_transactions_are_json_keyed_by_card_and_the_same_for_the_same_seed() -> None:
    records = list(transactions(6_000))
    events = [json.loads(value) for _, value in records]
    assert [key.decode() for key, _ in records] == [event["card_id"] for event in events]
    assert len({event["transaction_id"] for event in events}) == 6_000
    assert len({event["card_id"] for event in events}) == 5_000
    assert all(type(event["event_time"]) is int and 0 <= event["amount"] <= 200 for event in events)
    assert set(events[0]) == {
        "transaction_id", "card_id", "terminal_id", "amount", "event_time", "country", "channel", "mcc",
    }  # fmt: skip
    assert records[:100] == list(transactions(100))
    assert records[:100] != list(transactions(100, seed=1))


def test_a_transaction_carries_an_identity_of_the_callers() -> None:
    _, value = transaction(7, 12.5, b"123456789")
    assert json.loads(value)["transaction_id"] == "123456789"


def test_network_is_deterministic(network: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.onnx", tmp_path / "other.onnx"
    write_network(again)
    write_network(other, seed=1)
    assert network.read_bytes() == again.read_bytes() != other.read_bytes()


def test_network_computes_what_its_weights_say(network: Path) -> None:
    import onnx
    from onnx import numpy_helper

    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(network)).graph.initializer}
    events = [json.loads(value) for _, value in transactions(50)]
    hidden = features(events).astype(np.float64)
    assert hidden.shape == (50, INPUTS)
    for layer in (0, 1):
        hidden = np.maximum(hidden @ weights[f"w{layer}"] + weights[f"b{layer}"], 0)
    expected = 1 / (1 + np.exp(-(hidden @ weights["w2"] + weights["b2"])[:, 0]))
    np.testing.assert_allclose(Scorer(network).scores(events), expected, rtol=1e-3, atol=1e-6)


def test_predictions_do_not_depend_on_the_batch(network: Path) -> None:
    scorer = Scorer(network)
    events = [json.loads(value) for _, value in transactions(20)]
    together = scorer.predictions(events)
    for event, prediction in zip(events, together, strict=True):
        assert prediction["transaction_id"] == event["transaction_id"]
        assert prediction["card_id"] == event["card_id"]
        assert prediction["flagged"] is (prediction["score"] > 0.5)
        assert scorer.predictions([event])[0]["score"] == pytest.approx(prediction["score"], rel=1e-4, abs=1e-7)


def test_options_name_the_group_after_the_output() -> None:
    line = "--bootstrap b:1 --input in --output out --count 5 --model m.onnx"
    options = parse_options("", line.split())
    assert (options.group, options.count, options.model) == ("out", 5, Path("m.onnx"))


def test_a_report_survives_its_line() -> None:
    measurement = Measurement(1_000, 0.5, 12.25)
    assert Measurement.from_line(measurement.line()) == measurement
    assert measurement.events_per_s == 2_000


@pytest.mark.parametrize(
    "line",
    ["", "done", "[1]", '{"events": 1, "seconds": 1}', '{"events": 0, "seconds": 1, "cpu_us": 1}',
     '{"events": 1, "seconds": 0, "cpu_us": 1}', '{"events": 1, "seconds": NaN, "cpu_us": 1}'],
)  # fmt: skip
def test_what_is_no_report_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="reading a contender's report"):
        Measurement.from_line(line)


def test_the_meter_begins_with_the_first_record_only() -> None:
    meter = Meter()
    with pytest.raises(RuntimeError, match="got none"):
        meter.end(1)
    meter.begin()
    first = meter.end(10)
    meter.begin()
    assert meter.end(10).seconds >= first.seconds > 0


def test_rows_are_medians_and_ratios_are_paired_by_round() -> None:
    def rounds(*rates: int | None) -> list[Measurement | None]:
        return [None if rate is None else Measurement(rate, 1.0, 2.0) for rate in rates]

    # The machine halves its speed from round to round; the ratio must not notice.
    rows = summarise({"a": rounds(50, 25, None, 5), REFERENCE: rounds(100, 50, 20, 10), "failed": rounds(None)})
    by_name = {row.name: row for row in rows}
    assert set(by_name) == {"a", REFERENCE}
    assert by_name["a"].ratio == 0.5
    assert (by_name["a"].events_per_s, by_name["a"].lowest, by_name["a"].highest) == (25, 5, 50)
    assert by_name["a"].rounds == 3
    assert by_name[REFERENCE].ratio == 1.0
    assert summarise({"a": rounds(50)})[0].ratio is None
    assert Outcome({"a": rounds(50, 25), "failed": rounds(None)}, ["x"]).by_name() == {"a": 37.5}


@pytest.mark.parametrize("rate", [1, 3, 1_000, 7_777, 20_000])
def test_the_schedule_is_due_when_it_says(rate: int) -> None:
    schedule = Schedule(start_ns=10**15 + 7, rate=rate, count=2 * rate)
    assert schedule.due(schedule.start_ns - 1) == 0
    assert schedule.due(schedule.start_ns) == 1
    for index in (1, rate // 2, rate, 2 * rate - 1):
        at_ns = schedule.at_ns(index)
        assert schedule.due(at_ns - 2) <= index
        assert schedule.due(at_ns + 1) == index + 1
    assert schedule.end_ns == schedule.start_ns + 2 * NS_PER_S
    assert schedule.due(schedule.end_ns + NS_PER_S) == schedule.count


def test_lateness_weighs_by_event_not_by_burst() -> None:
    late = Lateness.of([0] * 50 + [20_000_000], [1] * 50 + [50], seconds=1.0)
    assert (late.sent, late.max_ms, late.achieved_per_s) == (100, 20.0, 100.0)
    assert late.p99_ms == 20.0
    assert late.behind(rate=100)
    assert not Lateness.of([1_000_000] * 100, [1] * 100, seconds=1.0).behind(rate=100)
    assert Lateness.of([0] * 90, [1] * 90, seconds=1.0).behind(rate=100)


def test_latencies_are_percentiles_in_milliseconds() -> None:
    latencies = Latencies.of(np.arange(1, 101) * 1_000_000, seconds=2.0, lost=3)
    assert latencies.p50_ms == 50.5
    assert latencies.p99_ms == pytest.approx(99.01)
    assert (latencies.max_ms, latencies.achieved_per_s, latencies.lost) == (100.0, 50.0, 3)
    assert json.loads(json.dumps(latencies.rounded()))["p99_ms"] == 99.01
    with pytest.raises(ValueError, match="got none"):
        Latencies.of([], 1.0, 0)


def test_rounds_combine_to_medians_and_the_worst() -> None:
    rounds = [Latencies(1, 10, 100, 50, 0, 0.1), Latencies(3, 30, 50, 40, 2, 9.0, True), Latencies(2, 20, 70, 60, 0)]
    assert combine(rounds) == Latencies(2, 20, 100, 50, 2, 9.0, True)


def test_every_contender_is_a_module_of_its_own() -> None:
    everyone = CONTENDERS
    assert len({contender.name for contender in everyone}) == len(everyone)
    assert REFERENCE in {contender.name for contender in everyone}
    commands = [contender.command for contender in everyone] + [echo.command for echo in ECHOES]
    for flag, module, *_ in commands:
        assert flag == "-m"
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


def test_a_child_that_fails_is_reported_with_its_stderr() -> None:
    with (
        started("child", ["-c", "raise SystemExit('no such topic')"]) as child,
        pytest.raises(ChildError, match=r"(?s)child ended with code 1.*no such topic"),
    ):
        child.finish(30)


def test_a_child_is_stopped_with_whatever_it_started() -> None:
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    with started("child", ["-c", script]) as child:
        grandchild = int(child.answer())
        with pytest.raises(ChildError, match="did not end within"):
            child.finish(0.01)
    assert not child.running
    limit_s = time.monotonic() + 10
    while _alive(grandchild):  # a killed process is gone soon, not at once
        assert time.monotonic() < limit_s
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_child_answers_line_by_line() -> None:
    echo = "import sys\nfor line in sys.stdin: print('got', line, end='', flush=True)"
    with started("child", ["-c", echo], piped_input=True) as child:
        child.ask("one")
        assert child.answer() == "got one\n"
        child.ask("two")
        assert child.answer() == "got two\n"
