"""A small https server on this machine with a certificate made for the occasion."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class Answer:
    """What the server says to one path; `length` is the Content-Length that it states."""

    body: bytes = b""
    status: int = 200
    location: str = ""
    length: int | None = None


@dataclass
class Server:
    """Answers by path, and which paths were asked for; `certificate` is what a client must trust."""

    address: str
    certificate: Path
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def https_server(folder: Path, *, encrypted: bool = True) -> Iterator[Server]:
    """Serve until the end of the block. Skips the test where there is no `openssl` to make a certificate."""
    certificate, key = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    http = _Quiet(("127.0.0.1", 0), _Handler)
    if encrypted:
        http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "https" if encrypted else "http"
    server = Server(f"{scheme}://127.0.0.1:{http.server_port}", certificate)
    http.known = server  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server.known  # type: ignore[attr-defined]
        server.asked.append(self.path)
        answer = server.answers.get(self.path.partition("?")[0], Answer(status=404))
        self.send_response(answer.status)
        if answer.location:
            self.send_header("Location", answer.location)
        if answer.length != -1:
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _certificate(folder: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=headrace-test "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    return certificate, key
