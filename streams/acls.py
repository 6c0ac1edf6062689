"""What to say of a cluster that forbids something."""

from __future__ import annotations

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

FORBIDDEN = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)


def lacking(operation: str) -> str:
    """What a client lacks that must not do this to what was named before.

    Args:
        operation: as Kafka's ACLs name it.
    """
    return f"this client needs an ACL to {operation} it"


def explained(error: BaseException | type[KafkaError], operation: str) -> str:
    """An error of Kafka's, or its class, with what the client lacks where ACLs are the cause."""
    kind, text = (error, error.__name__) if isinstance(error, type) else (type(error), repr(error))
    return f"{text}; {lacking(operation)}" if issubclass(kind, FORBIDDEN) else text
