"""Rows of features for the fraud model, simulated, from files or from a topic: to calibrate on, and to judge on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from models import arrays
from models.engine import DerivationFailed, ModelCorrupt
from models.precision.rows import Rows, evenly
from streams.cli.console import file_name, run

if TYPE_CHECKING:
    from models.fraud.transactions import Transactions
    from streams.pipelines.fraud.transactions import Transactions as Decoded
    from streams.records import RecordBatch
    from streams.settings import Settings

MOST_HELD_OUT = 100_000
MOST_RECORDS = 1_000_000  # of a topic
QUIET_S = 3.0  # after which a topic counts as read
FILE_BATCH_ROWS = 16_384
MOST_NPZ_BYTES = 4 * 1024**3  # unpacked
LABELS = "labels"  # the array of an .npz that is no input
SIMULATED_DAYS, SIMULATED_CUSTOMERS = 67, 2000


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows to calibrate on, and later ones to judge on."""

    calibration: Rows
    held_out: Rows


def simulated(seed: int, count: int, progress: Progress) -> Sample:
    """Rows of the transaction simulator's default world, labelled."""
    from streams.cli.simulated import simulate

    simulating = progress.add_task("simulating days", total=SIMULATED_DAYS)
    world = simulate(SIMULATED_DAYS, SIMULATED_CUSTOMERS, seed, lambda day: progress.update(simulating, completed=day))
    return _recorded(world.transactions, f"simulated transactions, seed {seed}", True, count, progress)


def from_file(path: Path, columns: dict[str, str], bad_rows: str, count: int, progress: Progress) -> Sample:
    """Rows of a file of transactions, labelled where it has a column `fraud`.

    Parquet files may have the column names that training takes; other files are read as `predict` reads them.

    Raises: FileError, TrainingFailed, DerivationFailed.
    """
    if path.suffix == ".parquet" and not columns and _is_labelled(path):
        from models.fraud.transactions import read_transactions

        return _recorded(read_transactions([path]), file_name(path), True, count, progress)
    from connectors.files import Field, open_events
    from streams.pipelines import PIPELINES

    fraud = PIPELINES["fraud"]
    collected = _Collected()
    with open_events(
        path,
        fields=[*fraud.fields(), Field("fraud", "boolean", required=False)],
        key=fraud.key,
        columns=columns,
        bad_rows="skip" if bad_rows == "skip" else "stop",
        batch_rows=FILE_BATCH_ROWS,
    ) as file:
        reading = progress.add_task("reading the file", total=file.total_bytes)
        for batch in file:
            collected.add(batch.keys, batch.values)
            progress.update(reading, completed=file.bytes_read)
    return _recorded(*collected.transactions(file_name(path)), count, progress)


def from_npz(path: Path, inputs: Sequence[str], count: int) -> Sample:
    """Rows of an .npz: an array for each input of the network, and `labels` (bool) where they are known.

    Raises: DerivationFailed.
    """
    try:
        tensors = arrays.decode(path, "rows from", MOST_NPZ_BYTES, then="nothing was derived", own=True)
    except ModelCorrupt as error:
        raise DerivationFailed(str(error)) from error
    shapes = {name: list(values.shape) for name, values in tensors.items()}
    labels = tensors.pop(LABELS, None)
    if LABELS in inputs or not tensors:
        raise DerivationFailed(
            f"reading rows from {path}: expected an array for each of {list(inputs)!r}, got {sorted(tensors)!r}; "
            "nothing was derived"
        )
    rows = {tuple(shape[:1]) for shape in shapes.values()}
    if len(rows) > 1 or () in rows or (labels is not None and labels.ndim != 1):
        raise DerivationFailed(
            f"reading rows from {path}: expected arrays of as many rows each, `{LABELS}` of one axis, got {shapes}; "
            "nothing was derived"
        )
    return _halves(Rows(file_name(path), tensors, None if labels is None else labels.astype(np.bool_)), count)


def from_topic(settings: Settings, topic: str, count: int, progress: Progress) -> Sample:
    """Rows of a topic from its beginning on: transactions of the pipeline's input, or flags that carry `features`.

    Raises: TopicError, BrokerUnavailable, DerivationFailed.
    """
    reading = progress.add_task(f"reading {topic}", total=None)
    collected = _Collected()
    flags: list[NDArray[np.float32]] = []

    def add(batch: RecordBatch) -> None:
        if topic == settings.fraud.input:
            collected.add(batch.keys, batch.values)
        else:
            flags.append(_features(batch))
        progress.advance(reading, len(batch.keys))

    run(_read(settings, topic, add))
    if topic == settings.fraud.input:
        return _recorded(*collected.transactions(topic), count, progress)
    if not flags:
        raise DerivationFailed(f"reading rows from topic {topic}: there are no records; nothing was derived")
    return _halves(Rows(f"flags of {topic}", {"features": np.concatenate(flags)}), count)


async def _read(settings: Settings, topic: str, add: Callable[[RecordBatch], None]) -> None:
    from streams.subscribing import Start, Subscription

    records = 0
    async with Subscription(settings.kafka, topic, Start("earliest")) as subscription:
        while records < MOST_RECORDS and (batches := await subscription.read(QUIET_S)):
            for batch in batches:
                add(batch)
                records += len(batch.keys)
            await asyncio.sleep(0)


