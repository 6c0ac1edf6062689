from __future__ import annotations

from pathlib import Path

import pytest

from models.engine import EngineUnavailable, ModelNotFound
from models.engines.aside import Aside
from models.engines.device import why_no_gpu
from streams.cli.build import follow
from streams.settings import Batch
from tests.models import networks
from tests.models.test_aside import breaks, goes_on, writes
from tests.streams.cli.conftest import run

without_a_gpu = pytest.mark.skipif(why_no_gpu() is None, reason="there is a GPU here")


def test_help_says_what_it_does_and_shows_an_example() -> None:
    text = run("models", "build", "--help").out
    assert "headrace models build fraud" in text
    assert f"[default: {Batch().max_batch_size}" in text
    assert "build" in run("models", "--help").out


@without_a_gpu
def test_without_a_gpu_it_says_why_and_builds_nothing(tmp_path: Path) -> None:
    networks.save(tmp_path / "models")
    outcome = run("models", "build", "scaling", "--root", tmp_path / "models", "--plans", tmp_path / "plans", code=1)
    assert outcome.error.startswith("building scaling/1 for tensorrt: there is no NVIDIA driver")
    assert outcome.error.endswith("nothing was built")
    assert not (tmp_path / "plans").exists()


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    networks.save(tmp_path)
    root = ("--root", tmp_path)
    outcome = run("models", "build", "nothing", *root, code=1)
    assert isinstance(outcome.result.exception, ModelNotFound)
    assert (
        "expected NAME or NAME/VERSION, e.g. fraud or fraud/2, got 'scaling/new'"
        in run("models", "build", "scaling/new", *root, code=2).err
    )
    assert "0 is not in the range" in run("models", "build", "scaling", "--max-batch-size", 0, *root, code=2).err
    assert "'abacus' is not" in run("models", "build", "scaling", "--engine", "abacus", *root, code=2).err


def test_a_bar_follows_the_work_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    follow(Aside("writing", writes, tmp_path / "done"), "scaling/1")
    assert (tmp_path / "done").exists()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "building scaling/1" in shown.err
    assert "100%" in shown.err


def test_work_that_fails_is_an_error() -> None:
    with pytest.raises(EngineUnavailable, match="ZeroDivisionError"):
        follow(Aside("breaking", breaks), "scaling/1")


def test_an_interrupted_command_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    aside = Aside("going on", goes_on)

    def interrupted(timeout_s: float = 0.0) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(aside, "poll", interrupted)
        with pytest.raises(KeyboardInterrupt):
            follow(aside, "scaling/1")
    assert aside.poll()
    with pytest.raises(EngineUnavailable, match="its process ended with code -15"):
        aside.wait()
