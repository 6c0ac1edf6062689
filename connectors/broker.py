"""The embedded broker: a real Apache Kafka on 127.0.0.1 without Docker, root or a Java of one's own.

One KRaft node, broker and controller in one Java process. Its state is a folder; any process may start, ask or stop the
broker of a folder. It is no cluster: one replica, no encryption, no users.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from connectors import kafka_runtime
from connectors.kafka_archives import ClassArchives
from connectors.kafka_errors import HomeBusyError, PortTakenError, StartTimeoutError
from connectors.kafka_home import BrokerHome, RunningBroker
from connectors.kafka_java import SERVER, KafkaJava
from connectors.kafka_logs import death
from connectors.kafka_port import HOST, answers_metadata, free_port, port_free, port_owner
from connectors.kafka_process import ProcessIdentity, bind_to_this_process, folder_lock, release

POLL_S = 0.05
KILLED_TIMEOUT_S = 10
HIGHEST_PORT = 65_535


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class BrokerSettings:
    """How the embedded broker runs.

    Attributes:
        home: Its folder; two brokers never share one.
        port: Where clients connect, on 127.0.0.1. The controller takes the next port, or any free one.
        heap: Java's largest heap, as `-Xmx` reads it.
        optimising: Whether Java's optimising compiler runs. A broker under full load gains a tenth by it. Below that it
            takes a third of a core from everything else on the machine, for minutes.
        owned: Whether the broker ends with the process that started it, even when that is killed; otherwise
            it runs until someone stops it.
        jars: Where Kafka's jars are kept; `<home>/jars` where not given. Several homes may share it.
        start_timeout_s: How long Kafka may take from its launch to its first answer.
        properties: Further server properties; they win over the broker's own.
    """

    home: Path = Path(".headrace/kafka")
    port: int = 9092
    heap: str = "512m"
    optimising: bool = False
    owned: bool = False
    jars: Path | None = None
    start_timeout_s: float = 60.0
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BrokerStatus:
    """What is known of a home's broker; `ready` means that it answers a metadata request now."""

    running: bool
    ready: bool
    pid: int | None
    bootstrap_servers: str | None
    home: Path
    data_bytes: int
    log: Path