class _Flag(msgspec.Struct):
    features: dict[str, float] | None = None


class _Label(msgspec.Struct):
    fraud: bool | None = None


def _features(batch: RecordBatch) -> NDArray[np.float32]:
    from models.fraud.inputs import INPUTS

    decode = msgspec.json.Decoder(_Flag).decode
    rows = np.empty((len(batch.values), len(INPUTS)), np.float32)
    for place, value in enumerate(batch.values):
        where = f"reading rows from {batch.topic}[{batch.partition}]@{batch.offsets[place]}"
        try:
            features = decode(value or b"").features
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DerivationFailed(f"{where}: expected a fraud flag as JSON: {error}; nothing was derived") from error
        if features is None:
            raise DerivationFailed(
                f"{where}: expected a flag with `features`, got none; let workers write them "
                "(include_features = true in section [fraud]), or take the input topic; nothing was derived"
            )
        missing = [name for name in INPUTS if name not in features]
        if missing:
            raise DerivationFailed(f"{where}: expected all features, got no {', '.join(missing)}; nothing was derived")
        rows[place] = [features[name] for name in INPUTS]
    return rows


class _Collected:
    """Events of transactions, decoded as the pipeline does; poison is left out."""

    def __init__(self) -> None:
        from streams.clock import SystemClock
        from streams.pipelines.fraud.transactions import TransactionDecoder
        from streams.settings import Fraud

        self._decode = TransactionDecoder(Fraud(), SystemClock())
        self._label = msgspec.json.Decoder(_Label).decode
        self._parts: list[Decoded] = []
        self._labels: list[bool | None] = []

    def add(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        from streams.records import NO_HEADERS, RecordBatch

        count = len(keys)
        batch = RecordBatch("", 0, list(range(count)), [0] * count, list(keys), list(values), [NO_HEADERS] * count)
        decoded = self._decode(batch)
        self._parts.append(decoded.columns)
        self._labels += [self._label(values[row] or b"").fraud for row in decoded.rows.tolist()]

    def transactions(self, source: str) -> tuple[Transactions, str, bool]:
        """What was added in the order of time, where it is from, and whether each has a label.

        Raises: DerivationFailed where there is nothing.
        """
        from models.fraud.transactions import Ids, Transactions

        times = np.concatenate([part.event_time_ms for part in self._parts] or [np.empty(0, np.int64)])
        if not len(times):
            raise DerivationFailed(
                f"reading transactions from {source}: expected some, got none that can be used; nothing was derived"
            )
        order = np.argsort(times, kind="stable")
        places = order.tolist()
        ids = [each for part in self._parts for each in part.transaction_ids]
        cards = [each for part in self._parts for each in part.keys]
        terminals = [each for part in self._parts for each in part.terminals]
        labelled = None not in self._labels
        transactions = Transactions(
            transaction_ids=[ids[place] for place in places],
            event_time_ms=times[order],
            cards=Ids.of([cards[place] for place in places]),
            terminals=Ids.of([terminals[place] for place in places]),
            amount=np.concatenate([part.amount for part in self._parts])[order],
            fraud=np.array([bool(each) for each in self._labels], np.bool_)[order],
        )
        return transactions, source, labelled


def _recorded(transactions: Transactions, what: str, labelled: bool, count: int, progress: Progress) -> Sample:
    """Inputs as the stream would have computed them; rows whose windows are still filling are left out if possible."""
    from models.fraud.recorded import recorded_inputs
    from models.fraud.sample import FILLING_DAYS

    replaying = progress.add_task("replaying transactions", total=len(transactions))
    inputs = recorded_inputs(transactions, lambda done: progress.update(replaying, completed=done))
    filled = transactions.day >= transactions.day[0] + FILLING_DAYS
    usable = filled if filled.any() else np.ones(len(filled), np.bool_)
    labels = transactions.fraud[usable] if labelled else None
    rows = Rows(what, {"features": inputs[usable].astype(np.float32)}, labels)
    halves = _halves(rows, count)
    days = transactions.day[usable].astype("datetime64[D]")
    middle = len(rows) // 2
    return Sample(
        replace(halves.calibration, what=f"{what}, {days[0]} to {days[max(0, middle - 1)]}"),
        replace(halves.held_out, what=f"{what}, {days[middle]} to {days[-1]}"),
    )


def _halves(rows: Rows, count: int) -> Sample:
    """Calibration rows evenly out of the first half, the second half to judge on."""
    middle = len(rows) // 2
    held_out = evenly(rows.take(slice(middle, None)), MOST_HELD_OUT)
    if held_out.labels is not None and (held_out.labels.all() or not held_out.labels.any()):
        held_out = Rows(held_out.what, held_out.tensors)
    return Sample(evenly(rows.take(slice(middle)), count), held_out)


def _is_labelled(path: Path) -> bool:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return False  # whoever opens the file says what is missing
    try:
        names: Any = parquet.read_schema(path).names
    except (OSError, ArrowException):
        return False
    return "fraud" in names or "TX_FRAUD" in names
