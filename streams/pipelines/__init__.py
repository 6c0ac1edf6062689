"""The domains, listed explicitly.

A new domain is one folder beside this file, one folder in `models/`, and one entry here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from streams.errors import SettingsError
from streams.settings import PREFIX, Settings

if TYPE_CHECKING:
    from streams.topics import Topic


@dataclass(frozen=True)
class Domain:
    """What is known of a pipeline before its model and its numerics are loaded.

    Args:
        name: also its section in the settings, which has at least `input` and `output`.
        builder: `module:class` of the pipeline; the class takes the section.
        stateful: whether it keeps state behind a changelog.
        logged: whether it keeps a table, with a log of its input.
        follows: settings that name the other topics of its table.
        copartitioned: whether those must have as many partitions as the input.
        events: `module:constant` of its input's fields, for reading files; empty where its events are no JSON.
        key: the field that an event's record key is taken from.
        beside: other sections of the settings that the class takes behind its own.
        also_writes: settings that name topics beside its output.
        batches: the section of the settings that says how its records are batched.
        largest: what of its section says how long a record may be, where the broker's own limit is too low.
        tasks: of the models that it may serve, as their manifests name them.
        comparable: whether a challenger's answers can stand beside those of what serves.
    """

    name: str
    builder: str
    stateful: bool
    logged: bool
    follows: tuple[str, ...]
    copartitioned: bool
    events: str
    key: str
    beside: tuple[str, ...] = ()
    also_writes: tuple[str, ...] = ()
    batches: str = "batch"
    largest: str = ""
    tasks: tuple[str, ...] = ()
    comparable: bool = False

    def build(self, settings: Settings) -> Any:
        """The pipeline itself; loads its model.

        Raises:
            ModelError: the model cannot be loaded.
        """
        return _load(self.builder)(*(getattr(settings, section) for section in (self.name, *self.beside)))

    def fields(self) -> Any:
        """The fields of its input."""
        return _load(self.events)

    def group(self, settings: Settings) -> str:
        """Its consumer group."""
        return settings.worker.group_of(self.name)

    def topics(self, settings: Settings) -> list[Topic]:
        """Its topics, the input first."""
        from streams.rollout import control_topics
        from streams.topics import pipeline_topics  # loads the Kafka client, which `--help` does without

        section = getattr(settings, self.name)
        own = pipeline_topics(
            section.input,
            section.output,
            self.group(settings),
            state=self.stateful,
            logged=self.logged,
            followed=[attrgetter(name)(settings) for name in self.follows],
            copartitioned=self.copartitioned,
            beside=[attrgetter(name)(settings) for name in self.also_writes],
            max_message_bytes=getattr(section, self.largest) if self.largest else 0,
        )
        return own + (control_topics(settings.models) if hasattr(section, "model") else [])


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


PIPELINES: Mapping[str, Domain] = {
    domain.name: domain
    for domain in (
        Domain(
            name="fraud",
            builder="streams.pipelines.fraud.pipeline:FraudPipeline",
            stateful=True,
            logged=True,
            follows=("fraud.labels",),
            copartitioned=False,
            events="connectors.simulators.transactions:FIELDS",
            key="card_id",
            beside=("models", "batch"),
            tasks=("",),
            comparable=True,
        ),
        Domain(
            name="labels",
            builder="streams.pipelines.labels.pipeline:LabelsPipeline",
            stateful=True,
            logged=False,
            follows=("fraud.output",),
            copartitioned=True,
            events="connectors.simulators.labels:FIELDS",
            key="card_id",
            beside=("fraud",),
        ),
        Domain(
            name="vision",
            builder="streams.pipelines.vision.pipeline:VisionPipeline",
            stateful=True,
            logged=False,
            follows=(),
            copartitioned=False,
            events="",
            key="camera_id",
            beside=("models",),
            also_writes=("vision.events",),
            batches="vision",
            largest="max_message_bytes",
            tasks=("detect", "classify"),
        ),
    )
}


def serving(model: str, settings: Settings) -> list[Domain]:
    """The pipelines that serve a model of this name, as the settings say."""
    return [each for each in PIPELINES.values() if each.tasks and getattr(settings, each.name).model == model]


def must_serve(model: str, settings: Settings, doing: str, task: str | None = None) -> list[Domain]:
    """The same, where there must be one.

    Args:
        doing: what is being done, for the error.
        task: the model's, as its manifest names it; None where that is not known.

    Raises:
        SettingsError: no pipeline serves it; says what each serves, and what to set.
    """
    if found := serving(model, settings):
        return found
    able = [each for each in PIPELINES.values() if each.tasks]
    serves = ", ".join(f"{each.name} serves {getattr(settings, each.name).model!r}" for each in able)
    may = [each.name for each in able if task is None or task in each.tasks]
    keys = " or ".join([f'{name}.model = "{model}"' for name in may])
    variables = " or ".join([f"{PREFIX}{name.upper()}__MODEL={model}" for name in may])
    raise SettingsError(
        f"{doing}: no pipeline of these settings serves model {model!r} ({serves}); set {keys} in headrace.toml, or "
        f"{variables}, here and for its workers"
    )
