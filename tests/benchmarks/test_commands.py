from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks.commands import bench

COMMANDS = (
    "throughput",
    "latency",
    "state",
    "table",
    "reasons",
    "guarantees",
    "recovery",
    "soak",
    "chaos",
    "drift",
    "engines",
    "vision",
)


def test_the_list_names_every_benchmark() -> None:
    answer = CliRunner().invoke(bench, ["--help"])
    assert answer.exit_code == 0
    assert set(COMMANDS) == set(bench.commands)
    assert all(command in answer.output for command in COMMANDS)


def test_the_readme_lists_every_benchmark() -> None:
    text = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^    python -m benchmarks (\w+)", text, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_the_last_line_holds(command: str) -> None:
    answer = CliRunner().invoke(bench, [command, "--help"])
    assert answer.exit_code == 0
    assert "--json: " in answer.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["throughput", "--contenders", "librdkafka,nobody"], "nobody"),
        (["throughput", "--contenders", ""], "nothing"),
        (["latency", "--rates", "fast"], "whole numbers above zero"),
        (["latency", "--rates", "0"], "whole numbers above zero"),
        (["guarantees", "--partitions", "4,many"], "whole numbers above zero"),
        (["recovery", "--guarantee", "at_most_once"], "exactly_once"),
        (["soak", "--minutes", "0"], "0.1"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(arguments: list[str], complaint: str) -> None:
    answer = CliRunner().invoke(bench, arguments)
    assert answer.exit_code == 2
    assert complaint in answer.output
