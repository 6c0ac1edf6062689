"""Every setting, where it comes from and what it means.

Sources, the later one wins: the defaults here, `headrace.toml` in the current directory (or the file that
`HEADRACE_CONFIG` names), the environment (`HEADRACE_KAFKA__BOOTSTRAP_SERVERS` sets `kafka.bootstrap_servers`).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from models.fraud.rules import Rule
from streams.bounds import check_bounds
from streams.cluster import Kafka as Kafka  # a section like those below
from streams.cluster import Secret
from streams.conversion import refusal, unknown
from streams.errors import SettingsError
from streams.sites import SceneSettings

if TYPE_CHECKING:
    from models.repository import Repository

PREFIX = "HEADRACE_"
CONFIG_VARIABLE = "HEADRACE_CONFIG"
DEFAULT_FILE = Path("headrace.toml")


class Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One worker process of a pipeline."""

    group: str | None = None  # consumer group; default: headrace-<pipeline>
    slot: str | None = None  # a stable name per worker makes a restart keep its partitions (static membership)
    session_timeout_s: float = 8.0  # a killed worker's partitions move after this; its own restart waits no longer
    drain_timeout_s: float = 5.0  # how long a rebalance waits for batches in flight before it discards them
    processing_guarantee: Literal["at_least_once", "exactly_once"] = "at_least_once"
    commit_interval_s: float = 0.3  # at_least_once: how often finished offsets are committed
    transaction_interval_s: float = 0.1  # exactly_once: how long outputs wait to become visible together
    transaction_max_records: int = 50_000  # exactly_once: a transaction of this many input records ends earlier
    transaction_timeout_s: float = 60.0  # exactly_once: the broker aborts what is open for longer
    in_flight: int = 8  # micro-batches that may wait for acknowledgement while the next are computed
    stall_timeout_s: float = 45.0  # readiness turns 503 after this without progress; the process exits after twice it
    broker_timeout_s: float = 45.0  # a broker that is away for longer ends the worker, or `produce`, with an error
    compression: Literal["lz4", "none"] = "lz4"  # of outputs and changelogs, in batches of 16 KiB or more
    fetch_max_bytes: int = 1 << 20  # per partition and fetch; with max_queue_size it bounds the memory
    http_host: str = "127.0.0.1"
    http_port: int = 8080

    def group_of(self, pipeline: str) -> str:
        """The consumer group of a pipeline's workers."""
        return self.group or f"headrace-{pipeline}"


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dynamic batching, with Triton's meanings."""

    max_batch_size: int = 16384
    max_queue_delay_s: float = 0.0
    max_queue_size: int = 32768


class DeadLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a pipeline stops instead of draining its topic into the dead-letter topic; counted per partition."""

    max_share: float = 0.5
    share_window: int = 1000
    max_consecutive: int = 200


class Fraud(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fraud pipeline."""

    input: str = "transactions"
    output: str = "fraud.flags"
    labels: str = "fraud.labels"
    model: str = "fraud"
    version: int | None = None  # default: the newest bundled one, else the first that was added
    engine: str = "auto"
    max_value_bytes: int = 16384
    max_future_s: float = 86400.0  # an event_time further ahead of the clock than this is absurd
    include_features: bool = False  # each flag carries what the model saw, for audits
    review_threshold: float | None = None  # scores from here on are reviewed; default: the model's; inf: none
    block_threshold: float | None = None  # scores from here on are blocked; default: the model's; inf: none
    rules: tuple[Rule, ...] = ()  # the first that applies decides, whatever the score

    def thresholds(self, model: str, own: Mapping[str, float]) -> tuple[float, float]:
        """The thresholds review and block: those set here, else the model's own.

        Raises:
            SettingsError: a threshold is neither set nor among the model's own, or review is above block.
        """
        found: dict[str, tuple[float, str]] = {}
        for name, value in (("review", self.review_threshold), ("block", self.block_threshold)):
            if value is not None:
                found[name] = value, f"fraud.{name}_threshold"
            elif name in own:
                found[name] = own[name], f"that of model {model}"
            else:
                raise SettingsError(
                    f"model {model} has no threshold {name!r}, only {', '.join(sorted(own)) or 'none'}: "
                    f"set fraud.{name}_threshold, or serve another model"
                )
        (review, review_source), (block, block_source) = found["review"], found["block"]
        if review > block:
            raise SettingsError(
                f"expected the review threshold not above the block threshold, got {review:g} ({review_source}) and "
                f"{block:g} ({block_source}): set fraud.review_threshold and fraud.block_threshold together"
            )
        return review, block


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label loop: what transactions turned out to be, joined with the scores that they had had."""

    input: str = "fraud.labels"
    output: str = "fraud.outcomes"
    max_value_bytes: int = 16384
    max_future_s: float = 3600.0  # a label_time further ahead of the clock than this is from the future
    memory_days: float = 45.0  # how long scores and labels are held, by event time
    wait_days: float = 7.0  # a label whose transaction has no score by then is counted as unknown
    delay_days: float = 7.0  # labels are given so long to come before the quality of scores is judged by them
    window_days: float = 7.0  # over so many days before that


class Vision(SceneSettings, frozen=True, forbid_unknown_fields=True):
    """The vision pipeline; `streams.sites` has what it knows of the places before the cameras."""

    input: str = "video.frames"
    output: str = "video.detections"
    events: str = "video.events"
    model: str = "vision"
    version: int | None = None  # default: the newest bundled one, else the first that was added
    engine: str = "auto"
    iou_threshold: float | None = None  # how much two objects of a class may overlap; default: the model's own
    top: int = 5  # of a classifier, how many labels of each frame
    freshness: Literal["latest-per-key", "every"] = "latest-per-key"  # every: nothing is left out, for replays
    staleness_bound_s: float = (
        0.25  # latest-per-key: of frames that would be older when served, the newest of each camera
    )
    threads: int | None = None  # for decoding, and for the network on a CPU; default: one a core
    max_batch_size: int = 16  # frames of all cameras, or tiles of one, in one inference call
    max_queue_delay_s: float = 0.0  # how long a batch that is not full may wait for more
    max_queue_size: int = 256  # frames that wait; with worker.fetch_max_bytes it bounds the memory
    max_value_bytes: int = 8 << 20
    max_pixels: int = 40_000_000  # a picture that promises more is refused before it is decoded
    max_future_s: float = 86400.0  # an event time further ahead of the clock than this is absurd

    @property
    def max_message_bytes(self) -> int:
        """Of a record whose picture is as long as it may be, its headers included."""
        return self.max_value_bytes + (64 << 10)

    @property
    def batch(self) -> Batch:
        """Dynamic batching of frames, in place of the section `batch`, which is made for small events."""
        return Batch(self.max_batch_size, self.max_queue_delay_s, self.max_queue_size)


class Models(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where models come from, and how workers hear which version is to serve."""

    root: str = ".headrace/models"  # the user's own; the bundled ones are there whatever this is
    control: str = "headrace.models"  # the topic of rollouts; its reports are beside it
    shadow_budget: float = 0.5  # of one thread's time, for a challenger in the shadow; what does not fit is dropped

    def repository(self) -> Repository:
        """The user's own models, then the bundled ones."""
        from models.repository import ZOO, Repository  # numpy, which most commands do without

        return Repository([Path(self.root).expanduser(), ZOO])


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it; each section is a table in `headrace.toml`."""

    kafka: Kafka = Kafka()
    worker: Worker = Worker()
    batch: Batch = Batch()
    dead_letter: DeadLetter = DeadLetter()
    models: Models = Models()
    fraud: Fraud = Fraud()
    labels: Labels = Labels()
    vision: Vision = Vision()


def load(
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Read the settings from file, environment and `overrides` (what a command line said), in that order.

    Raises:
        SettingsError: naming the key, and the file or variable that it came from.
    """
    environ = os.environ if environ is None else environ
    path = file or Path(environ.get(CONFIG_VARIABLE, DEFAULT_FILE))
    by = f", which {CONFIG_VARIABLE} names," if file is None and CONFIG_VARIABLE in environ else ""
    tree, origins = _from_file(path, by, required=bool(file is not None or by))
    for name, text in sorted(environ.items()):
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE:
            if "__" not in name:
                raise SettingsError(
                    f"variable {name} names no setting: expected {PREFIX}SECTION__KEY, two underscores between"
                )
            section, key = name.removeprefix(PREFIX).lower().split("__", 1)
            tree.setdefault(section, {})[key] = text
            origins[f"{section}.{key}"] = name
    for section, values in (overrides or {}).items():
        for key, value in values.items():
            if value is not None:
                tree.setdefault(section, {})[key] = value
                origins[f"{section}.{key}"] = "the command line"
    return _convert(tree, origins)


def _from_file(path: Path, by: str, *, required: bool) -> tuple[dict[str, Any], dict[str, str]]:
    if not path.exists():
        if required:
            raise SettingsError(f"settings file {str(path)!r}{by} does not exist")
        return {}, {}
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows begin a file with a mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {str(path)!r}{by} is not valid TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"settings file {str(path)!r}{by} cannot be read: {error.strerror or error}") from None
    for section, values in tree.items():
        if not isinstance(values, dict):
            raise SettingsError(
                f"{section!r} in {path} stands outside of a table like [kafka]; got {type(values).__name__}"
            )
    return tree, {f"{section}.{key}": str(path) for section, values in tree.items() for key in values}


def _convert(tree: dict[str, Any], origins: dict[str, str]) -> Settings:
    known = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    sections: dict[str, Any] = {}
    for section, values in tree.items():
        if section not in known:
            source = next((o for k, o in origins.items() if k.startswith(section + ".")), "the settings")
            raise unknown(f"section {section!r}", section, known, source)
        names = {field.name for field in msgspec.structs.fields(known[section])}
        for key, value in values.items():
            origin = origins.get(f"{section}.{key}", "the settings")
            if key not in names:
                raise unknown(f"setting {section}.{key}", key, names, origin)
            try:
                msgspec.convert({key: value}, known[section], strict=False, dec_hook=_secret)
            except msgspec.ValidationError as error:
                raise refusal(known[section], f"{section}.{key}", value, origin, error) from None
        sections[section] = msgspec.convert(values, known[section], strict=False, dec_hook=_secret)
    return check_bounds(Settings(**sections), origins)


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise msgspec.ValidationError("expected `str`")
