"""Columns of bytes against lists of bytes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from models.cells import Cells

PLAIN: list[list[bytes]] = [
    [],
    [b""],
    [b"", b"", b""],
    [b"a", b"", b"bcd", b"\x00\xff" * 100],
    [b"", b"last"],
]
WITH_NULLS: list[list[bytes | None]] = [
    [None],
    [None, None],
    [None, b"a"],
    [b"a", None],
    [b"", None, b"", b"x", None, None, b"yz", b""],
]
TEXTS = [[], [""], ["a", "", "bc"], ["é", "", "a", "☃😀", "\x00"], ["", "ü"]]


def drawn(seed: int, nulls: bool = True) -> list[bytes | None]:
    dice = random.Random(seed)
    return [
        None if nulls and dice.random() < 0.3 else dice.randbytes(dice.choice([0, 1, 2, 7, 40]))
        for _ in range(dice.randrange(1, 60))
    ]


@pytest.mark.parametrize("cells", [*PLAIN, *WITH_NULLS, *(drawn(seed) for seed in range(20))])
def test_a_column_reads_like_the_list_that_it_is_made_of(cells: list[bytes | None]) -> None:
    column = Cells.of(cells)
    assert len(column) == len(cells)
    assert list(column) == cells
    assert [column[row] for row in range(len(cells))] == cells
    assert [column[row - len(cells)] for row in range(len(cells))] == cells
    for part in (slice(None), slice(1, 3), slice(None, None, -1), slice(-2, None), slice(0, 99, 2), slice(5, 2)):
        assert column[part] == cells[part]


@pytest.mark.parametrize("row", [3, -4, 99])
def test_a_row_that_is_not_there_is_an_index_error(row: int) -> None:
    with pytest.raises(IndexError):
        Cells.of([b"a", None, b"c"])[row]


def test_an_empty_column_has_no_row() -> None:
    with pytest.raises(IndexError):
        Cells.of([])[0]


def test_a_null_is_where_its_neighbour_ends_inverted() -> None:
    column = Cells.of([b"ab", None, b"", None, b"c"])
    assert column.ends.tolist() == [2, ~2, 2, ~2, 3]
    assert column.blob.tobytes() == b"abc"


@pytest.mark.parametrize("cells", PLAIN)
def test_lengths_are_those_of_the_cells(cells: list[bytes]) -> None:
    lengths = Cells.of(cells).lengths
    assert lengths.dtype == np.int64
    assert lengths.tolist() == [len(cell) for cell in cells]


@pytest.mark.parametrize("texts", TEXTS)
def test_texts_are_their_utf_8(texts: list[str]) -> None:
    encoded = [text.encode() for text in texts]
    assert list(Cells.of_text(texts)) == encoded
    assert Cells.of_text(texts).same_as(Cells.of(encoded))


def test_a_column_of_a_column_is_that_column() -> None:
    column = Cells.of([b"a", None])
    assert Cells.of(column) is column


@pytest.mark.parametrize("cells", [["a"], [b"a", "b"], [None, "b"], [b"a", 1], [1]])
def test_what_is_no_bytes_is_refused(cells: list[Any]) -> None:
    with pytest.raises(TypeError):
        Cells.of(cells)


def test_columns_are_joined_in_order() -> None:
    assert list(Cells.joined([Cells.of(cells) for cells in PLAIN])) == [cell for cells in PLAIN for cell in cells]
    assert list(Cells.joined([Cells.of([])])) == []


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_taken_in_the_order_asked_for_and_as_often(seed: int) -> None:
    cells = drawn(seed)
    rows = np.random.default_rng(seed).integers(0, len(cells), 100)
    for picked in (rows, rows.astype(np.int32), rows[:0]):
        taken = Cells.of(cells).take(picked)
        assert list(taken) == [cells[row] for row in picked.tolist()]
        assert taken.same_as(Cells.of(list(taken)))


def test_columns_are_the_same_if_every_cell_is() -> None:
    columns: list[list[bytes | None]] = [
        [], [b""], [None], [b"ab"], [b"a", b"b"], [b"ab", b""], [b"", b"ab"], [b"ab", None], [None, b"ab"], [b"ac"],
    ]  # fmt: skip
    for place, one in enumerate(columns):
        for other_place, other in enumerate(columns):
            assert Cells.of(one).same_as(Cells.of(other)) == (place == other_place), (one, other)


@pytest.mark.parametrize(
    "column",
    [
        Cells.of([b"ab"]),
        Cells.of([b"ab", None]),
        Cells.of_text(["ab"]),
        Cells.of_text(["é"]),
        Cells.joined([Cells.of([b"a"]), Cells.of([b"b"])]),
        Cells.of([b"ab", b"c"]).take(np.array([0])),
        Cells(np.array([1, 2], np.uint8), np.array([2])),
    ],
)
def test_nobody_writes_into_a_column(column: Cells[Any]) -> None:
    with pytest.raises(ValueError, match="read-only"):
        column.blob[0] = 0
