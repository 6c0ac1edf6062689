"""What every connector has in common: the root of the error tree.

    ConnectorError                  something at the edge failed; the message says what to do
    └── BrokerError                 the embedded broker (connectors/kafka_errors.py)

Each connector hangs its own errors below `ConnectorError`, so that a caller catches one type and shows one sentence.
"""

from __future__ import annotations


class ConnectorError(Exception):
    """A source, a sink or the embedded broker failed; the message names the thing and the way out."""
