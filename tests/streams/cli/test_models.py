from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from models import repository
from models.engine import ModelNotFound, TrainingFailed
from streams.cli.models import models, simulate


def run(*arguments: str) -> str:
    outcome = CliRunner().invoke(models, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_training_saves_the_next_version_and_says_how_it_was_made(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra `train`")
    arguments = ("train", "fraud", "--days", "60", "--customers", "500", "--seed", "1", "--epochs", "6")
    printed = run(*arguments, "--output", str(tmp_path))
    run(*arguments, "--output", str(tmp_path))
    first, second = (repository.load(tmp_path, "fraud", version) for version in (1, 2))
    assert first.manifest.sha256 == second.manifest.sha256  # the same command gives the same network
    assert first.manifest.trained.how == "headrace models " + " ".join(arguments)
    assert {"roc_auc", "average_precision", "recall", "recall_stolen_card"} <= set(first.manifest.quality)
    assert "fraud/1" in printed
    assert "features: float32 [n, 13]" in printed
    assert "1, 2" in run("list", "--root", str(tmp_path))
    assert second.manifest.sha256 in run("show", "fraud/2", "--root", str(tmp_path))


def test_the_bundled_models_are_listed_and_shown() -> None:
    assert "fraud" in run("list")
    assert "headrace models train fraud" in run("show", "fraud")


def test_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no such model; there is \['fraud'\]"):
        run("show", "nothing")
    with pytest.raises(ModelNotFound, match="train one with `headrace models train fraud`"):
        run("list", "--root", str(tmp_path))
    outcome = CliRunner().invoke(models, ["show", "fraud/latest"])
    assert outcome.exit_code == 2
    assert "expected NAME or NAME/VERSION, got 'fraud/latest'" in outcome.output


def test_training_without_torch_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "models.fraud.train", raising=False)
    monkeypatch.delitem(sys.modules, "models.fraud.network", raising=False)
    monkeypatch.delitem(sys.modules, "models.fraud.fitting", raising=False)
    with pytest.raises(TrainingFailed, match=r"pip install 'headrace\[train\]'"):
        run("train", "fraud", "--days", "2", "--customers", "10", "--output", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_simulated_days_are_whole_and_in_order() -> None:
    seen: list[int] = []
    events = simulate(days=3, customers=200, seed=5, on_day=seen.append)
    since_start = events.event_time_ms - events.event_time_ms[0] // 86_400_000 * 86_400_000
    assert (since_start[1:] >= since_start[:-1]).all()
    assert since_start[-1] // 86_400_000 == 2
    assert seen[-1] == 3
    assert events.keys()[0] == b"c%07d" % events.customer[0]
