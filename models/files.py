"""Files: reading what somebody else may have put there, and writing what readers see whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from models.engine import ModelCorrupt

NOT_SERVED = "the model is not served"


def read(path: Path, limit_bytes: int, *, then: str = NOT_SERVED, through_links: bool = False) -> bytes:
    """All bytes of a regular file; arguments and errors as `opened`."""
    with opened(path, limit_bytes, then=then, through_links=through_links) as file:
        return file.read(limit_bytes)


@contextmanager
def opened(path: Path, limit_bytes: int, *, then: str = NOT_SERVED, through_links: bool = False) -> Iterator[BinaryIO]:
    """A regular file to read from, closed at the end.

    Args:
        limit_bytes: the most that it may hold.
        then: the end of an error's sentence, what happens now.
        through_links: whether `path` itself may be a link; a repository's files may not.

    Raises: ModelCorrupt, also where reading it fails.
    """
    try:
        with open_regular(path, through_links=through_links) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit_bytes:
                raise ModelCorrupt(f"reading {path}: expected at most {limit_bytes} bytes, got {size}; {then}")
            yield file
    except OSError as error:
        raise ModelCorrupt(f"reading {path}: {error.strerror or error}; {then}") from error


def open_regular(path: Path, *, through_links: bool) -> BinaryIO:
    """Open a file to read it, and nothing else: what is opened is looked at, so nothing can take its place between.

    Raises: OSError, whose strerror says what it is instead.
    """
    # Not blocking: opening a named pipe would wait for whoever writes into it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if through_links else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink() and not through_links:
            error.strerror = "expected a file, got a link"
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise OSError(errno.EINVAL, f"expected a file, got {kind(mode)}")
    return os.fdopen(handle, "rb")


def kind(mode: int) -> str:
    """What a file's mode says that it is, for an error."""
    if stat.S_ISREG(mode):
        return "a file"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a link" if stat.S_ISLNK(mode) else "a device or a pipe"


def write_atomically(path: Path, *parts: bytes, private: bool = False) -> None:
    """Put a file in place: readers see the old one or the whole new one, and so they do after a power cut.

    Several may write at once: the file of the last one stays. A write that fails leaves the old file, and nothing else.

    Args:
        path: in a folder that is there.
        parts: the contents, one after the other.
        private: whether only the owner may read it.

    Raises: OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_new(temporary, *parts, private=private)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_new(path: Path, *parts: bytes, private: bool = False) -> None:
    """Write a file that is not there yet, and return when it is on the disk.

    Raises: OSError, e.g. FileExistsError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600 if private else 0o666), "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())  # a name must not outlive a power cut that its contents do not
