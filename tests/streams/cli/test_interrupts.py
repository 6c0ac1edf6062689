"""Ctrl-C at every moment of a start: the program ends at once, and a command that has begun ends in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectors.kafka_port import free_port
from tests.conftest import JARS, Kafka
from tests.processes import ROOT
from tests.streams.cli.conftest import Run

START_S, END_S = 30.0, 10.0
MOMENTS_S = [number * 0.06 for number in range(14)]
SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    print("swallowed")
"""


def _start(*command: str, servers: str = "127.0.0.1:1", folder: Path | None = None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= {"HEADRACE_KAFKA__BOOTSTRAP_SERVERS": servers, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        cwd=folder,
    )  # fmt: skip


def _catches(process: subprocess.Popen[str]) -> bool:
    """Whether Python has a handler for SIGINT there: its own, from its first milliseconds on, or a command's."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (signal.SIGINT - 1) & 1)


def _until_the_program_begins(process: subprocess.Popen[str]) -> None:
    """Python's own start, in which an interrupt is a traceback whatever the program does, is over."""
    deadline = time.monotonic() + START_S
    while not _catches(process) and time.monotonic() < deadline:
        time.sleep(0.0005)
    while _catches(process) and time.monotonic() < deadline:
        time.sleep(0.0005)
    assert not _catches(process)


@pytest.mark.parametrize("command", ["worker vision --http-port 0", "topics lag --watch"])
def test_a_start_is_ended_at_any_moment(command: str, kafka: Kafka) -> None:
    for moment_s in MOMENTS_S:
        with _start("-m", "streams.cli", *command.split(), servers=kafka.bootstrap_servers) as process:
            _until_the_program_begins(process)
            time.sleep(moment_s)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=END_S)[0]
            assert "Traceback" not in said, (moment_s, said)
            assert process.returncode in (-signal.SIGINT, 0, 1), (moment_s, said)
            assert process.returncode == -signal.SIGINT or moment_s > 0, said


def test_a_worker_ends_in_order_from_its_event_loop_on(kafka: Kafka, headrace: Run) -> None:
    headrace("topics", "create", "fraud")
    arguments = ("worker", "fraud", "--http-port", "0", "--group", "interrupted")
    with _start("-m", "streams.cli", *arguments, servers=kafka.bootstrap_servers) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("metrics and health on" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in "".join(lines)
        assert process.wait(END_S) == 0


def test_the_script_is_the_program_that_python_runs() -> None:
    with _start("-c", "from streams.cli.__main__ import main; main()", "topics", "lag") as process:
        _until_the_program_begins(process)
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=END_S)[0], process.returncode) == ("", -signal.SIGINT)


def test_a_module_that_swallows_interrupts_swallows_none(tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    begin = "import sys; sys.path.insert(0, '.'); from streams.cli import interrupts; interrupts."
    for handler, code, said in (("leave_to_asyncio", 0, "swallowed\n"), ("raise_outside_imports", -signal.SIGINT, "")):
        with _start("-c", f"{begin}{handler}(); import swallows", folder=tmp_path) as process:
            assert (process.communicate(timeout=END_S)[0], process.returncode) == (said, code)


def test_where_interrupts_are_ignored_they_stay_so() -> None:
    begin = "from streams.cli import interrupts; interrupts.end_at_once(); interrupts.raise_outside_imports(); "
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('goes on')"
    with _start("-c", f"import signal; signal.signal(2, signal.SIG_IGN); {begin}{kill}") as process:
        assert process.communicate(timeout=END_S)[0] == "goes on\n"


def test_what_a_command_has_started_is_stopped(tmp_path: Path) -> None:
    home = tmp_path / "kafka"
    home.mkdir()
    (home / "jars").symlink_to(JARS.resolve())
    command = ("broker", "start", "--foreground", "--home", str(home), "--port", str(free_port()))
    with _start("-m", "streams.cli", *command) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("press Ctrl-C" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert "broker stopped" in "".join(lines)
        assert process.wait(END_S) == 0
