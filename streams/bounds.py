"""What the values of settings must hold, each by itself and together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from operator import attrgetter
from typing import TYPE_CHECKING

from models.fraud.rules import Rule, check
from models.vision.specs import MAX_LABELS
from streams.cluster import check_servers
from streams.errors import SettingsError
from streams.sites import SceneSettings, check_scenes

if TYPE_CHECKING:
    from streams.settings import Settings

MOST_DAYS = 36_525  # a century
LARGEST = 2**31 - 1  # what a client takes for a number of bytes
PLACE = re.compile(r"""(?:[^'":]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")*""")  # up to a colon that is in no name

_POSITIVE = (
    "kafka.request_timeout_s",
    "worker.session_timeout_s",
    "worker.drain_timeout_s",
    "worker.commit_interval_s",
    "worker.transaction_interval_s",
    "worker.transaction_max_records",
    "worker.transaction_timeout_s",
    "worker.in_flight",
    "worker.stall_timeout_s",
    "worker.broker_timeout_s",
    "worker.fetch_max_bytes",
    "batch.max_batch_size",
    "batch.max_queue_size",
    "dead_letter.share_window",
    "dead_letter.max_consecutive",
    "fraud.max_value_bytes",
    "fraud.max_future_s",
    "labels.max_value_bytes",
    "labels.max_future_s",
    "labels.memory_days",
    "labels.wait_days",
    "labels.delay_days",
    "labels.window_days",
    "vision.staleness_bound_s",
    "vision.max_batch_size",
    "vision.max_queue_size",
    "vision.max_value_bytes",
    "vision.max_pixels",
    "vision.max_future_s",
)

_TOPICS = {  # of each pipeline: what it reads, and what it writes beside its dead letters
    "fraud": (("fraud.input", "fraud.labels"), ("fraud.output",)),
    "labels": (("labels.input", "fraud.output"), ("labels.output",)),
    "vision": (("vision.input",), ("vision.output", "vision.events")),
}
_LONGEST_NAME, _LONGEST_SUFFIX = 249, ".changelog"  # of topics
_CHARACTERS = "the letters a to z and A to Z, digits, '.', '_' and '-'"
_TOPIC_NAME = re.compile(rf"(?!\.\.?$)[a-zA-Z0-9._-]{{1,{_LONGEST_NAME}}}")


def check_bounds(settings: Settings, origins: Mapping[str, str]) -> Settings:
    """The settings as they are.

    Args:
        origins: the file or variable of each setting that is not a default.

    Raises:
        SettingsError: one of them cannot be.
    """
    for name in _POSITIVE:
        section, key = name.split(".")
        value = getattr(getattr(settings, section), key)
        if not 0 < value <= LARGEST:
            raise SettingsError(
                f"{name}{_from(origins, name)} must be above zero, and at most {LARGEST}; got {value!r}"
            )
    worker, dead_letter, threads = settings.worker, settings.dead_letter, settings.vision.threads
    batches = {"batch": settings.batch, "vision": settings.vision.batch}
    bounds = (
        *(
            (f"{name}.max_queue_delay_s", 0 <= sizes.max_queue_delay_s <= 60, "between 0 and 60 seconds")
            for name, sizes in batches.items()
        ),
        ("dead_letter.max_share", 0 < dead_letter.max_share <= 1, "in (0, 1]"),
        ("models.shadow_budget", 0 < settings.models.shadow_budget <= 1, "in (0, 1]"),
        ("vision.score_threshold", 0 <= (settings.vision.score_threshold or 0) <= 1, "between 0 and 1"),
        ("vision.iou_threshold", 0 <= (settings.vision.iou_threshold or 0) <= 1, "between 0 and 1"),
        ("vision.top", 1 <= settings.vision.top <= MAX_LABELS, f"between 1 and {MAX_LABELS}"),
        ("vision.threads", threads is None or 1 <= threads <= 256, "between 1 and 256"),
        ("worker.http_port", 0 <= worker.http_port <= 65535, "between 0 and 65535"),
    )
    for name, holds, where in bounds:
        section, key = name.split(".")
        if not holds:
            value = getattr(getattr(settings, section), key)
            raise SettingsError(f"{name}{_from(origins, name)} must lie {where}, got {value!r}")
    if worker.transaction_timeout_s <= worker.transaction_interval_s + worker.broker_timeout_s:
        raise SettingsError(
            f"worker.transaction_timeout_s = {worker.transaction_timeout_s:g}"
            f"{_from(origins, 'worker.transaction_timeout_s')} must be above worker.transaction_interval_s = "
            f"{worker.transaction_interval_s:g} and worker.broker_timeout_s = {worker.broker_timeout_s:g} together: "
            "the broker would end transactions that the worker still works on"
        )
    for name in ("review_threshold", "block_threshold"):
        threshold = getattr(settings.fraud, name)
        if threshold is not None and not (0 <= threshold <= 1 or threshold == math.inf):
            raise SettingsError(
                f"fraud.{name}{_from(origins, f'fraud.{name}')} must lie between 0 and 1, or be inf, which no score "
                f"reaches; got {threshold!r}"
            )
    _check_rules(settings.fraud.rules, origins)
    _check_topics(settings, origins)
    try:
        check_servers(settings.kafka.bootstrap_servers)
    except ValueError as error:
        name = "kafka.bootstrap_servers"
        raise SettingsError(f"{name}{_from(origins, name)}: {error}") from None
    _check_places(settings.vision, origins)
    for name, sizes in batches.items():
        if sizes.max_queue_size < sizes.max_batch_size:
            raise SettingsError(
                f"{name}.max_queue_size = {sizes.max_queue_size}{_from(origins, f'{name}.max_queue_size')} must not be "
                f"below {name}.max_batch_size = {sizes.max_batch_size}{_from(origins, f'{name}.max_batch_size')}"
            )
    labels = settings.labels
    needed = max(labels.wait_days, labels.delay_days + labels.window_days)
    if not needed <= labels.memory_days <= MOST_DAYS:
        raise SettingsError(
            f"labels.memory_days = {labels.memory_days:g}{_from(origins, 'labels.memory_days')} must not be below "
            f"labels.wait_days = {labels.wait_days:g}{_from(origins, 'labels.wait_days')}, nor below "
            f"labels.delay_days = {labels.delay_days:g}{_from(origins, 'labels.delay_days')} and labels.window_days = "
            f"{labels.window_days:g}{_from(origins, 'labels.window_days')} together, nor above {MOST_DAYS}"
        )
    return settings


def _check_rules(rules: Sequence[Rule], origins: Mapping[str, str]) -> None:
    if not rules:
        return
    from models.fraud.inputs import INPUTS  # loads numba, which most commands do without

    try:
        check(rules, INPUTS)
    except ValueError as error:
        place, _, complaint = str(error).partition(": ")
        raise SettingsError(f"fraud.{place}{_from(origins, 'fraud.rules')}: {complaint}") from None


def _check_topics(settings: Settings, origins: Mapping[str, str]) -> None:
    """What a pipeline wrote to a topic that it reads, it would read and write again, and be its own poison."""
    names = ["models.control", *(name for ends in _TOPICS.values() for name in (*ends[0], *ends[1]))]
    topic = {name: attrgetter(name)(settings) for name in names}
    for name, value in topic.items():
        if not _TOPIC_NAME.fullmatch(value):
            raise SettingsError(
                f"{name}{_from(origins, name)}: expected a topic's name, 1 to {_LONGEST_NAME} of {_CHARACTERS}, "
                f"got {value!r}"
            )
    if not _TOPIC_NAME.fullmatch(f"{settings.worker.group_of('')}{_LONGEST_SUFFIX}"):
        raise SettingsError(
            f"worker.group{_from(origins, 'worker.group')}: expected a name that topics can have, since those of the "
            f"state are called after it, 1 to {_LONGEST_NAME - len(_LONGEST_SUFFIX)} of {_CHARACTERS}, "
            f"got {settings.worker.group!r}"
        )
    for name in names[1:]:
        if topic[name] == topic["models.control"]:
            raise SettingsError(
                f"models.control{_from(origins, 'models.control')} must not be {name}{_from(origins, name)}, "
                f"{topic[name]!r}: what is promoted stands in a topic of its own"
            )
    for pipeline, (inputs, outputs) in _TOPICS.items():
        for read, written in product(inputs, outputs):
            if topic[read] == topic[written]:
                raise SettingsError(
                    f"{written}{_from(origins, written)} must not be {read}{_from(origins, read)}, {topic[read]!r}: "
                    f"{pipeline} reads that topic, and would read what it wrote"
                )


def _check_places(vision: SceneSettings, origins: Mapping[str, str]) -> None:
    try:
        check_scenes(vision)
    except ValueError as error:
        place = PLACE.match(str(error))[0]  # type: ignore[index]  # it matches nothing, too
        named = [f"vision.{key}" for key in re.findall(r"\w+", re.split(r"[^\w, ]", place)[0])]
        sources = sorted({origins[name] for name in named if name in origins})
        source = f" from {' and '.join(sources)}" if sources else " (default)"
        raise SettingsError(f"vision.{place}{source}{str(error)[len(place) :]}") from None


def _from(origins: Mapping[str, str], name: str) -> str:
    return f" from {origins[name]}" if name in origins else " (default)"