class Broker:
    """The broker of one home.

    Start, stop and status work from any process that names the same home; one object is not for two threads at once.
    As a context manager it starts the broker, and stops it at the end where this object started it.

    Example:
        >>> with Broker(BrokerSettings(port=19092)) as broker:  # doctest: +SKIP
        ...     broker.bootstrap_servers
        '127.0.0.1:19092'
    """

    def __init__(self, settings: BrokerSettings | None = None) -> None:
        self.settings = settings or BrokerSettings()
        self._home = BrokerHome(self.settings.home.absolute())
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What a client connects to."""
        return f"{HOST}:{self.settings.port}"

    def start(self, *, progress: Callable[[str], None] | None = None) -> None:
        """Start the broker and return once it answers; where it already runs, only wait for its answer.

        Args:
            progress: Called with one sentence a step; the first start fetches Kafka, which takes longest.

        Raises:
            BrokerError: see connectors/kafka_errors.py; a broker that was started here no longer runs then.
        """
        tell = progress or _silent
        self._home.make()
        with folder_lock(self._home.root, "starting the embedded broker", tell):
            if running := self._home.running():
                self._join(running)
                return
            self._let_go()  # of a broker that has ended since, by itself or by another process
            self._check_port()
            kafka = self._kafka(tell)
            self._home.prepare_run()
            if not self._home.is_formatted():
                tell("formatting the data folder")
                kafka.format()
            tell(f"starting Kafka {kafka_runtime.KAFKA_VERSION} on {self.bootstrap_servers}")
            try:
                self._await_answer(self._launch(kafka))
            except BaseException:  # a Ctrl-C while waiting must leave nothing running either
                self._end(timeout_s=0)
                raise

    def stop(self, timeout_s: float = 20) -> bool:
        """Stop the broker of this home, whoever started it; where it has not ended after `timeout_s`, kill it.

        Returns:
            True where a broker ran, False where there was nothing to stop.
        """
        if not self._home.root.is_dir():
            return False
        with folder_lock(self._home.root, "stopping the embedded broker", _silent):
            return self._end(timeout_s)

    def kill(self) -> None:
        """End the broker at once, as a crash would: no clean shutdown, its record stays behind."""
        if running := self._home.running():
            _signal(running.process, signal.SIGKILL)
            running.process.wait_gone(KILLED_TIMEOUT_S)
        self._let_go()

    def status(self) -> BrokerStatus:
        """What is known of the broker of this home, whoever started it."""
        running = self._home.running()
        return BrokerStatus(
            running=running is not None,
            ready=running is not None and answers_metadata(running.port),
            pid=running.process.pid if running else None,
            bootstrap_servers=f"{HOST}:{running.port}" if running else None,
            home=self.settings.home,
            data_bytes=self._home.data_bytes(),
            log=self.settings.home / "logs" / "server.log",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    def _join(self, running: RunningBroker) -> None:
        if running.port != self.settings.port:
            raise HomeBusyError(
                f"the embedded broker of {str(self._home.root)!r} already runs on port {running.port} "
                f"(pid {running.process.pid}), not on {self.settings.port}: stop it first, or use that port"
            )
        self._await_answer(running.process)

    def _check_port(self) -> None:
        port = self.settings.port
        if not 0 < port <= HIGHEST_PORT:
            raise PortTakenError(
                f"cannot start the embedded broker on port {port}: a port lies between 1 and {HIGHEST_PORT}"
            )
        if not port_free(port):
            owner = port_owner(port) or "a program that this user may not see"
            raise PortTakenError(
                f"cannot start the embedded broker: port {port} of {HOST} is taken by {owner}; stop that program, "
                "or choose another port with --port"
            )

    def _kafka(self, tell: Callable[[str], None]) -> KafkaJava:
        settings = self.settings
        folder = (settings.jars or self._home.root / "jars").absolute()
        jars = kafka_runtime.classpath(folder, tell)
        java = kafka_runtime.java()
        archives = ClassArchives.of(folder, java, jars)
        archives.make(java, tell)
        return KafkaJava(self._home, java, jars, archives, settings.heap, settings.optimising)

    def _launch(self, kafka: KafkaJava) -> ProcessIdentity:
        port = self.settings.port
        controller_port = port + 1 if port < HIGHEST_PORT and port_free(port + 1) else free_port()
        self._home.write_properties("server.properties", "data", port, controller_port, self.settings.properties)
        self._process = kafka.run(SERVER, "server.properties")
        identity = ProcessIdentity.of(self._process.pid)
        if identity is None:
            raise death(self._home, "starting", self._process.wait())
        self._home.record(RunningBroker(identity, port))
        if self.settings.owned:
            self._guard = bind_to_this_process(identity)
        return identity

    def _await_answer(self, identity: ProcessIdentity) -> None:
        deadline = time.monotonic() + self.settings.start_timeout_s
        while not answers_metadata(self.settings.port):
            if not identity.alive():
                raise death(self._home, "starting", self._process.wait() if self._process else None)
            if time.monotonic() >= deadline:
                raise StartTimeoutError(
                    f"the embedded broker did not answer on {self.bootstrap_servers} within "
                    f"{self.settings.start_timeout_s:g} s; see {str(self._home.server_log)!r}"
                )
            time.sleep(POLL_S)

    def _end(self, timeout_s: float) -> bool:
        running = self._home.running()
        if running is not None:
            _signal(running.process, signal.SIGTERM)
            if not running.process.wait_gone(timeout_s):
                _signal(running.process, signal.SIGKILL)
                running.process.wait_gone(KILLED_TIMEOUT_S)
        self._let_go()
        self._home.forget()
        return running is not None

    def _let_go(self) -> None:
        """Reap the children that this object started."""
        if self._guard is not None:
            release(self._guard)
            self._guard = None
        if self._process is not None:
            if self._process.poll() is None:  # never recorded: the start was interrupted right after the launch
                self._process.kill()
            self._process.wait(KILLED_TIMEOUT_S)
            self._process = None


def _signal(process: ProcessIdentity, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if process.alive():
            os.kill(process.pid, number)
