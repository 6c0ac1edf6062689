"""The broker of a run: a user's own, or an embedded one that lives as long as the run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from connectors.broker import Broker, BrokerSettings
from connectors.kafka_port import free_port


@contextlib.contextmanager
def broker(
    bootstrap: str | None,
    said: Callable[[str], None],
    properties: Mapping[str, str] | None = None,
    *,
    optimising: bool = True,
) -> Iterator[str]:
    """Yield a broker's address (host:port); without one given, start one in a folder that is deleted at the end.

    Kafka's jars are those of the default home, so they are fetched once for all runs from one folder. The broker is
    owned: it ends with this process, even when that is killed.

    Args:
        properties: further server properties of one that is started.
        optimising: whether Java's optimising compiler runs in it, which suits a broker under full load.

    Raises:
        ConnectorError: the embedded broker could not be started.
    """
    if bootstrap is not None:
        yield bootstrap
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-kafka-") as folder:
        settings = BrokerSettings(
            home=Path(folder),
            port=free_port(),
            heap="1g",
            optimising=optimising,
            owned=True,
            jars=BrokerSettings().home / "jars",
            properties=properties or {},
        )
        embedded = Broker(settings)
        try:
            embedded.start(progress=said)
            yield embedded.bootstrap_servers
        finally:
            embedded.stop()
