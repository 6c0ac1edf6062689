"""The embedded broker's folder: its files, its server properties, and which process runs on it.

    <home>/data/               topics, consumer offsets, cluster metadata; deleting it loses them
    <home>/logs/               server.log (Kafka's own), console.log (what Java itself printed)
    <home>/jars/               Kafka, as fetched
    <home>/server.properties   written anew at each start
    <home>/broker.json         the running process; absent after a clean stop

Every path in those files is relative to the folder, so that it may hold spaces or commas and may be moved.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from connectors.kafka_errors import DataCorruptError, HomeNotWritableError
from connectors.kafka_port import HOST
from connectors.kafka_process import ProcessIdentity

NODE_ID = 1
DRAFT_DATA = "data.new"

# One node, one disk, many restarts: single replicas, few internal partitions, no waiting for members that cannot come.
_SINGLE_NODE = {
    "process.roles": "broker,controller",
    "node.id": str(NODE_ID),
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker cannot register again before its old session ends: Kafka's 9 s would make that start wait 12 s.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2500",
    "log.cleaner.dedupe.buffer.size": str(32 << 20),  # Kafka's default takes 128 MiB of heap at the start
}

_LOG4J = """\
status = error
appender.server.type = RollingFile
appender.server.name = server
appender.server.fileName = logs/server.log
appender.server.filePattern = logs/server.log.%i
appender.server.layout.type = PatternLayout
appender.server.layout.pattern = [%d] %p %m (%c)%n
appender.server.policies.type = Policies
appender.server.policies.size.type = SizeBasedTriggeringPolicy
appender.server.policies.size.size = 20MB
appender.server.strategy.type = DefaultRolloverStrategy
appender.server.strategy.max = 5
rootLogger.level = info
rootLogger.appenderRef.server.ref = server
"""


@dataclass(frozen=True)
class RunningBroker:
    """What `broker.json` says about the process that runs on the folder."""

    process: ProcessIdentity
    port: int


@dataclass(frozen=True)
class BrokerHome:
    """The files below one folder."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def server_log(self) -> Path:
        return self.root / "logs" / "server.log"

    @property
    def console_log(self) -> Path:
        return self.root / "logs" / "console.log"

    @property
    def _record(self) -> Path:
        return self.root / "broker.json"

    def make(self) -> None:
        """Make the folder itself, which several processes may do at once.

        Raises:
            HomeNotWritableError: it cannot be made.
        """
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)

    def prepare_run(self) -> None:
        """Set the last run's log aside, drop what a killed broker left unpacked; for the holder of the folder's lock.

        Raises:
            HomeNotWritableError: the folder cannot be written.
        """
        shutil.rmtree(self.root / "tmp", ignore_errors=True)
        with self._writing():
            for folder in (self.root / "logs", self.root / "tmp"):
                folder.mkdir(exist_ok=True)
            if self.server_log.exists():
                self.server_log.replace(self.server_log.with_name("server.previous.log"))
            (self.root / "log4j2.properties").write_text(_LOG4J)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise HomeNotWritableError(
                f"cannot write the embedded broker's folder {str(self.root)!r}: {error.strerror}; "
                "choose another with --home"
            ) from error

    def write_properties(self, name: str, data: str, port: int, controller_port: int, extra: Mapping[str, str]) -> None:
        """Write the server properties `name` for log folder `data`; `extra` wins over what is set here."""
        listener, controller = f"PLAINTEXT://{HOST}:{port}", f"CONTROLLER://{HOST}:{controller_port}"
        properties = _SINGLE_NODE | {
            "controller.quorum.voters": f"{NODE_ID}@{HOST}:{controller_port}",
            "listeners": f"{listener},{controller}",
            "advertised.listeners": listener,
            "log.dirs": data,
        }
        lines = (f"{key}={_escape(value)}\n" for key, value in (properties | dict(extra)).items())
        (self.root / name).write_text("".join(lines))

    def is_formatted(self) -> bool:
        """Whether the data folder holds a broker's storage; False where there is nothing yet.

        Raises:
            DataCorruptError: it holds something, but not the storage of this broker.
        """
        if not self.data.exists() or not any(self.data.iterdir()):
            return False
        path = self.data / "meta.properties"
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise self.corrupt(f"cannot read {str(path)!r}: {error}") from error
        found = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        for key, expected in (("version", "1"), ("node.id", str(NODE_ID))):
            if found.get(key) != expected:
                raise self.corrupt(f"{str(path)!r} says {key} = {found.get(key)!r}, expected {expected!r}")
        if not found.get("cluster.id"):
            raise self.corrupt(f"{str(path)!r} names no cluster.id")
        # Kafka would start without its metadata, and forget every topic whose records are still there.
        if any(self.data.glob("*-[0-9]*")) and not (self.data / "__cluster_metadata-0").is_dir():
            raise self.corrupt("it holds topics, but the cluster metadata `__cluster_metadata-0` is missing")
        return True

    def corrupt(self, why: str) -> DataCorruptError:
        """The error that says what is wrong with the data folder, and what deleting it would cost."""
        return DataCorruptError(
            f"the embedded broker cannot use its data folder {str(self.data)!r}: {why}; nothing was changed. "
            "Restore the folder, use another --home, or delete it to start empty: that loses its topics and offsets"
        )

    def running(self) -> RunningBroker | None:
        """The broker that runs on this folder, whoever started it; None where none does."""
        try:
            record = json.loads(self._record.read_text())
            found = RunningBroker(ProcessIdentity(**record["process"]), int(record["port"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if found.process.alive() else None

    def record(self, running: RunningBroker) -> None:
        """Remember the process, for `running` in any process."""
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps(asdict(running)))
        draft.replace(self._record)

    def forget(self) -> None:
        """Drop the record of a process that has ended."""
        self._record.unlink(missing_ok=True)

    def data_bytes(self) -> int:
        """What the topics take on the disk, in bytes."""
        total = 0
        for folder, _, names in os.walk(self.data):  # which passes over what Kafka deletes meanwhile
            for name in names:
                with suppress(FileNotFoundError):
                    # Index files are sparse: their length says nothing.
                    total += (Path(folder) / name).stat().st_blocks * 512
        return total


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
