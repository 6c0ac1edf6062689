from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from models import selection
from models.engine import ModelNotFound, ModelReadOnly
from models.engines import plan_cache, tensorrt_build
from models.engines.tensorrt_build import DEFAULT_MAX_BATCH_SIZE
from models.manifest import Derived
from models.repository import Repository
from models.selection import EngineKind
from streams.cli.models import models
from tests.models import networks, stand_in_tensorrt
from tests.streams.cli.terminal import on_terminal


def run(*arguments: str, columns: int = 200) -> str:
    outcome = CliRunner().invoke(models, arguments, catch_exceptions=False, env={"COLUMNS": str(columns)})
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_the_bundled_models_are_listed_and_shown() -> None:
    assert "fraud" in run("list")
    assert "headrace models train fraud" in run("show", "fraud")


def test_a_manifest_is_shown_whole(tmp_path: Path) -> None:
    for version in (1, 2):
        networks.save(tmp_path, version, quality={"average_precision": 0.71234, "recall": 0.5})
    shown = run("show", "scaling/1", "--root", str(tmp_path))
    assert shown.startswith("scaling/1")
    assert "x: float32 [n, 4]" in shown
    assert "average_precision 0.71234   recall 0.5" in shown
    assert Repository([tmp_path]).load("scaling", 1).manifest.sha256 in shown


def test_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no such model; there is fraud, vision$"):
        run("show", "nothing")


@pytest.mark.parametrize("command", ["show", "remove", "verify"])
@pytest.mark.parametrize(
    "name", ["fraud/latest", "fraud/", "fraud/0", "fraud/01", "fraud/" + "9" * 20, "../fraud/1", ""]
)
def test_what_is_no_name_is_a_mistake(tmp_path: Path, command: str, name: str) -> None:
    outcome = CliRunner().invoke(models, [command, name, "--root", str(tmp_path)], env={"COLUMNS": "200"})
    assert outcome.exit_code == 2
    assert f"expected NAME or NAME/VERSION, e.g. fraud or fraud/2, got {name!r}" in outcome.output


def test_every_version_is_listed_with_where_it_is_and_whether_it_serves(tmp_path: Path) -> None:
    for version in (1, 2):
        networks.save(tmp_path, version)
    networks.save(tmp_path, 7, name="fraud", licence="[/] of ours")
    (tmp_path / "scaling" / "2" / "model.onnx").write_bytes(b"")
    rows = [line.split() for line in run("list", "--root", str(tmp_path), columns=800).splitlines()]
    assert [row[:3] for row in rows[1:3]] == [["fraud", "2", "yes"], ["fraud", "7", "0"]]
    assert "bundled" in rows[1]
    assert rows[2][2:9] == ["0", "KiB", "[/]", "of", "ours", str(tmp_path), "Multiplies"]
    assert rows[3][:5] == ["scaling", "1", "yes", "0", "KiB"]
    assert rows[4][:6] == ["scaling", "2", str(tmp_path), "cannot", "be", "served:"]


def test_what_is_shown_of_a_network_is_what_it_holds(tmp_path: Path) -> None:
    network = onnx.load(Repository().load("fraud").onnx_path)
    shown = run("show", "fraud", "--root", str(tmp_path))
    counts = Counter(node.op_type for node in network.graph.node)
    assert all(f"{count} {operator}" in shown for operator, count in counts.items())
    assert f"{sum(math.prod(tensor.dims) for tensor in network.graph.initializer):,}" in shown
    assert "ai.onnx 18" in shown
    assert "(bundled)" in shown
    assert "onnx-cpu" not in shown


def test_times_are_shown_once_they_were_measured(tmp_path: Path) -> None:
    networks.save(tmp_path)
    verified = run("verify", "scaling", "--root", str(tmp_path))
    assert "scaling/1  onnx-cpu  ok" in verified
    shown = run("show", "scaling", "--root", str(tmp_path))
    assert re.search(r"onnx-cpu +[\d.e-]+ ms for 1, [\d.e-]+ ms for 64, [\d.e-]+ ms for 1,024", shown)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_times_on_tensorrt_are_shown_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    stand_in_tensorrt.install(monkeypatch)
    kind = selection.ENGINES["tensorrt"]
    monkeypatch.setattr(selection, "ENGINES", {**selection.ENGINES, "tensorrt": EngineKind(lambda: None, kind.make)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    derived = None if precision == "fp32" else Derived("scaling/0", "headrace models optimise", precision)
    model = networks.save(tmp_path / "models", derived=derived)
    tensorrt_build.build_plan(lambda _: None, model, DEFAULT_MAX_BATCH_SIZE, plan_cache.default_folder())
    assert re.search("scaling/1 +tensorrt +ok", run("verify", "scaling", "--root", str(tmp_path / "models")))
    shown = run("show", "scaling", "--root", str(tmp_path / "models"))
    assert re.search(rf"tensorrt-{precision} +[\d.e-]+ ms for 1, .*\n *onnx-cpu +[\d.e-]+ ms for 1, ", shown)


def test_verify_says_which_version_failed_and_why(tmp_path: Path) -> None:
    for version in (1, 2):
        networks.save(tmp_path, version)
    (tmp_path / "scaling" / "2" / "model.onnx").write_bytes(b"broken")
    outcome = CliRunner().invoke(models, ["verify", "--root", str(tmp_path)], env={"COLUMNS": "300"})
    assert outcome.exit_code == 1
    assert re.search(r"fraud/2 +onnx-cpu +ok", outcome.stdout)
    assert re.search(r"vision/1 +onnx-cpu +ok", outcome.stdout)
    assert re.search(r"scaling/1 +onnx-cpu +ok", outcome.stdout)
    assert re.search(r"scaling/2 +failed", outcome.stdout)
    assert re.search(r"^scaling/2: .*expected sha256", outcome.stdout, re.MULTILINE)
    assert "1 of 4 failed" in outcome.stderr
    assert "failed" not in run("verify", "scaling/1", "--root", str(tmp_path))


def test_an_own_version_is_removed_and_a_bundled_one_is_not(tmp_path: Path) -> None:
    networks.save(tmp_path)
    outcome = CliRunner().invoke(models, ["remove", "scaling/1", "--root", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "give --yes" in outcome.output
    assert Repository([tmp_path]).names() == ["scaling"]
    run("remove", "scaling/1", "--root", str(tmp_path), "--yes")
    assert Repository([tmp_path]).names() == []
    with pytest.raises(ModelNotFound, match="no such model"):
        run("remove", "scaling/1", "--root", str(tmp_path), "--yes")
    with pytest.raises(ModelReadOnly, match=r"removing fraud/2: it is bundled .*; nothing was removed"):
        run("remove", "fraud/2", "--root", str(tmp_path), "--yes")
    assert CliRunner().invoke(models, ["remove", "fraud", "--yes"]).exit_code == 2


@pytest.mark.parametrize(("answer", "left"), [("n", ["scaling"]), ("y", [])])
def test_on_a_terminal_removing_asks(tmp_path: Path, answer: str, left: list[str]) -> None:
    networks.save(tmp_path)
    said = on_terminal("remove", "scaling/1", "--root", str(tmp_path), answers=[answer])
    assert "remove scaling/1 from" in said
    assert Repository([tmp_path]).names() == left
