"""The README says only what the code has: its commands, settings, metrics, messages, links and paths are looked up."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from streams import settings
from streams.cli.main import cli
from streams.pipelines import PIPELINES
from streams.rollout import SHADOW
from streams.schemas import FraudFlag, FraudLabel, Transaction, VideoDetections, VideoEvent
from streams.settings import Settings
from streams.telemetry import METRICS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_ENDINGS = ("toml", "py", "md", "yml", "onnx", "npz", "gz", "yaml")


def _blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(README) if kind == language]


def _command_lines() -> Iterator[str]:
    for block in _blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\w+=\S+ +)*(\./)?headrace ", line):
                yield " ".join(shlex.split(line, comments=True)) if "#" in line else line
    prose = BLOCK.sub("", README)
    yield from re.findall(r"`((?:\./)?headrace [^`\n]+)`", prose)


def _resolve(line: str) -> tuple[click.Command, list[str]]:
    """The command that a line calls, and its arguments; variables before it and what follows a pipe are left out."""
    words = shlex.split(line, comments=True)
    words = words[next(i for i, word in enumerate(words) if word.endswith("headrace")) + 1 :]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&", "&&")), len(words))]
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        context = click.Context(command)
        found = command.get_command(context, words[0])
        assert found is not None, f"{line!r}: {context.command.name} has no command {words[0]!r}"
        command, words = found, words[1:]
        if command.name == "bench":  # hands everything behind it over to the benchmarks' own command line
            pytest.importorskip("orjson", reason="needs the extra `bench`")
            from benchmarks.commands import bench as command
    return command, words


@pytest.mark.parametrize("line", sorted(set(_command_lines())))
def test_commands_exist_and_take_their_options(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if re.match(r"\./headrace test\b", line):  # the launcher's own: it installs what the tests need first
        assert re.search(r"^test\)", (ROOT / "headrace").read_text(encoding="utf-8"), re.MULTILINE)
        return
    command, words = _resolve(line)
    if not isinstance(command, click.Group):
        monkeypatch.chdir(tmp_path)
        for word in words:
            if word.endswith((".parquet", ".names")):
                Path(word).touch()
            elif word.endswith("/"):
                Path(word).mkdir()
        command.make_context(command.name, words)


def test_there_are_commands_to_check() -> None:
    lines = [line for line in _command_lines() if not re.search(r"headrace (test|bench)\b", line)]
    called = {_resolve(line)[0].name for line in lines} | {line.split("headrace ")[1].split()[0] for line in lines}
    assert called >= {"demo", "worker", "subscribe", "fraud", "transactions", "create", "predict"}


def _setting_names() -> set[str]:
    return {
        f"{section.name}.{field.name}"
        for section in msgspec.structs.fields(Settings)
        for field in msgspec.structs.fields(section.type)
    }


def _topics() -> set[str]:
    made = [topic.name for domain in PIPELINES.values() for topic in domain.topics(Settings())]
    return {*made, Settings().fraud.output + SHADOW}


def test_settings_and_topics_exist() -> None:
    named = set(re.findall(r"`([a-z][a-z_-]*\.[a-z][a-z_.-]*)`", BLOCK.sub("", README)))
    named = {name for name in named if name.rsplit(".", 1)[1] not in FILE_ENDINGS}
    assert len(named) > 10
    assert named <= _setting_names() | _topics()


def test_defaults_are_the_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| (\S+) \|", README, re.MULTILINE)
    assert len(rows) > 10
    for section, key, default in rows:
        value = getattr(getattr(Settings(), section), key)
        expected = "none" if value in (None, ()) else str(value).lower() if isinstance(value, bool) else str(value)
        assert default == expected, f"{section}.{key}"


def test_variables_are_settings() -> None:
    variables = set(re.findall(r"\bHEADRACE_[A-Z]+__[A-Z_]+", README))
    assert len(variables) > 3
    for name in variables:
        section, key = name.removeprefix(settings.PREFIX).lower().split("__")
        assert f"{section}.{key}" in _setting_names(), name
    others = set(re.findall(r"\bHEADRACE_[A-Z]+\b(?!__)", README))
    assert others <= {settings.CONFIG_VARIABLE}


def test_the_example_files_load(tmp_path: Path) -> None:
    for block in _blocks("toml"):
        file = tmp_path / settings.DEFAULT_FILE
        file.write_text(block, encoding="utf-8")
        assert settings.load(environ={}, file=file) != Settings()


def test_metrics_exist() -> None:
    named = set(re.findall(r"\bheadrace_\w+", README))
    assert len(named) > 5
    assert named <= set(METRICS)


def test_example_messages_are_valid() -> None:
    transaction, flag, flagged, label, seen, told, classified = _blocks("json")
    decoded = msgspec.json.decode(transaction, type=Transaction)
    assert msgspec.json.decode(flag, type=FraudFlag).transaction_id == decoded.transaction_id
    assert set(msgspec.json.decode(flag)) | {"baseline", "rule", "features"} == set(FraudFlag.__struct_fields__)
    explained = msgspec.json.decode(flagged, type=FraudFlag)
    reasons = sum(reason.contribution for reason in explained.reasons)
    assert explained.baseline + reasons == pytest.approx(explained.score, abs=1e-3)
    assert msgspec.json.decode(label, type=FraudLabel).transaction_id == decoded.transaction_id
    detections, event = msgspec.json.decode(seen, type=VideoDetections), msgspec.json.decode(told, type=VideoEvent)
    assert event.track_id in {each.track_id for each in detections.objects}
    assert set(msgspec.json.decode(seen)) | {"classes"} == set(VideoDetections.__struct_fields__)
    assert set(msgspec.json.decode(classified)) == set(VideoDetections.__struct_fields__)
    assert msgspec.json.decode(classified, type=VideoDetections).objects == []
    assert set(msgspec.json.decode(told)) <= set(VideoEvent.__struct_fields__)


def test_the_example_prediction_is_what_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction, flag, *_ = _blocks("json")
    file = tmp_path / "transactions.jsonl"
    file.write_text(transaction, encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # away from a headrace.toml of the checkout
    answer = CliRunner().invoke(cli, ["predict", "fraud", "--from", str(file)])
    assert answer.exit_code == 0, answer.output
    assert msgspec.json.decode(answer.stdout) == msgspec.json.decode(flag)


def test_relative_links_resolve() -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith("http")]
    assert len(links) > 3
    assert not [link for link in links if not (ROOT / link.split("#")[0]).exists()]


def test_the_map_shows_what_is_there() -> None:
    (layout,) = _blocks("")
    paths = [line.split()[0] for line in layout.splitlines()]
    assert not [path for path in paths if not (ROOT / path).exists()]
    folders = {"streams", "models", "connectors", "dashboards", "tests", "benchmarks"}
    assert folders <= {path.rstrip("/") for path in paths}
