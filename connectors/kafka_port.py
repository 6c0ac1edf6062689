"""Ports of 127.0.0.1: whether one is free, who listens on it, whether Kafka answers there. Linux: it reads /proc."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"

_METADATA, _METADATA_VERSION, _CORRELATION_ID = 3, 1, 7
_LISTEN = "0A"  # the state column of /proc/net/tcp


def port_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: a closing connection is no obstacle
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_owner(port: int) -> str:
    """Who listens on `port`, as `pid 12 (python3)`; empty where that cannot be seen."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                return f"pid {process.name} ({(process / 'comm').read_text().strip()})"
    return ""


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    yield f"socket:[{fields[9]}]"


def answers_metadata(port: int, timeout_s: float = 1.0) -> bool:
    """Whether a Kafka broker at 127.0.0.1:`port` answers a metadata request and names at least one live broker."""
    # Header (api key, version, correlation id, null client id), then an empty array: brokers only, no topics.
    request = struct.pack(">hhihi", _METADATA, _METADATA_VERSION, _CORRELATION_ID, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            if not 8 <= size <= 1 << 20:
                return False
            correlation_id, brokers = struct.unpack_from(">ii", _read(connection, size))
    except OSError:
        return False
    return bool(correlation_id == _CORRELATION_ID and brokers > 0)


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionError("connection closed")
        received += part
    return received
