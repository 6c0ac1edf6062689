"""Java's class data archives: made by the first broker, mapped by the next, and made anew where they fit no longer."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from connectors import kafka_runtime
from connectors.broker import Broker
from connectors.kafka_archives import ClassArchives
from tests.conftest import JARS

MakeBroker = Callable[..., Broker]


@pytest.fixture
def jars(tmp_path: Path) -> Path:
    """Kafka's jars in a folder without archives."""
    kafka_runtime.classpath(JARS, lambda _: None)
    folder = tmp_path / "jars"
    shutil.copytree(JARS, folder, ignore=shutil.ignore_patterns("*.jsa", "*.new", ".lock"))
    return folder


def test_next_start_maps_what_the_first_broker_left(private_broker: MakeBroker, jars: Path) -> None:
    told: list[str] = []
    with private_broker(jars=jars) as first:
        first.start(progress=told.append)
    (kafka,) = jars.glob("kafka-*.jsa")

    broker = private_broker(jars=jars)
    broker.start(progress=told.append)

    assert {path.name.partition("-")[0] for path in _mapped(broker)} == {"java", "kafka"}
    assert not [line for line in told if "preparing Java" in line]

    broker.stop()
    kafka.write_bytes(b"\0" * 4096)  # a broker killed while it wrote
    with private_broker(jars=jars) as third:
        assert {path.name.partition("-")[0] for path in _mapped(third)} == {"java"}
    with private_broker(jars=jars) as fourth:
        assert kafka in _mapped(fourth)


def test_archives_of_other_jars_make_room(tmp_path: Path) -> None:
    java, jar = kafka_runtime.java(), tmp_path / "a.jar"
    jar.write_bytes(b"jar")
    before = ClassArchives.of(tmp_path, java, [jar])
    told: list[str] = []
    before.make(java, told.append)
    before.make(java, told.append)
    before.kafka.touch()
    assert before.java.stat().st_size > 1 << 20
    assert told == ["preparing Java for fast starts (first start only)"]

    os.utime(jar, ns=(0, time.time_ns()))
    after = ClassArchives.of(tmp_path, java, [jar])
    after.make(java, told.append)

    assert {path.name for path in tmp_path.iterdir()} == {"a.jar", after.java.name}
    assert after.java != before.java


@pytest.mark.parametrize("java", ['#!/bin/sh\necho full > "${5#*=}"; exit 1', "no program"])
def test_archive_that_cannot_be_made_is_done_without(tmp_path: Path, java: str) -> None:
    program = tmp_path / "java"
    program.write_text(java)
    program.chmod(0o755)
    (tmp_path / "kafka-0123456789abcdef.jsa").touch()

    ClassArchives.of(tmp_path, program, []).make(program, lambda _: None)

    assert {path.name for path in tmp_path.iterdir()} == {"java", "kafka-0123456789abcdef.jsa"}


def test_dump_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.kafka_archives.DUMP_TIMEOUT_S", 0.2)
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexec sleep 613.25\n")
    program.chmod(0o755)

    ClassArchives.of(tmp_path, program, []).make(program, lambda _: None)

    assert subprocess.run(["pgrep", "-f", "sleep 613.25"], capture_output=True, check=False).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["java"]


def _mapped(broker: Broker) -> set[Path]:
    """The archives that the broker's Java has mapped into its memory."""
    maps = psutil.Process(broker.status().pid).memory_maps()
    return {Path(each.path) for each in maps if each.path.endswith(".jsa")}
