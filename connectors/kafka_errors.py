"""The errors of the embedded broker.

    BrokerError
    ├── JavaMissingError            no Java runtime that runs on this machine
    ├── DownloadError               Kafka's jars could not be fetched
    ├── HomeNotWritableError        the broker's folder cannot be made or written
    ├── HomeBusyError               another process starts, stops or runs a broker on this folder
    ├── PortTakenError              something else listens on the port
    ├── DataCorruptError            the data folder is not one that this broker can read
    ├── BrokerDiedError             the Java process ended before it was ready
    └── StartTimeoutError           the Java process lives, but does not answer

None is retriable as it stands: each needs what its message asks for.
"""

from __future__ import annotations

from connectors.contract import ConnectorError


class BrokerError(ConnectorError):
    """The embedded broker cannot do what was asked."""


class JavaMissingError(BrokerError):
    """No Java runtime, or one that this machine cannot execute."""


class DownloadError(BrokerError):
    """Kafka's jars could not be fetched, or came damaged."""


class HomeNotWritableError(BrokerError):
    """The broker's folder cannot be made or written."""


class HomeBusyError(BrokerError):
    """Another process holds this broker's folder, or runs its broker with other settings."""


class PortTakenError(BrokerError):
    """Another program listens on the broker's port."""


class DataCorruptError(BrokerError):
    """The data folder was not made by this broker, or is damaged."""


class BrokerDiedError(BrokerError):
    """The Java process ended before it answered."""


class StartTimeoutError(BrokerError):
    """The broker did not answer in time."""
