"""`headrace demo` as a newcomer runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import JARS, Kafka

LIMIT_S = 90
COMMAND = [sys.executable, "-P", "-m", "streams.cli", "demo", "--rate", "500"]


@pytest.fixture
def folder(tmp_path: Path, kafka: Kafka) -> Iterator[Path]:
    """A folder where Kafka was fetched before; nothing may run in it afterwards."""
    (tmp_path / ".headrace" / "kafka").mkdir(parents=True)
    (tmp_path / ".headrace" / "kafka" / "jars").symlink_to(JARS)
    yield tmp_path
    left = [each.info["cmdline"] for each in psutil.process_iter(["cmdline"]) if _runs_in(each, tmp_path)]
    assert left == []


def _runs_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, FileNotFoundError):
        return False


def test_it_ends_by_itself_with_every_transaction_predicted(folder: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--seconds", "4"], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    sent, received = re.findall(r"([\d,]+) transactions sent, ([\d,]+) predictions received", done.stdout)[0]
    assert sent == received
    assert int(sent.replace(",", "")) >= 1500
    assert re.search(r"latency p50 [\d.]+ ms, p99 [\d.]+ ms", done.stdout)
    assert re.search(r"first prediction [\d.]+ s after the start", done.stdout)


def test_ctrl_c_ends_it_broker_and_worker_included(folder: Path) -> None:
    with subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("events/s"):
                break
        demo.send_signal(signal.SIGINT)
        rest, errors = demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 0, errors
    assert "predictions received" in rest
    assert "Traceback" not in errors
