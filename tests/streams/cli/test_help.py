from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from streams.cli import bench
from streams.cli.console import summary
from streams.pipelines import PIPELINES
from streams.settings import Worker
from tests.streams.cli.conftest import run

COMMANDS = (
    "topics create", "topics list", "topics lag", "topics delete", "produce transactions", "produce labels",
    "produce video", "subscribe", "predict fraud", "predict vision", "schemas", "bench", "worker", "models list",
    "models show", "models add", "models verify", "models remove", "models optimise", "models promote",
    "models rollback", "models compare", "models train vision", "models train fraud", "models evaluate fraud",
    "models evaluate vision", "models thresholds fraud", "models sample fraud", "models build", "demo",
)  # fmt: skip
HEAVY = {"numba", "onnxruntime", "faust", "aiokafka", "confluent_kafka", "pyarrow", "torch", "cv2", "av", "simplejpeg"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_shows_an_example(command: str) -> None:
    text = run(*command.split(), "--help").out
    assert "Example" in text
    assert f"headrace {command}" in text


@pytest.mark.parametrize("group", ["topics", "produce", "predict", "models"])
def test_groups_list_their_commands(group: str) -> None:
    text = run(group, "--help").out
    assert all(command.split()[1] in text for command in COMMANDS if command.startswith(group))


@pytest.mark.parametrize(
    "command",
    [
        "",
        "topics",
        "produce transactions",
        "produce labels",
        "produce video",
        "subscribe",
        "predict",
        "schemas",
        "models optimise",
    ],
)
def test_help_loads_nothing_heavy(command: str) -> None:
    show = "import sys; from streams.cli.main import cli; cli(sys.argv[1:], standalone_mode=False); "
    show += "print('loaded:', *sorted({name.split('.')[0] for name in sys.modules}))"
    printed = subprocess.run(
        [sys.executable, "-c", show, *command.split(), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert not HEAVY & set(printed.partition("loaded:")[2].split())


def test_the_worker_names_guarantees_as_the_setting_does() -> None:
    values = get_args(get_type_hints(Worker)["processing_guarantee"])
    assert f"[{'|'.join(values)}]" in run("worker", "--help").out
    assert f"'{values[1]}'" in run("worker", "fraud", "--guarantee", "exactly-once", code=2).err


def test_topics_says_what_is_made_where_nothing_is_named() -> None:
    text = " ".join(run("topics", "create", "--help").out.split())
    assert "without either, those of all pipelines" in text
    assert f"of the pipelines {', '.join(list(PIPELINES)[:-1])} and {list(PIPELINES)[-1]}" in text
    assert "delete them" in run("--help").out


@pytest.mark.parametrize("command", ["predict", "predict vision", "models evaluate vision"])
def test_examples_name_the_detector_as_the_example_of_models_add_does(command: str) -> None:
    (added,) = re.findall(
        r"headrace models add (yolox\S*)\.onnx --task detect --labels", run("models", "add", "--help").out
    )
    assert set(re.findall(r"--model (yolox\S*)", run(*command.split(), "--help").out)) == {added}


def test_a_mistake_ends_in_one_line_and_exit_code_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streams.cli", "predict", "fraud", "--from", str(tmp_path / "no.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: opening {tmp_path}/no.jsonl: there is no such file\n"


def test_an_error_shows_names_as_they_were_given(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streams.cli", "predict", "fraud", "--from", str(tmp_path / ":x:.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == f"error: opening {tmp_path}/:x:.jsonl: there is no such file\n"


def test_a_rollout_without_a_broker_ends_in_one_sentence() -> None:
    command = [sys.executable, "-m", "streams.cli", "models", "promote", "fraud/2"]
    nowhere = os.environ | {"HEADRACE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: connecting to Kafka at '127\.0\.0\.1:1': .+\n", done.stderr)


def test_a_summary_shows_names_as_they_were_given(capsys: pytest.CaptureFixture[str]) -> None:
    summary("7 frames of :x: to yard")
    assert capsys.readouterr().err == "7 frames of :x: to yard\n"


def test_benchmarks_get_what_stands_behind_bench() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "bench", "latency", "--rates", "none"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--rates" in done.stderr


def test_a_package_without_benchmarks_says_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    assert "run `./headrace bench` in a checkout" in run("bench", "throughput", code=1).error


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "NEEDED", ("click", "no_such_library"))
    error = run("bench", "throughput", code=1).error
    assert "no_such_library is not installed" in error
    assert "[bench]" in error


FULL_DISK = Path("/dev/full")


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["schemas", "models list", "--help"])
def test_a_full_disk_is_a_sentence(command: str) -> None:
    with FULL_DISK.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", *command.split()], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: writing the output: No space left on device; it is not whole; make room there, and run the command "
        "again\n"
    )


@pytest.mark.parametrize(("command", "code"), [("schemas", 0), ("--help", 0), ("topics list", 1)])
def test_closed_standard_streams_end_no_command(command: str, code: int) -> None:
    closed = f'exec "$0" -m streams.cli {command} <&- >&- 2>&-'
    nobody = os.environ | {"HEADRACE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"}
    assert subprocess.run(["/bin/sh", "-c", closed, sys.executable], env=nobody, close_fds=True).returncode == code
