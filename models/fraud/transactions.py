"""Recorded card transactions with their labels, out of Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engine import TrainingFailed
from models.fraud.blocks import DAY_MS, Int64
from models.fraud.evaluate import Labels

COLUMNS = {  # Headrace's name: the handbook's; its TX_FRAUD_SCENARIO is never read, it gives the label away
    "transaction_id": "TRANSACTION_ID",
    "event_time": "TX_DATETIME",
    "card_id": "CUSTOMER_ID",
    "terminal_id": "TERMINAL_ID",
    "amount": "TX_AMOUNT",
    "fraud": "TX_FRAUD",
}


@dataclass(frozen=True, eq=False)
class Ids:
    """The ids of n rows, for grouping and as keys.

    Args:
        codes: int64 [n], positions in `names`.
        names: distinct ids, shorter ones first, then by their bytes: so numbers from 0 are in their order.
    """

    codes: Int64
    names: tuple[bytes, ...]

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> Ids:
        """The ids of rows with these keys."""
        names = tuple(sorted(set(keys), key=lambda name: (len(name), name)))
        position = {name: code for code, name in enumerate(names)}
        return cls(np.fromiter((position[key] for key in keys), np.int64, len(keys)), names)

    @property
    def keys(self) -> list[bytes]:
        """Each row's id; made anew on each call, of the same objects."""
        return [self.names[code] for code in self.codes.tolist()]


@dataclass(frozen=True, eq=False)
class Transactions:
    """Recorded transactions with their labels, in the order of arrival.

    Args:
        transaction_ids: n distinct ids.
        event_time_ms: int64 [n], ms since the epoch, UTC.
        cards: n ids.
        terminals: n ids.
        amount: float64 [n], finite, not negative, in the transactions' currency.
        fraud: bool [n].
    """

    transaction_ids: list[bytes]
    event_time_ms: Int64
    cards: Ids
    terminals: Ids
    amount: NDArray[np.float64]
    fraud: Labels

    def __len__(self) -> int:
        return len(self.transaction_ids)

    @property
    def day(self) -> Int64:
        """int64 [n], days since the epoch, UTC."""
        return self.event_time_ms // DAY_MS


def read_transactions(paths: Sequence[Path]) -> Transactions:
    """The rows of all Parquet files in the order of time, those of one time as the files and their rows have them.

    Columns have Headrace's names or the handbook's (COLUMNS); others are not read. Ids are whole numbers or texts;
    times are timestamps, in UTC where they name no zone, or whole milliseconds since the epoch; labels are 0 and 1.

    Raises:
        TrainingFailed: pyarrow is not installed; a file cannot be read, lacks a column or has a bad value; a
            transaction is there twice; or there are no rows.
    """
    files = [_read(path) for path in paths]
    if not any(len(file["amount"]) for file in files):
        raise TrainingFailed(
            f"reading transactions: expected some, got none in {', '.join(map(str, paths)) or 'no file'}"
        )
    _check_distinct(paths, [file["transaction_id"] for file in files])
    merged = {name: np.concatenate([file[name] for file in files]) for name in COLUMNS}
    order = np.argsort(merged["event_time"], kind="stable")
    ordered = {name: column[order] for name, column in merged.items()}
    return Transactions(
        transaction_ids=ordered["transaction_id"].tolist(),
        event_time_ms=ordered["event_time"],
        cards=Ids.of(ordered["card_id"].tolist()),
        terminals=Ids.of(ordered["terminal_id"].tolist()),
        amount=ordered["amount"],
        fraud=ordered["fraud"],
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """A file's columns by Headrace's names: ids as bytes objects, int64 ms, float64, bool."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise TrainingFailed(
            f"reading {path}: Parquet needs pyarrow; install what training needs: pip install 'headrace[train]'"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            sources = [_source(path, names, file.schema_arrow.names) for names in COLUMNS.items()]
            table = file.read(columns=sources)
            readers = (_ids, _times, _ids, _ids, _amounts, _labels)
            return {
                name: read(path, source, table.column(source))
                for name, source, read in zip(COLUMNS, sources, readers, strict=True)
            }
    except (pyarrow.ArrowException, OSError) as error:
        raise TrainingFailed(
            f"reading {path}: expected a Parquet file of transactions, got {' '.join(str(error).split())}"
        ) from error


def _source(path: Path, names: tuple[str, str], columns: list[str]) -> str:
    found = [column for column in columns if column in names]
    if len(found) != 1:
        raise TrainingFailed(
            f"reading {path}: expected one column `{names[0]}` or `{names[1]}`, "
            f"got {' and '.join(found) or 'none'} among {', '.join(columns)}; nothing was read"
        )
    return found[0]


def _ids(path: Path, column: str, values: Any) -> NDArray[np.object_]:
    if str(values.type).startswith("dictionary"):
        values = values.cast(values.type.value_type)
    _check_type(path, column, values, ("string", "large_string", "binary", "large_binary", "int", "uint"), "ids")
    _check_values(path, column, values, values.is_valid().to_numpy(), "an id")
    if str(values.type).startswith(("int", "uint")):
        values = values.cast("string")
    ids: NDArray[np.object_] = values.cast("large_binary").to_numpy()
    return ids


def _times(path: Path, column: str, values: Any) -> Int64:
    _check_type(path, column, values, ("timestamp", "int", "uint"), "timestamps or whole milliseconds")
    _check_values(path, column, values, values.is_valid().to_numpy(), "a time")
    if str(values.type).startswith("timestamp"):
        moments: NDArray[np.datetime64] = values.to_numpy()
        return moments.astype("datetime64[ms]").astype(np.int64)
    times: Int64 = values.cast("int64").to_numpy()
    return times


def _amounts(path: Path, column: str, values: Any) -> NDArray[np.float64]:
    _check_type(path, column, values, ("double", "float", "halffloat", "decimal", "int", "uint"), "numbers")
    amounts: NDArray[np.float64] = values.cast("float64", safe=False).to_numpy()
    _check_values(path, column, values, np.isfinite(amounts) & (amounts >= 0), "a finite number >= 0")
    return amounts


def _labels(path: Path, column: str, values: Any) -> Labels:
    _check_type(path, column, values, ("bool", "int", "uint", "double", "float", "halffloat"), "labels 0 or 1")
    labels: NDArray[np.float64] = values.cast("float64", safe=False).to_numpy()
    _check_values(path, column, values, np.isin(labels, (0, 1)), "0 or 1")
    return labels.astype(np.bool_)


def _check_type(path: Path, column: str, values: Any, types: tuple[str, ...], expected: str) -> None:
    if not str(values.type).startswith(types):
        raise TrainingFailed(
            f"reading {path}: column `{column}`: expected {expected}, got {values.type}; nothing was read"
        )


def _check_values(path: Path, column: str, values: Any, good: NDArray[np.bool_], expected: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        value = values[row].as_py()
        raise TrainingFailed(
            f"reading {path}, row {row + 1}: column `{column}`: expected {expected}, "
            f"got {'nothing' if value is None else value}; nothing was read"
        )


def _check_distinct(paths: Sequence[Path], ids: Sequence[NDArray[np.object_]]) -> None:
    seen: set[bytes] = set()
    for path, own in zip(paths, ids, strict=True):
        for row, name in enumerate(own.tolist(), 1):
            if name in seen:
                raise TrainingFailed(
                    f"reading {path}, row {row}: expected each transaction once, got the transaction id "
                    f"{name.decode(errors='replace')!r} again; nothing was read"
                )
            seen.add(name)
