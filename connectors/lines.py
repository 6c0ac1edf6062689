"""Lines of plain and gzipped files, with their numbers, under a limit on their length."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from connectors.columns import FileError


class BadRows:
    """What happens to a row that cannot be read: `stop` raises FileError, `skip` counts it and goes on.

    `count` is the number of rows skipped, `first` says what was wrong with the one that stands first.
    """

    def __init__(self, path: Path, unit: Literal["line", "row"], policy: Literal["stop", "skip"]) -> None:
        self._path, self._unit, self._policy = path, unit, policy
        self.count = 0
        self.first: str | None = None
        self._first_number = 0

    def add(self, number: int, reason: str) -> None:
        """Report the row with this number as bad."""
        message = f"reading {self._path}, {self._unit} {number}: {reason}"
        if self._policy == "stop":
            raise FileError(f"{message}; mend the file, or have bad rows skipped")
        self.count += 1
        if self.first is None or number < self._first_number:  # cells are looked at after the shapes of their rows
            self.first, self._first_number = message, number


class Lines:
    """The lines of a file, terminators included; one whose name ends in `.gz` is decompressed on the way.

    `number` is the number of the line given out last, from 1; a longer line than `max_line_bytes` is a bad row and
    never held in memory as a whole. A byte order mark is the file's, not the first line's, and is left out.

    Raises:
        FileError: While iterating, when the file cannot be read on, its gzip data are damaged or end early, or it is
            UTF-16, as spreadsheets save "Unicode text".
    """

    def __init__(self, path: Path, max_line_bytes: int, bad_rows: BadRows) -> None:
        self._path, self._max_line_bytes, self._bad_rows = path, max_line_bytes, bad_rows
        self._raw = path.open("rb")
        packed = path.suffix.lower() == ".gz"
        self._file: io.BufferedIOBase = io.BufferedReader(gzip.GzipFile(fileobj=self._raw)) if packed else self._raw
        self.number = 0

    @property
    def bytes_read(self) -> int:
        """How many bytes of the file on the disk have been read."""
        return self._raw.tell()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __iter__(self) -> Iterator[bytes]:
        limit = self._max_line_bytes
        while line := self._read():
            self.number += 1
            if self.number == 1:
                line = self._without_mark(line)
            if len(line) > limit:
                self._pass_over(line)
                self._bad_rows.add(self.number, f"expected at most {limit} bytes in a line, got more")
            else:
                yield line

    def _without_mark(self, line: bytes) -> bytes:
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise FileError(f"reading {self._path}: expected UTF-8, got UTF-16; save the file as UTF-8")
        return line.removeprefix(codecs.BOM_UTF8)

    def _pass_over(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._read()

    def _read(self) -> bytes:
        try:
            return self._file.readline(self._max_line_bytes + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileError(
                f"reading {self._path} after line {self.number}: its gzip data are damaged or end early ({error}); "
                "fetch or compress the file again"
            ) from error
        except OSError as error:
            raise FileError(f"reading {self._path} after line {self.number}: {error.strerror or error}") from error
