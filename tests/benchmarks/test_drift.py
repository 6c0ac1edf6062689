from __future__ import annotations

import json

import pytest

pytest.importorskip("orjson", reason="needs the extra `bench`")

from rich.console import Console

from benchmarks import drift


def test_a_short_run_measures_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"QUIET_DAYS": 2, "SPANS_H": (24,), "BATCH": 2_048}.items():
        monkeypatch.setattr(drift, name, value)
    said: list[str] = []
    outcome = drift.run(1, 4, said.append)
    answer = json.loads(json.dumps(outcome.answer()))
    assert answer["false_alarms"] == 0
    assert answer["reports"] > 20
    found = {(each["change"], each["span_h"]): each for each in answer["changes"]}
    stuck = found["stuck at the median", 24]
    assert (stuck["found"], stuck["of"]) == (4, 4)
    assert 0 < stuck["median_hours"] < 24
    assert found["mean + 0.1 sd", 24]["found"] < 4
    assert said
    console = Console(width=80)
    with console.capture() as captured:
        console.print(drift.table(outcome))
    assert "stuck at the median" in captured.get()
