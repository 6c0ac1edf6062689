"""Rows for keys against a dictionary, and its hash against Python's own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.cells import Cells
from models.fraud.keys import NO_ROW, Keys, siphash

ZERO = np.uint64(0)


def rows_of(rows: list[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


class Checked:
    """`Keys` beside a dictionary; every answer is compared."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.keys = Keys()
        self.held: dict[bytes, int] = {}
        self.dropped: dict[int, bytes] = {}
        self.used = 0

    def drawn(self, most: int) -> list[bytes]:
        """Keys of 0 to 40 bytes, many of them equal, some known."""
        dice = self.dice
        known = dice.sample(list(self.held), min(len(self.held), dice.randrange(20)))
        fresh = [dice.randbytes(dice.randrange(41)) for _ in range(dice.randrange(most))]
        short = [dice.randbytes(dice.randrange(2)) for _ in range(dice.randrange(20))]
        pool = [*known, *fresh, *short, b"", bytes(dice.randrange(41))]
        return dice.choices(pool, k=dice.randrange(2 * len(pool)))

    def ask(self, most: int) -> None:
        asked = self.drawn(most)
        for key, row in zip(asked, self.keys.rows(asked).tolist(), strict=True):
            if key not in self.held:
                assert row not in self.dropped, "it is not recycled yet"
                assert row not in self.held.values(), "somebody else has it"
                self.held[key] = row
            assert row == self.held[key]
        self.used = max(self.used, len(self.held) + len(self.dropped))

    def find(self) -> None:
        asked = self.drawn(50)
        assert self.keys.find(asked).tolist() == [self.held.get(key, NO_ROW) for key in asked]

    def forget(self) -> None:
        gone = self.dice.sample(list(self.held), self.dice.randrange(len(self.held) + 1))
        rows = [self.held.pop(key) for key in gone]
        self.keys.forget(rows_of(rows))
        self.dropped |= dict(zip(rows, gone, strict=True))

    def recycle(self) -> None:
        rows = self.dice.sample(list(self.dropped), self.dice.randrange(len(self.dropped) + 1))
        self.keys.recycle(rows_of(rows))
        for row in rows:
            del self.dropped[row]

    def compare(self) -> None:
        assert len(self.keys) == len(self.held)
        assert self.keys.rows_used == self.used
        assert dict(self.keys.items()) == self.held
        names = {row: key for key, row in self.held.items()} | self.dropped
        rows = self.dice.sample(list(names), len(names))
        assert list(self.keys.names(rows_of(rows))) == [names[row] for row in rows]


@pytest.mark.parametrize(("seed", "steps", "most"), [(1, 3000, 5), (2, 1000, 50), (3, 200, 800)])
def test_it_answers_as_a_dictionary_does(seed: int, steps: int, most: int) -> None:
    checked = Checked(seed)
    largest = 0
    for _ in range(steps):
        acts = (partial(checked.ask, most), checked.find, checked.forget, checked.recycle)
        checked.dice.choices(acts, [6, 2, 1, 2])[0]()
        checked.compare()
        largest = max(largest, len(checked.keys))
    assert largest > 4 * most


def test_many_keys_at_once_and_one_by_one_get_the_same_answers() -> None:
    names = [b"%d" % number for number in range(20_000)]
    at_once, one_by_one = Keys(), Keys()
    rows = at_once.rows(names)
    assert rows.tolist() == list(range(20_000))
    assert [int(one_by_one.rows([name])[0]) for name in names] == rows.tolist()
    for keys in (at_once, one_by_one):
        assert keys.find(names[::-1]).tolist() == rows.tolist()[::-1]
        assert (keys.find([name + b"-" for name in names]) == NO_ROW).all()


def test_keys_that_differ_by_one_byte_or_by_zeros_at_the_end_are_others() -> None:
    names = [b"", *(bytes(size) for size in range(1, 41))]
    names += [bytes([0] * at + [1] + [0] * (39 - at)) for at in range(40)]
    keys = Keys()
    assert keys.rows(names).tolist() == list(range(81))
    assert keys.find(names).tolist() == list(range(81))


def test_a_column_will_do_for_a_list() -> None:
    keys = Keys()
    names = [b"b", b"a", b"", b"b"]
    assert keys.rows(Cells.of(names)).tolist() == [0, 1, 2, 0]
    assert keys.find(Cells.of(names)).tolist() == keys.find(names).tolist() == [0, 1, 2, 0]
    assert keys.rows([]).tolist() == keys.find([]).tolist() == []


