"""What a hint says to install: into the interpreter that runs, from the checkout that it runs from."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from models.engine import TrainingFailed
from streams.cli import extras, main

HINT = "drawing costs: importing matplotlib failed; install what training needs: pip install 'headrace[train]'"


def _words(message: str) -> list[str]:
    """The command in a hint, as a shell reads it."""
    return shlex.split(message.rpartition("needs: ")[2])


def test_in_a_checkout_the_checkout_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    monkeypatch.setattr(extras, "FOLDER", checkout)
    words = [sys.executable, "-m", "pip", "install", "-e", f"{checkout}[train]"]
    assert _words(extras.for_this_interpreter(HINT)) == words


def test_elsewhere_the_package_is_installed_into_this_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "executable", "/opt/a b/python")
    assert _words(extras.for_this_interpreter(HINT)) == ["/opt/a b/python", "-m", "pip", "install", "headrace[train]"]
    other = extras.for_this_interpreter("reinstall it with `pip install onnxruntime`")
    assert other == "reinstall it with `'/opt/a b/python' -m pip install onnxruntime`"


def test_an_error_says_it_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(prog_name: str) -> None:
        raise TrainingFailed(HINT)

    monkeypatch.setattr(main, "cli", fail)
    with pytest.raises(SystemExit):
        main.main()
    assert f"{sys.executable} -m pip install -e '{extras.FOLDER}[train]'" in capsys.readouterr().err
