from __future__ import annotations

import pytest
from click.testing import CliRunner

pytest.importorskip("orjson", reason="needs the extra `bench`")

from benchmarks.commands import bench


def test_help_teaches_both_benchmarks() -> None:
    answer = CliRunner().invoke(bench, ["--help"])
    assert answer.exit_code == 0
    assert "throughput" in answer.output
    assert "latency" in answer.output
    for command in ("throughput", "latency"):
        answer = CliRunner().invoke(bench, [command, "--help"])
        assert answer.exit_code == 0
        assert "--json" in answer.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["throughput", "--contenders", "librdkafka,nobody"], "nobody"),
        (["throughput", "--contenders", ""], "nothing"),
        (["latency", "--rates", "fast"], "whole numbers above zero"),
        (["latency", "--rates", "0"], "whole numbers above zero"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(arguments: list[str], complaint: str) -> None:
    answer = CliRunner().invoke(bench, arguments)
    assert answer.exit_code == 2
    assert complaint in answer.output
