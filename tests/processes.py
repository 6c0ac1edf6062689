"""Worker processes for tests: started as a user starts them, watched through their log and their HTTP port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

ROOT = Path(__file__).parent.parent
START_S = 30.0
STARTED = re.compile(r"metrics and health on http://[\d.]+:(\d+)")
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


class WorkerProcess:
    """One worker in a process of its own; its output goes to `log`."""

    def __init__(self, arguments: list[str], settings: Mapping[str, object], log: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        environment |= {f"HEADRACE_{name.upper()}": str(value) for name, value in settings.items()}
        environment["PYTHONPATH"] = str(ROOT)
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], stdout=output, stderr=output, env=environment, cwd=log.parent
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        """Everything that it has printed so far."""
        return self.log.read_text(errors="replace")

    def said(self, pattern: str, within_s: float = START_S) -> re.Match[str]:
        """Wait for a line of its log."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output())
            if found is None and not self.alive:
                found = re.search(pattern, self.output())
                assert found, f"the worker ended with {self.process.returncode} before {pattern!r}:\n{self.output()}"
            return found

        return until(look, within_s, f"{pattern!r} in the worker's log")

    def started(self) -> WorkerProcess:
        """Wait until its HTTP port answers; Kafka comes after that."""
        self.said(STARTED.pattern)
        return self

    @property
    def listening(self) -> bool:
        """Whether its HTTP port has answered by now."""
        return STARTED.search(self.output()) is not None

    def running(self, within_s: float = START_S) -> WorkerProcess:
        """Wait until it is ready."""
        self.started()
        until(lambda: self.ready()[0] == 200, within_s, "readiness")
        return self

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of an HTTP request to it."""
        url = f"http://127.0.0.1:{self.said(STARTED.pattern)[1]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def ready(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `/health/ready`."""
        status, body = self.get("/health/ready")
        return status, json.loads(body)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return self.metrics(name, **labels)[0]

    def metrics(self, *names: str, **labels: str) -> list[float]:
        """The same of several metrics at one moment."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        sums = dict.fromkeys(names, 0.0)
        for found, got, value in SAMPLE.findall(self.get("/metrics")[1].decode()):
            if found in sums and wanted <= set((got or "").split(",")):
                sums[found] += float(value)
        return list(sums.values())

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait()

    def suspend(self) -> None:
        """SIGSTOP: it holds everything and does nothing, like a machine that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after `suspend`."""
        self.process.send_signal(signal.SIGCONT)

    def oddity(self) -> str | None:
        """What is wrong with how it has ended by itself: not with an error in one line; None where nothing is."""
        said, code = self.output(), self.process.returncode
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if code == 1 and "Traceback" not in said and errors == said.splitlines()[-1:]:
            return None
        return f"a worker has ended with {code}, expected 1 and one line of `error: `:\n{said[-2000:]}"

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self, within_s: float = 15.0) -> int:
        """SIGTERM, and wait for the orderly end; returns the exit code."""
        self.terminate()
        return self.ended(within_s)

    def ended(self, within_s: float) -> int:
        """Wait until it ends by itself; returns the exit code."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker has not ended within {within_s:g} s:\n{self.output()[-2000:]}") from None


class Workers:
    """Starts workers of one test and ends them with it."""

    def __init__(self, folder: Path, servers: str | None) -> None:
        self._folder, self._servers = folder, servers
        self._all: list[WorkerProcess] = []

    def fraud(self, group: str, *options: str, servers: str | None = None, **settings: object) -> WorkerProcess:
        """`headrace worker fraud`; settings as `fraud__input="…"`."""
        return self._command("fraud", group, options, servers, settings)

    def labels(self, group: str, *options: str, servers: str | None = None, **settings: object) -> WorkerProcess:
        """`headrace worker labels`; settings as `labels__input="…"`."""
        return self._command("labels", group, options, servers, settings)

    def vision(self, group: str, *options: str, servers: str | None = None, **settings: object) -> WorkerProcess:
        """`headrace worker vision`; settings as `vision__input="…"`."""
        return self._command("vision", group, options, servers, settings)

    def counting(
        self, group: str, script: Mapping[str, object], servers: str | None = None, **settings: object
    ) -> WorkerProcess:
        """A worker of the counting pipeline; `script` is what tests/integration/counting_worker.py takes."""
        arguments = ["-m", "tests.integration.counting_worker", json.dumps(script)]
        return self._start(arguments, servers, {"worker__http_port": 0, "worker__group": group, **settings})

    def _command(
        self, pipeline: str, group: str, options: Sequence[str], servers: str | None, settings: Mapping[str, object]
    ) -> WorkerProcess:
        arguments = ["-m", "streams.cli", "worker", pipeline, "--group", group, *options]
        return self._start(arguments, servers, {"worker__http_port": 0, **settings})

    def _start(self, arguments: list[str], servers: str | None, settings: Mapping[str, object]) -> WorkerProcess:
        settings = {"kafka__bootstrap_servers": servers or self._servers, **settings}
        worker = WorkerProcess(arguments, settings, self._folder / f"worker-{len(self._all)}.log")
        self._all.append(worker)
        return worker

    def end(self) -> None:
        """Kill what still runs, and show what each has said last (pytest prints it for a failed test only)."""
        for number, worker in enumerate(self._all):
            if worker.alive:
                worker.kill()
            sys.stdout.write(f"--- worker {number}, exit {worker.process.returncode}\n{worker.output()[-4000:]}\n")


@pytest.fixture
def workers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Workers on the session's broker, or on the one that a call names."""
    servers = request.getfixturevalue("kafka").bootstrap_servers if "kafka" in request.fixturenames else None
    started = Workers(tmp_path, servers)
    yield started
    started.end()
