from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from models.engine import EngineUnavailable
from models.engines import plan_cache
from models.engines.plan_cache import DeviceKey, PlanKey
from models.engines.sizes import profiles

DEVICE = DeviceKey("11.4.0.106", "NVIDIA L4", "8.9")
KEY = PlanKey("a" * 64, "fp32", profiles(256), DEVICE)
OTHERS = [
    msgspec.structs.replace(KEY, sha256="b" * 64),
    msgspec.structs.replace(KEY, precision="fp16"),
    msgspec.structs.replace(KEY, profiles=profiles(512)),
    *(
        msgspec.structs.replace(KEY, device=msgspec.structs.replace(DEVICE, **{field: "other"}))
        for field in ("tensorrt", "gpu", "compute_capability")
    ),
]
PLAN = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = plan_cache.path_of(tmp_path / "made" / "on demand", "fraud-2", KEY)
    plan_cache.write(path, KEY, PLAN)
    return path


def test_what_was_sealed_is_read_again(path: Path) -> None:
    assert plan_cache.read(path, KEY) == PLAN
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    plan_cache.write(path, KEY, b"")
    assert plan_cache.read(path, KEY) == b""


@pytest.mark.parametrize("other", OTHERS)
def test_another_key_is_another_file_and_never_this_one(path: Path, other: PlanKey) -> None:
    assert plan_cache.path_of(path.parent, "fraud-2", other) != path
    with pytest.raises(EngineUnavailable, match=r"expected a file for .*, got one for .*; it is not loaded"):
        plan_cache.read(path, other)


def test_a_plan_is_no_timing_and_the_other_way_round(path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="expected a file for"):
        plan_cache.read(path, DEVICE)
    assert plan_cache.path_of(path.parent, "kernels", DEVICE).suffix == ".timing"


@pytest.mark.parametrize("kept", [0, 1, 22, 23, 24, 60, 400, -1])
def test_a_file_cut_short_is_never_loaded(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EngineUnavailable, match="it is not loaded"):
        plan_cache.read(path, KEY)


@pytest.mark.parametrize("at", [0, 30, 200, -1, -len(PLAN)])
def test_a_changed_byte_is_found(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineUnavailable, match="it is not loaded"):
        plan_cache.read(path, KEY)


@pytest.mark.parametrize(
    "content", [b"", b"plan", PLAN, plan_cache.MAGIC, plan_cache.MAGIC + b"{}\n", plan_cache.MAGIC + b"\xff" * 100_000]
)
def test_a_foreign_file_is_never_loaded(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(EngineUnavailable, match="it is not loaded"):
        plan_cache.read(path, KEY)


def test_more_than_was_sealed_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(EngineUnavailable, match=f"expected {len(PLAN)} bytes after the header, got {len(PLAN) + 4}"):
        plan_cache.read(path, KEY)


def test_an_absurd_size_is_refused_before_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_cache, "MAX_PAYLOAD_BYTES", 100)
    with pytest.raises(EngineUnavailable, match=f"expected {len(PLAN)} bytes"):
        plan_cache.read(path, KEY)


def test_a_missing_file_and_a_folder_in_its_place_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="it is not there; nothing was built for this yet"):
        plan_cache.read(tmp_path / "no.plan", KEY)
    with pytest.raises(EngineUnavailable, match="Is a directory; it is not loaded"):
        plan_cache.read(tmp_path, KEY)
    with pytest.raises(EngineUnavailable, match=r"reading .*: Not a directory"):
        (tmp_path / "file").touch()
        plan_cache.read(tmp_path / "file" / "x.plan", KEY)


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EngineUnavailable, match="No space left on device; what was built is lost"):
        plan_cache.write(path, KEY, b"new")
    assert plan_cache.read(path, KEY) == PLAN
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_plans_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plan_cache.default_folder() == tmp_path / "headrace" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert plan_cache.default_folder() == tmp_path / ".cache" / "headrace" / "engines"
