"""Every error that Headrace raises on purpose.

HeadraceError
 ├── SettingsError          a setting is unknown, malformed or contradicts another
 ├── TopicError             a topic is missing, or partition counts do not match
 │    └── TopicAbsent       a client does not see it
 ├── BrokerUnavailable      no broker answers, or it refuses us
 ├── StateError             a changelog cannot be restored
 ├── ProduceError           the broker did not acknowledge a write
 └── PipelineStopped        a pipeline must not go on; nothing of the batch at hand is committed
      ├── DeadLetterLimit   too many poison events
      └── ModelFailing      the model fails for every record, not for one

PoisonEvent stands outside: it concerns one record and is an answer, not a failure of the program.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Root of the errors whose message is meant for a person: one sentence, what to do included."""


class SettingsError(HeadraceError):
    """A setting is unknown, malformed or contradicts another."""


class TopicError(HeadraceError):
    """A topic is missing, or topics that belong together differ in their partition count."""


class TopicAbsent(TopicError):
    """A topic that a client does not see: nobody has made it, or ACLs hide it."""


class BrokerUnavailable(HeadraceError):
    """No broker answers, or it refuses us."""


class StateError(HeadraceError):
    """A changelog cannot be restored."""


class ProduceError(HeadraceError):
    """The broker did not acknowledge a write; the input stays uncommitted and is read again."""


class PipelineStopped(HeadraceError):
    """A pipeline must not go on; nothing of the batch at hand is committed."""


class DeadLetterLimit(PipelineStopped):
    """Too many poison events: share of the recent ones, or too many in a row."""


class ModelFailing(PipelineStopped):
    """The model fails for every record of a batch, or for its own golden batch."""


class PoisonEvent(Exception):
    """One record that can never succeed, and why.

    Args:
        stage: where it failed: `decode`, `features`, `infer` or `encode`.
        message: expected and got, in lower case, without the record's place (the dead letter has it).
        kind: the error's type as a bounded label, e.g. `ValidationError`.
    """

    def __init__(self, stage: str, message: str, kind: str = "InvalidEvent") -> None:
        super().__init__(message)
        self.stage = stage
        self.message = message
        self.kind = kind