def test_a_forgotten_row_keeps_its_name_and_is_nobodys_until_it_is_recycled() -> None:
    keys = Keys()
    first, second = keys.rows([b"first", b"second"]).tolist()
    keys.forget(rows_of([first]))
    assert keys.find([b"first", b"second"]).tolist() == [NO_ROW, second]
    assert list(keys.names(rows_of([first]))) == [b"first"]
    (again,) = keys.rows([b"first"]).tolist()
    assert again not in (first, second)
    assert list(keys.names(rows_of([first, again]))) == [b"first", b"first"]
    keys.recycle(rows_of([first]))
    assert keys.rows([b"third"]).tolist() == [first]
    assert keys.rows_used == 3


def test_names_take_no_more_room_when_keys_come_and_go() -> None:
    keys = Keys()
    staying = [b"stays-%03d" % number for number in range(200)]
    rows = keys.rows(staying)
    sizes = []
    for wave in range(600):
        passing = keys.rows([b"%06d-%03d" % (wave, number) for number in range(100)])
        keys.forget(passing)
        keys.recycle(passing)
        sizes.append(keys.nbytes)
    assert max(sizes[50:]) <= max(sizes[:50])
    assert keys.rows_used == 300
    assert keys.find(staying).tolist() == rows.tolist()
    assert list(keys.names(rows)) == staying


def test_what_is_left_of_long_names_is_tidied_away() -> None:
    keys = Keys()
    (stays,) = keys.rows([b"stays"]).tolist()
    before = keys.nbytes
    gone = keys.rows([b"x" * 100_000, b"y" * 100_000])
    assert keys.nbytes > 200_000
    keys.forget(gone)
    keys.recycle(gone)
    assert keys.nbytes <= before
    assert list(keys.names(rows_of([stays]))) == [b"stays"]


@pytest.mark.parametrize(
    "wrong", [["a"], [b"new", None], [None, b"new"], [b"new", "b"], [b"new", 7], [b"new", b"", []]]
)
def test_a_key_that_is_not_bytes_changes_nothing(wrong: list[Any]) -> None:
    keys = Keys()
    keys.rows([b"a", b"b"])
    before, size = dict(keys.items()), keys.nbytes
    for ask in (keys.rows, keys.find):
        with pytest.raises(TypeError, match="must be bytes, got"):
            ask(wrong)
    assert (dict(keys.items()), len(keys), keys.rows_used, keys.nbytes) == (before, 2, 2, size)


def test_a_row_forgotten_twice_is_a_key_error() -> None:
    keys = Keys()
    rows = keys.rows([b"a", b"b", b"c"])
    keys.forget(rows[:1])
    with pytest.raises(KeyError):
        keys.forget(rows[:1])
    keys.rows([b"a"])
    with pytest.raises(KeyError):
        keys.forget(rows[:1])
    keys.recycle(rows[:1])
    with pytest.raises(KeyError):
        keys.forget(rows[:1])
    assert set(dict(keys.items())) == {b"a", b"b", b"c"}


def test_each_has_a_secret_of_its_own() -> None:
    secrets = {tuple(Keys()._index.secret.tolist()) for _ in range(8)}
    assert len({word for secret in secrets for word in secret}) == 16


def hashed(text: bytes, low: np.uint64 = ZERO, high: np.uint64 = ZERO, begin: int = 0) -> int:
    return int(siphash(np.frombuffer(text, np.uint8), begin, len(text), low, high))


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason=f"Python hashes by {sys.hash_info.algorithm}")
@pytest.mark.skipif(sys.hash_info.cutoff > 0, reason="Python hashes short bytes otherwise")
def test_the_hash_is_the_one_that_python_computes_of_bytes() -> None:
    dice = random.Random(5)
    texts = [dice.randbytes(size) for size in range(1, 300)] + [bytes(size) for size in range(1, 20)] + [b"\xff" * 16]
    program = "import sys; print(*(hash(bytes.fromhex(line)) for line in sys.stdin))"
    pythons = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(text.hex() for text in texts),
        env=os.environ | {"PYTHONHASHSEED": "0"},  # a secret of zeros
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    ours = [hashed(text) for text in texts]
    assert [-2 if each == -1 else each for each in ours] == [int(each) for each in pythons]


def test_the_hash_depends_on_both_words_of_the_secret_and_on_where_it_begins() -> None:
    one = np.uint64(1)
    assert len({hashed(b"card"), hashed(b"card", low=one), hashed(b"card", high=one), hashed(b"card", one, one)}) == 4
    assert hashed(b"a card", begin=2) == hashed(b"card")
    assert hashed(b"") != hashed(b"\x00")
