from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from models.engine import ModelNotFound
from models.repository import Repository
from streams.cli.models import models
from tests.models import networks


def run(*arguments: str) -> str:
    outcome = CliRunner().invoke(models, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_the_bundled_models_are_listed_and_shown() -> None:
    assert "fraud" in run("list")
    assert "headrace models train fraud" in run("show", "fraud")


def test_a_manifest_is_shown_whole(tmp_path: Path) -> None:
    for version in (1, 2):
        networks.save(tmp_path, version, quality={"average_precision": 0.71234, "recall": 0.5})
    assert "1, 2" in run("list", "--root", str(tmp_path))
    shown = run("show", "scaling/1", "--root", str(tmp_path))
    assert shown.startswith("scaling/1")
    assert "x: float32 [n, 4]" in shown
    assert "average_precision 0.71234   recall 0.5" in shown
    assert Repository([tmp_path]).load("scaling", 1).manifest.sha256 in shown


def test_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no such model; there is \['fraud'\]"):
        run("show", "nothing")
    with pytest.raises(ModelNotFound, match="train one with `headrace models train fraud`"):
        run("list", "--root", str(tmp_path))
    outcome = CliRunner().invoke(models, ["show", "fraud/latest"])
    assert outcome.exit_code == 2
    assert "expected NAME or NAME/VERSION, got 'fraud/latest'" in outcome.output
