"""`headrace models promote`, `rollback` and `compare`: what is refused before any worker could hear of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from models.repository import ZOO
from streams.cli import rollouts
from streams.errors import HeadraceError, SettingsError
from streams.pipelines import PIPELINES
from streams.rollout import Report
from tests.models import networks
from tests.streams.cli.conftest import Run

_number = count()


@pytest.fixture
def control(headrace: Run) -> Iterator[str]:
    """A topic of rollouts that nobody has made; the test must not have asked for any in the end."""
    name = f"refused-{next(_number)}.models"
    yield name
    assert name not in [each["name"] for each in json.loads(headrace("topics", "list", "--json").out)]


def _yolox(root: Path) -> Path:
    """A detector called yolox, beside the bundled models."""
    folder = root / "yolox" / "1"
    shutil.copytree(ZOO / "vision" / "1", folder)
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('name = "vision"', 'name = "yolox"'))
    return root


@pytest.mark.parametrize("command", ["promote yolox/1", "rollback yolox", "compare yolox"])
def test_a_model_that_no_pipeline_of_the_settings_serves_is_refused(
    command: str, headrace: Run, control: str, tmp_path: Path
) -> None:
    refused = headrace("models", *command.split(), MODELS__ROOT=str(_yolox(tmp_path)), MODELS__CONTROL=control, code=1)
    assert isinstance(refused.result.exception, SettingsError)
    assert "no pipeline of these settings serves model 'yolox'" in refused.error
    assert "(fraud serves 'fraud', vision serves 'vision')" in refused.error
    assert 'vision.model = "yolox" in headrace.toml' in refused.error
    assert "HEADRACE_VISION__MODEL=yolox" in refused.error
    assert ("FRAUD" in refused.error) == (command != "promote yolox/1")  # whose task is known
    assert refused.out == ""


@pytest.mark.parametrize("command", ["rollback fraud/3", "rollback FRAUD", "compare fraud/3"])
def test_what_is_no_name_of_a_model_is_not_taken_for_one(command: str, headrace: Run) -> None:
    name = command.split()[1]
    said = f"expected lower-case letters, digits, _ and -, at most 64, got {name!r}"
    assert said in headrace("models", *command.split(), code=2).err


def test_what_the_settings_name_is_promoted(headrace: Run, tmp_path: Path) -> None:
    names = {"MODELS__ROOT": str(_yolox(tmp_path)), "MODELS__CONTROL": "yolox.models", "VISION__MODEL": "yolox"}
    said = headrace("models", "promote", "yolox/1", WORKER__GROUP="yolox-group", **names)
    assert said.out == "yolox/1 serves\nno worker of yolox-group runs; those that start from now on will do so\n"


@pytest.mark.parametrize("more", [(), ("--shadow",), ("--canary", "0.1")])
def test_what_no_worker_of_the_settings_can_serve_is_refused(
    more: tuple[str, ...], headrace: Run, control: str, tmp_path: Path
) -> None:
    networks.save(tmp_path, 3, name="fraud")
    settings = {"MODELS__ROOT": str(tmp_path), "MODELS__CONTROL": control}
    refused = headrace("models", "promote", "fraud/3", *more, **settings, code=1)
    assert refused.error.startswith("serving fraud/3 in pipeline fraud: expected ['features: float32 [n, 26]'")
    assert refused.out == ""


def test_settings_that_fix_a_version_promote_none(headrace: Run, control: str) -> None:
    refused = headrace("models", "promote", "fraud/2", MODELS__CONTROL=control, FRAUD__VERSION="2", code=1)
    assert isinstance(refused.result.exception, SettingsError)
    assert refused.error.startswith("promoting fraud/2: these settings fix fraud.version = 2")
    assert refused.out == ""


@pytest.mark.parametrize("command", ["promote vision/1 --shadow", "promote vision/1 --canary 0.1", "compare vision"])
def test_a_pipeline_that_takes_no_challenger_is_asked_for_none(command: str, headrace: Run, control: str) -> None:
    refused = headrace("models", *command.split(), MODELS__CONTROL=control, code=1)
    assert isinstance(refused.result.exception, HeadraceError)
    assert "pipeline vision takes no challenger, since its answers are no single numbers" in refused.error
    assert refused.out == ""


def test_compare_says_how_comparisons_come_to_be(headrace: Run) -> None:
    said = headrace("models", "compare", "fraud", FRAUD__OUTPUT="never-shadowed", code=1).error
    assert said.startswith("comparing fraud: topic 'never-shadowed.shadow' does not exist at ")
    assert said.endswith(
        "put a version beside it with `headrace models promote fraud/VERSION --shadow` while events flow"
    )


def test_pipelines_say_of_challengers_what_their_domains_say() -> None:
    from streams.pipelines.fraud.pipeline import FraudPipeline
    from streams.pipelines.vision.pipeline import VisionPipeline

    built = {"fraud": FraudPipeline.comparable, "vision": VisionPipeline.comparable}
    assert {each.name: each.comparable for each in PIPELINES.values() if each.tasks} == built


def test_a_refusal_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    why = "loading fraud/3 from [a/b]: " + "no version 3; " * 12
    answers = [
        Report("site-b-1", "fraud", 7, "fraud/3", "fraud/2", "onnx-cpu", 0.5, error=why),
        Report("site-a-1", "fraud", 7, "fraud/3", "fraud/3", "onnx-cpu", 0.5),
    ]
    rollouts._show(Console(width=60), answers)
    _, first, second, last = capsys.readouterr().out.splitlines()
    assert (first.split()[0], second.split()[0]) == ("site-a-1", "site-b-1")
    assert last == f"site-b-1 refused it: {why}"
