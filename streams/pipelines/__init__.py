"""The domains, listed explicitly.

A new domain is one file beside this one, one folder in `models/`, and one entry here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streams.settings import Settings

if TYPE_CHECKING:
    from streams.topics import Topic


@dataclass(frozen=True)
class Domain:
    """What is known of a pipeline before its model and its numerics are loaded.

    Args:
        name: also its section in the settings, which has at least `input` and `output`.
        builder: `module:class` of the pipeline; the class takes the section.
        stateful: whether it keeps state behind a changelog.
        events: `module:constant` of its input's fields, for reading files.
        key: the field that an event's record key is taken from.
    """

    name: str
    builder: str
    stateful: bool
    events: str
    key: str

    def build(self, settings: Settings) -> Any:
        """The pipeline itself; loads its model.

        Raises:
            ModelError: the model cannot be loaded.
        """
        return _load(self.builder)(getattr(settings, self.name))

    def fields(self) -> Any:
        """The fields of its input."""
        return _load(self.events)

    def group(self, settings: Settings) -> str:
        """Its consumer group."""
        return settings.worker.group_of(self.name)

    def topics(self, settings: Settings) -> list[Topic]:
        """Its topics, the input first."""
        from streams.topics import pipeline_topics  # loads the Kafka client, which `--help` does without

        section = getattr(settings, self.name)
        return pipeline_topics(section.input, section.output, self.group(settings), state=self.stateful)


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


PIPELINES: Mapping[str, Domain] = {
    domain.name: domain
    for domain in (
        Domain(
            name="fraud",
            builder="streams.pipelines.fraud:FraudPipeline",
            stateful=True,
            events="connectors.simulators.transactions:FIELDS",
            key="card_id",
        ),
    )
}
