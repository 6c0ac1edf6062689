"""A file from an https address: bounded, encrypted all the way, and only with the sha256 that was promised."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from connectors.contract import ConnectorError

TIMEOUT_S = 30.0  # without a byte
BLOCK_BYTES = 1 << 20

Progress = Callable[[int, int | None], None]
"""Bytes so far, and how many there will be where the server says so."""


class DownloadError(ConnectorError):
    """A file could not be fetched, or is not the one that was promised."""


def check_address(url: str) -> str:
    """What may be fetched: https, a host, no user and password in it; returned without its query, fit to be kept.

    Raises: DownloadError.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DownloadError(f"fetching {url!r}: {error}") from None
    if parts.scheme != "https" or not host:
        raise DownloadError(f"fetching {url!r}: expected an address that begins with https://")
    if parts.username is not None or parts.password is not None:
        raise DownloadError(f"fetching from {host}: expected an address without user and password")
    return urllib.parse.urlunsplit(("https", host if port is None else f"{host}:{port}", parts.path, "", ""))


def fetch(url: str, target: Path, sha256: str, limit_bytes: int, on_progress: Progress) -> None:
    """Write what `url` leads to into `target`, a new file; there is none where anything is amiss.

    Redirections are followed to https addresses only. Certificates are verified against the system's, or those that
    SSL_CERT_FILE names. The environment's proxies are used.

    Raises: DownloadError.
    """
    address = check_address(url)
    request = urllib.request.Request(url, headers={"User-Agent": "headrace"})
    try:
        file = target.open("xb")
    except OSError as error:
        raise DownloadError(f"fetching {address} into {target}: {_reason(error)}") from error
    try:
        with file, _opener().open(request, timeout=TIMEOUT_S) as answer:
            _copy(answer, file, address, sha256, limit_bytes, on_progress)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            raise DownloadError(f"fetching {address}: the server answered {error.code} {error.reason}") from None
        if isinstance(error, urllib.error.URLError):
            raise DownloadError(f"fetching {address}: {_reason(error.reason)}") from None
        if isinstance(error, (OSError, http.client.HTTPException, ValueError)):
            raise DownloadError(f"fetching {address}: {_reason(error)}") from error
        raise


def _copy(answer: Any, file: BinaryIO, address: str, sha256: str, limit_bytes: int, on_progress: Progress) -> None:
    """Raises: DownloadError where it is too large, too short, or something else."""
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isascii() and length.isdigit() else None
    digest, done = hashlib.sha256(), 0
    while True:
        if max(done, total or 0) > limit_bytes:
            raise DownloadError(
                f"fetching {address}: expected at most {limit_bytes} bytes, got {max(done, total or 0)}; "
                "nothing of it was kept"
            )
        block = answer.read(BLOCK_BYTES)
        if not block:
            break
        file.write(block)
        digest.update(block)
        done += len(block)
        on_progress(done, total)
    if total is not None and done < total:
        raise DownloadError(f"fetching {address}: it ended after {done} of {total} bytes; nothing of it was kept")
    if digest.hexdigest() != sha256:
        raise DownloadError(
            f"fetching {address}: expected sha256 {sha256}, got {digest.hexdigest()}; nothing of it was kept"
        )


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        try:
            check_address(newurl)
        except DownloadError as error:
            fp.close()
            raise DownloadError(f"{error}: the server redirects to it from {req.host}") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Only what https needs: the usual opener would also open files and plain http."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _HttpsOnly(),
    ):
        opener.add_handler(handler)
    return opener


def _reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no byte came for {TIMEOUT_S:g} seconds"
    return str(getattr(error, "strerror", None) or error)
