"""A disk that can be made full: a file system in memory, for who may mount one."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

SPARE_PAGES = 20
LARGE = "3g"  # an upper limit: it takes what is written to it


class SmallDisk:
    """A tmpfs on a folder.

    Raises:
        OSError: it cannot be mounted here.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if os.geteuid() != 0:
            raise PermissionError("mounting a tmpfs needs root")
        self._run("mount", "-t", "tmpfs", "-o", f"size={LARGE}", "chaos", str(folder))

    def fill(self) -> None:
        """From now on hardly a page can be written."""
        for spare_pages in range(SPARE_PAGES):
            stat = os.statvfs(self.folder)
            # It cannot be smaller than what it holds, and somebody may have written meanwhile.
            with suppress(OSError):
                return self._resize(str((stat.f_blocks - stat.f_bfree + spare_pages) * stat.f_frsize))
        raise OSError(f"filling {str(self.folder)!r}: it grows faster than it can be filled")

    def free(self) -> None:
        """There is room again."""
        self._resize(LARGE)

    def unmount(self) -> None:
        """Nothing of it is left."""
        self._run("umount", str(self.folder))

    def _resize(self, size: str) -> None:
        self._run("mount", "-o", f"remount,size={size}", str(self.folder))

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode != 0:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
