"""Child processes of a benchmark: started in groups of their own, always stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

ROOT = Path(__file__).resolve().parents[1]  # where `python -m benchmarks...` is found
TAIL_LINES = 15
STOP_LIMIT_S = 10.0


class ChildError(Exception):
    """A child failed; the message says how and ends with the last lines of its stderr."""


class Child:
    """A Python child process in a process group of its own, so that whatever it starts is stopped with it.

    Ctrl-C on the terminal does not reach it: the parent stops it, in its own `finally`.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        piped_input: bool = False,
        scratch: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop(); a pipe could fill up
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**(os.environ if environment is None else environment), **_temporary(scratch)},
            stdin=subprocess.PIPE if piped_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """All that it has written to stderr so far."""
        size = os.fstat(self._stderr.fileno()).st_size
        # At an offset: the child writes where this very file stands, and to seek would move it.
        return os.pread(self._stderr.fileno(), size, 0).decode(errors="replace")

    def finish(self, limit_s: float) -> str:
        """Wait for the end and return its stdout.

        Raises:
            ChildError: it ended with another code than 0, or not within the limit.
        """
        try:
            output, _ = self._process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise self.failure(f"did not end within {limit_s:.0f} s") from None
        if self._process.returncode != 0:
            raise self.failure(f"ended with code {self._process.returncode}")
        return output

    def ask(self, line: str) -> None:
        """Write a line to its stdin."""
        _pipe(self._process.stdin).write(line + "\n")
        _pipe(self._process.stdin).flush()

    def answer(self) -> str:
        """Read a line from its stdout.

        Raises:
            ChildError: it ended instead.
        """
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise self.failure("ended without an answer")
        return line

    def failure(self, what: str) -> ChildError:
        """Return the error that says what happened to this child, with the tail of its stderr."""
        lines = self.said.splitlines()[-TAIL_LINES:]
        return ChildError("\n  ".join([f"{self.name} {what}", *lines]))

    def stop(self) -> None:
        """End it and its children: SIGTERM, then SIGKILL after a limit. May be called at any time, again too."""
        if self.running:
            self._signal_group(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT_S)
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def signal(self, number: int) -> None:
        """Send it a signal, and nothing to its children; one that has ended gets none."""
        self._process.send_signal(number)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextlib.contextmanager
def started(
    name: str, arguments: Sequence[str], *, piped_input: bool = False, scratch: Path | None = None
) -> Iterator[Child]:
    """Start a child and stop it at the end of the block, however that ends.

    Args:
        name: in errors.
        arguments: of the Python interpreter.
        piped_input: whether `ask` will be used.
        scratch: where its temporary files go, so that whoever kills it can delete them.
    """
    child = Child(name, arguments, piped_input=piped_input, scratch=scratch)
    try:
        yield child
    finally:
        child.stop()


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit inside the block, so that children, topics and broker are cleaned up then too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _temporary(scratch: Path | None) -> dict[str, str]:
    return {} if scratch is None else {"TMPDIR": str(scratch)}


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("talking to a child process: it was started without that pipe")
    return stream
