"""`headrace demo` as a newcomer runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
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


def test_it_ends_by_itself_with_every_transaction_predicted_and_every_frame_accounted_for(folder: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--seconds", "8"], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    sent, received = re.findall(r"([\d,]+) transactions sent, ([\d,]+) predictions received", done.stdout)[0]
    assert sent == received
    assert int(sent.replace(",", "")) >= 3000
    counts = r"(\d+) frames of 4 cameras sent, (\d+) looked at, (\d+) left out to keep up\n"
    frames, answered, dropped = map(int, re.findall(counts, done.stdout)[0])
    assert frames == answered + dropped
    assert answered >= 20
    appeared, alerts = map(int, re.findall(r"(\d+) objects appeared, .* (\d+) zone alerts", done.stdout)[0])
    assert appeared > 0
    assert alerts > 0
    assert len(re.findall(r"latency p50 [\d.]+ ms, p99 [\d.]+ ms", done.stdout)) == 2
    assert len(re.findall(r"first prediction [\d.]+ s after the start", done.stdout)) == 2


def test_ctrl_c_ends_it_broker_and_workers_included_and_until_then_its_page_shows_the_cameras(folder: Path) -> None:
    with subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        url = ""
        flowing: set[str] = set()
        for line in demo.stdout:
            if line.startswith("the cameras in a browser: "):
                url = line.split()[-1]
            flowing.update(name for name in ("events/s", "frames/s") if line.startswith(name))
            if len(flowing) == 2:
                break
        with urllib.request.urlopen(f"{url}cameras/camera-1.jpg", timeout=LIMIT_S) as response:
            assert response.read(2) == b"\xff\xd8"
        demo.send_signal(signal.SIGINT)
        rest, errors = demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 0, errors
    assert "predictions received" in rest
    assert "frames of 4 cameras sent" in rest
    assert "Traceback" not in errors
