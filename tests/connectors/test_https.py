"""Fetching a file over https, from a server on this machine."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.https import DownloadError, check_address, fetch
from tests.https_server import Answer, Server, https_server

BODY = bytes(range(256)) * 20_000  # some blocks
SHA256 = hashlib.sha256(BODY).hexdigest()
LIMIT = 10_000_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with https_server(tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(running.certificate))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running.answers = {"/net.onnx": Answer(BODY)}
    running.asked = []
    return running


def quiet(done: int, total: int | None) -> None:
    pass


def refusal(url: str, target: Path, sha256: str = SHA256, limit_bytes: int = LIMIT) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch(url, target, sha256, limit_bytes, quiet)
    assert not target.exists()
    return str(caught.value)


def test_a_file_comes_whole_and_says_how_far_it_is(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetch(f"{server.address}/net.onnx?token=1", tmp_path / "net", SHA256, LIMIT, lambda *now: seen.append(now))
    assert (tmp_path / "net").read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert len(seen) > 1
    assert server.asked == ["/net.onnx?token=1"]


def test_without_a_stated_length_it_comes_as_well(server: Server, tmp_path: Path) -> None:
    server.answers["/net.onnx"] = Answer(BODY, length=-1)
    fetch(f"{server.address}/net.onnx", tmp_path / "net", SHA256, len(BODY), quiet)
    assert (tmp_path / "net").read_bytes() == BODY


def test_another_file_than_the_promised_one_is_not_kept(server: Server, tmp_path: Path) -> None:
    message = refusal(f"{server.address}/net.onnx?token=secret", tmp_path / "net", "0" * 64)
    assert f"expected sha256 {'0' * 64}, got {SHA256}; nothing of it was kept" in message
    assert "secret" not in message


@pytest.mark.parametrize("length", [None, -1])
def test_more_than_allowed_is_not_kept(server: Server, tmp_path: Path, length: int | None) -> None:
    server.answers["/net.onnx"] = Answer(BODY, length=length)
    assert "expected at most 1000000 bytes, got" in refusal(
        f"{server.address}/net.onnx", tmp_path / "net", limit_bytes=1_000_000
    )


def test_a_file_that_ends_early_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.answers["/net.onnx"] = Answer(BODY, length=len(BODY) + 5)
    assert f"it ended after {len(BODY)} of {len(BODY) + 5} bytes" in refusal(
        f"{server.address}/net.onnx", tmp_path / "net"
    )


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_the_server_refuses_is_said(server: Server, tmp_path: Path, status: int) -> None:
    server.answers["/net.onnx"] = Answer(b"<html>", status=status)
    assert f"the server answered {status} " in refusal(f"{server.address}/net.onnx", tmp_path / "net")


def test_redirections_to_https_are_followed(server: Server, tmp_path: Path) -> None:
    server.answers["/old"] = Answer(status=302, location="/older")
    server.answers["/older"] = Answer(status=308, location=f"{server.address}/net.onnx")
    fetch(f"{server.address}/old", tmp_path / "net", SHA256, LIMIT, quiet)
    assert (tmp_path / "net").read_bytes() == BODY
    assert server.asked == ["/old", "/older", "/net.onnx"]


def test_redirections_to_plain_http_are_not(server: Server, tmp_path: Path) -> None:
    with https_server(tmp_path, encrypted=False) as plain:
        plain.answers["/net.onnx"] = Answer(BODY)
        server.answers["/old"] = Answer(status=302, location=f"{plain.address}/net.onnx")
        assert "begins with https://: the server redirects to it" in refusal(f"{server.address}/old", tmp_path / "net")
        assert plain.asked == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "https://me:secret@127.0.0.1/x", "data:,x"]
)
def test_redirections_elsewhere_are_not(server: Server, tmp_path: Path, location: str) -> None:
    server.answers["/old"] = Answer(status=302, location=location)
    refusal(f"{server.address}/old", tmp_path / "net")
    assert server.asked == ["/old"]


def test_redirections_without_end_are_not_followed_for_ever(server: Server, tmp_path: Path) -> None:
    server.answers["/loop"] = Answer(status=302, location="/loop")
    assert "the server answered 302" in refusal(f"{server.address}/loop", tmp_path / "net")
    assert len(server.asked) < 10


def test_a_certificate_that_is_not_trusted_ends_it(
    running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running.asked = []
    assert "the server's certificate is not trusted" in refusal(f"{running.address}/net.onnx", tmp_path / "net")
    assert running.asked == []


def test_nobody_there_is_a_sentence(server: Server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "Connection refused" in refusal(f"https://127.0.0.1:{port}/x", tmp_path / "net")


def test_what_is_there_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net").write_text("mine")
    with pytest.raises(DownloadError, match="File exists"):
        fetch(f"{server.address}/net.onnx", tmp_path / "net", SHA256, LIMIT, quiet)
    assert (tmp_path / "net").read_text() == "mine"


@pytest.mark.parametrize(
    "url",
    ["http://example.com/x", "file:///etc/passwd", "https://", "https:///x", "https://[::1/x", "https://h:port/x", "x"],
)
def test_only_https_addresses_are_addresses(url: str) -> None:
    with pytest.raises(DownloadError, match="fetching"):
        check_address(url)


def test_an_address_is_kept_without_what_may_be_secret() -> None:
    assert check_address("https://Example.com:8443/a/b.onnx?token=x#y") == "https://example.com:8443/a/b.onnx"
    with pytest.raises(DownloadError, match="without user and password") as caught:
        check_address("https://me:secret@example.com/x")
    assert "secret" not in str(caught.value)
