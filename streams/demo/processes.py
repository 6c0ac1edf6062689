"""The processes that a demo starts, and how they end with it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from connectors.kafka_port import free_port
from streams.demo.home import HOME
from streams.errors import HeadraceError
from streams.settings import CONFIG_VARIABLE, PREFIX

POLL_S = 0.1
READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0


@asynccontextmanager
async def python(
    *arguments: str, log: Path, environment: Mapping[str, str] | None = None, piped: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process of the demo's own, which ends with the context.

    Args:
        log: where it writes what it says.
        piped: whether its standard output is for the demo instead.
    """
    # The user's own settings must not reach it: it belongs to the demo's broker.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", *arguments),
            env=inherited | dict(environment or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if piped else said,
            stderr=said,
            # A session of its own: Ctrl-C in the terminal must reach the demo, which ends the others in order.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def last_words(log: Path) -> str:
    """The last line of a log, for people."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'it said nothing'} (its log: {log})"


class WorkerProcess:
    """A worker of one pipeline; it runs while the context is open.

    Args:
        config: its settings.
        tell: called with one sentence a step while it starts and ends.
    """

    def __init__(self, pipeline: str, config: Path, tell: Callable[[str], None]) -> None:
        self._pipeline, self._config, self._tell = pipeline, config, tell
        self._port = free_port()
        self._log = HOME / f"{pipeline}-worker.log"

    async def __aenter__(self) -> WorkerProcess:
        self._tell(f"starting a {self._pipeline} worker")
        command = "-m", "streams.cli", "worker", self._pipeline
        options = "--group", group(self._pipeline), "--http-port", str(self._port)
        environment = {CONFIG_VARIABLE: str(self._config)}
        self._opened = python(*command, *options, log=self._log, environment=environment)
        self._process = await self._opened.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._tell(f"stopping the {self._pipeline} worker")
        await self._opened.__aexit__(*error)

    async def until_ready(self, stop: asyncio.Event) -> None:
        """Until it has its partitions: events sent earlier would measure its start, not its latency.

        Raises:
            HeadraceError: it ended by itself, or takes too long.
        """
        deadline = time.perf_counter() + READY_TIMEOUT_S
        told = ""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self._port}") as session:
            while not stop.is_set():
                if self._process.returncode is not None:
                    raise self._ended()
                if time.perf_counter() > deadline:
                    raise HeadraceError(
                        f"the {self._pipeline} worker is not ready after {READY_TIMEOUT_S:.0f} s; its log: {self._log}"
                    )
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get("/health/ready") as response:
                        body = await response.json()
                    if body["ready"]:
                        return
                    said = f"{self._pipeline} worker: {body['phase']}, {body['reason']}"
                    if said != told:
                        self._tell(told := said)
                await asyncio.sleep(POLL_S)

    async def during(self, work: Coroutine[Any, Any, None], *endless: Coroutine[Any, Any, None]) -> None:
        """Do some work, and beside it what never ends, while the worker runs.

        Raises:
            HeadraceError: the worker ended by itself. What the others raise.
        """
        tasks = [asyncio.create_task(each) for each in (work, self._until_ended(), *endless)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_ended(self) -> None:
        await self._process.wait()
        raise self._ended()

    def _ended(self) -> HeadraceError:
        return HeadraceError(
            f"the {self._pipeline} worker ended with exit code {self._process.returncode}: {last_words(self._log)}"
        )


def group(pipeline: str) -> str:
    """The consumer group of the demo's worker."""
    return f"headrace-demo-{pipeline}"
