"""What to say of a cluster that forbids something."""

from __future__ import annotations

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

FORBIDDEN = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)


def lacking(operation: str) -> str:
    """What a client lacks that must not do this to what was named before.

    Args:
        operation: as Kafka's ACLs name it.
    """
    return f"this client needs an ACL to {operation} it"


def explained(error: BaseException, operation: str) -> str:
    """An error, with what the client lacks where ACLs are the cause."""
    return f"{error!r}; {lacking(operation)}" if isinstance(error, FORBIDDEN) else repr(error)
