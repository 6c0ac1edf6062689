"""Files are put in place whole, or not at all."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models import files

OLD, NEW = b"old" * 10, b"new" * 100_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    return path


def left(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def test_a_file_is_written_and_replaced(path: Path) -> None:
    files.write_atomically(path, b"head", NEW)
    assert path.read_bytes() == b"head" + NEW
    files.write_atomically(path)
    assert path.read_bytes() == b""
    files.write_atomically(path.with_name("another"), NEW)
    assert left(path) == ["another", "file"]


def test_all_of_it_is_on_the_disk_before_it_takes_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        assert path.read_bytes() == OLD
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr("os.fsync", fsync)
    files.write_atomically(path, NEW, b"tail")
    assert synced == [len(NEW) + 4]
    assert path.read_bytes() == NEW + b"tail"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def full(descriptor: int) -> None:
        raise error

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(type(error)):
        files.write_atomically(path, NEW)
    assert path.read_bytes() == OLD
    assert left(path) == ["file"]


def test_what_cannot_be_replaced_stays_and_what_has_no_folder_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomically(tmp_path / "folder", NEW)
    assert left(tmp_path / "folder") == ["folder"]
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "nowhere" / "file", NEW)


def test_a_link_is_replaced_and_not_written_through(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    files.write_atomically(link, NEW)
    assert not link.is_symlink()
    assert (link.read_bytes(), path.read_bytes()) == (NEW, OLD)


def test_writers_at_once_never_mix_and_readers_see_whole_files(path: Path) -> None:
    whole = {OLD, *(bytes([writer]) * 200_000 for writer in range(4))}

    def write(writer: int) -> None:
        for _ in range(10):
            files.write_atomically(path, bytes([writer]) * 100_000, bytes([writer]) * 100_000)

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, writer) for writer in range(4)]
        while not all(each.done() for each in writing):
            assert path.read_bytes() in whole
    assert [each.exception() for each in writing] == [None] * 4
    assert path.read_bytes() in whole - {OLD}
    assert left(path) == ["file"]


@pytest.mark.parametrize(("private", "mode"), [(False, 0o640), (True, 0o600)])
def test_who_may_read_it_is_what_the_process_says_or_the_owner_alone(path: Path, private: bool, mode: int) -> None:
    was = os.umask(0o027)
    try:
        files.write_atomically(path, NEW, private=private)
    finally:
        os.umask(was)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_takes_no_others_place(path: Path) -> None:
    with pytest.raises(FileExistsError):
        files.write_new(path, NEW)
    assert path.read_bytes() == OLD
