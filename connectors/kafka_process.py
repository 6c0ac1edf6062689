"""Processes and locks of one machine, as the embedded broker needs them. Linux: it reads /proc."""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from connectors.kafka_errors import HomeBusyError, HomeNotWritableError

LOCK_TIMEOUT_S = 300.0
POLL_S = 0.05


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for ever: a pid alone is given to another program once its process has ended.

    `start_ticks` is the start time in clock ticks since the boot named by `boot_id`.
    """

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of a running process; None where there is none, or only its unreaped remains."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold spaces and parentheses
        if fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), _boot_id())

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessIdentity.of(self.pid) == self

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait until the process has ended; False where it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def bind_to_this_process(target: ProcessIdentity) -> subprocess.Popen[bytes]:
    """Start a guard that ends `target` when this process ends, however that happens.

    The guard waits on a pipe that only this process holds open, so that even a SIGKILL is noticed; unlike the kernel's
    parent-death signal it does not fire when merely the starting thread ends. Release it with `release`.
    """
    script = (
        'IFS= read -r word; [ "$word" = released ] && exit 0; '
        '[ "$(cut -d" " -f22 "/proc/$1/stat" 2>/dev/null)" = "$2" ] && kill -TERM "$1"'
    )
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "headrace-broker-guard", str(target.pid), str(target.start_ticks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def release(guard: subprocess.Popen[bytes]) -> None:
    """End the guard and leave its target alone."""
    with suppress(BrokenPipeError):
        guard.communicate(b"released\n", timeout=10)


@contextmanager
def folder_lock(
    folder: Path, doing: str, progress: Callable[[str], None], timeout_s: float = LOCK_TIMEOUT_S
) -> Iterator[None]:
    """Hold `folder` for one process; a second one waits.

    The kernel releases the lock when its holder ends, so none is ever stale.

    Raises:
        HomeBusyError: the lock was not free within `timeout_s`.
        HomeNotWritableError: the lock file cannot be made.
    """
    path = folder / ".lock"
    try:
        file = path.open("a")
    except OSError as error:
        raise HomeNotWritableError(f"cannot write to the folder {str(folder)!r}: {error.strerror}") from error
    with file:
        deadline = time.monotonic() + timeout_s
        waiting = False
        while not _try_lock(file.fileno()):
            if not waiting:
                progress(f"waiting for another process that holds {str(folder)!r}")
                waiting = True
            if time.monotonic() >= deadline:
                raise HomeBusyError(f"{doing}: another process has held {str(path)!r} for {timeout_s:g} s; end it")
            time.sleep(POLL_S)
        yield


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
