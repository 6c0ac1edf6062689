"""The chaos command runs the suite, and says what it has reported."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks import chaos
from benchmarks.commands import bench
from tests.chaos.stage import Outcome

OUTCOMES = [
    Outcome("SIGKILL", "at_least_once", 606, 50, 81_234, 800, 1_234, 0, 80.5),
    Outcome("SIGKILL", "exactly_once", 606, 50, 81_200, 800, 17, 2, 82.0, ["17 inputs are there twice"], "somewhere"),
]


def reported(folder: Path) -> Path:
    report = folder / "report.jsonl"
    report.write_text("".join(json.dumps(vars(each)) + "\n" for each in OUTCOMES))
    return report


def test_the_table_says_which_guarantee_was_broken(tmp_path: Path) -> None:
    drawn = io.StringIO()
    Console(width=80, file=drawn).print(chaos.table(chaos.read(reported(tmp_path))))
    lines = [line.split() for line in drawn.getvalue().splitlines() if "SIGKILL" in line]
    assert lines == [
        ["SIGKILL", "at", "least", "50", "81,234", "1,234", "0", "kept"],
        ["SIGKILL", "exactly", "50", "81,200", "17", "2", "BROKEN"],
    ]


def test_nothing_reported_is_no_row(tmp_path: Path) -> None:
    assert chaos.read(tmp_path / "report.jsonl") == []


def run(monkeypatch: pytest.MonkeyPatch, suite: str) -> tuple[int, dict[str, object]]:
    monkeypatch.setattr(chaos, "SUITE", (suite,))
    answer = CliRunner().invoke(bench, ["chaos", "--minutes", "0.01", "--guarantee", "exactly_once", "--json"])
    return answer.exit_code, json.loads(answer.stdout.splitlines()[-1])


def test_the_exit_code_is_the_suites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, "tests/chaos/test_verdict.py") == (0, {"rows": [], "passed": True})
    (tmp_path / "test_red.py").write_text("def test_red():\n    assert False\n")
    assert run(monkeypatch, str(tmp_path / "test_red.py")) == (1, {"rows": [], "passed": False})


@pytest.mark.parametrize("wrong", [["--minutes", "0"], ["--guarantee", "hardly_ever"]])
def test_a_wrong_option_is_refused_before_anything_starts(wrong: list[str]) -> None:
    assert CliRunner().invoke(bench, ["chaos", *wrong]).exit_code == 2
