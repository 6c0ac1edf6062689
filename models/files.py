"""Reading a file that somebody else may have put there: regular, no link, no larger than expected."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from models.engine import ModelCorrupt

NOT_SERVED = "the model is not served"


def read(path: Path, limit_bytes: int, *, then: str = NOT_SERVED, through_links: bool = False) -> bytes:
    """All bytes of a regular file.

    What is looked at is what is read: the file is opened once, so nothing can be put in its place between the two.

    Args:
        limit_bytes: the most that it may hold.
        then: the end of an error's sentence, what happens now.
        through_links: whether `path` itself may be a link; a repository's files may not.

    Raises: ModelCorrupt.
    """
    try:
        # Not blocking: opening a named pipe would wait for whoever writes into it.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if through_links else os.O_NOFOLLOW)
        with os.fdopen(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ModelCorrupt(f"reading {path}: expected a file, got {kind(found.st_mode)}; {then}")
            if found.st_size > limit_bytes:
                raise ModelCorrupt(f"reading {path}: expected at most {limit_bytes} bytes, got {found.st_size}; {then}")
            return file.read(limit_bytes)
    except OSError as error:
        what = "expected a file, got a link" if path.is_symlink() and not through_links else error.strerror or error
        raise ModelCorrupt(f"reading {path}: {what}; {then}") from error


def kind(mode: int) -> str:
    """What a file's mode says that it is, for an error."""
    if stat.S_ISREG(mode):
        return "a file"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a link" if stat.S_ISLNK(mode) else "a device or a pipe"
