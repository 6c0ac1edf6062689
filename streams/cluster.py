"""The settings by which every client reaches the Kafka cluster."""

from __future__ import annotations

import re
import ssl
from typing import Any, Literal

import msgspec

from streams.errors import SettingsError

_SERVER = re.compile(r"(?:\[[0-9a-fA-F:.]+(?:%\w+)?\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?")


def check_servers(text: str) -> None:
    """Find what no client could connect to in `HOST[:PORT],…`.

    Raises:
        ValueError: naming the entry.
    """
    for entry in text.split(","):
        found = _SERVER.fullmatch(entry.strip())
        if found is None or not 1 <= int(found[1] or 9092) <= 65535:
            raise ValueError(
                "expected HOST:PORT, or several with commas between, ports from 1 to 65535, IPv6 as [ADDRESS]:PORT; "
                f"got {entry.strip()!r}"
            )


class Secret:
    """A text that never shows in a log, an error or a repr; not a `str`, so that nothing can format it by mistake."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for a client."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "'***'"

    def __str__(self) -> str:
        return "***"


class Kafka(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach the cluster; TLS and SASL go to the client as they are."""

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: Secret | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_key_password: Secret | None = None
    ssl_check_hostname: bool = True
    request_timeout_s: float = 15.0

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes.

        Raises:
            SettingsError: a certificate or key file cannot be read, or SASL lacks its user or password.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
            "request_timeout_ms": int(self.request_timeout_s * 1000),
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL_"):
            if self.sasl_mechanism != "GSSAPI" and (self.sasl_username is None or self.sasl_password is None):
                raise SettingsError(
                    f"kafka.security_protocol is {self.security_protocol!r}: "
                    "set kafka.sasl_username and kafka.sasl_password as well"
                )
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = None if self.sasl_password is None else self.sasl_password.reveal()
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            context.check_hostname = self.ssl_check_hostname
            if self.ssl_certfile is not None:
                # Never None: OpenSSL would ask at the terminal for the password of an encrypted key, and wait.
                password = "" if self.ssl_key_password is None else self.ssl_key_password.reveal()
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, password)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"loading the TLS files of kafka.ssl_* (ca {self.ssl_cafile!r}, certificate {self.ssl_certfile!r}, "
                f"key {self.ssl_keyfile!r}): {error}"
            ) from None
        return context
