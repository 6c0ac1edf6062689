"""docker-compose.yml and Dockerfile agree with the code: no engine is needed to see that."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from connectors.kafka_runtime import KAFKA_VERSION
from streams import settings
from streams.pipelines import PIPELINES

ROOT = Path(__file__).parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_compose_runs_the_kafka_that_the_tests_run() -> None:
    assert re.findall(r"image: apache/kafka:(\S+)", COMPOSE) == [KAFKA_VERSION]


def test_the_worker_image_carries_the_project_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert re.findall(r"image: headrace:(\S+)", COMPOSE) == [project["version"]]


def test_every_variable_is_a_setting() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    image = dict(re.findall(r"\b(HEADRACE_[A-Z]+__[A-Z_]+)=(\S+)", DOCKERFILE))
    slots = []
    for name in ("worker", "vision-worker"):
        loaded = settings.load(environ=image | services[name]["environment"])
        assert loaded.kafka.bootstrap_servers == "kafka:19092"
        assert (loaded.worker.http_host, loaded.worker.http_port) == ("0.0.0.0", 8080)
        slots.append(loaded.worker.slot)
    assert len(set(slots)) == 2


def test_every_worker_makes_its_own_topics_and_runs_its_own_pipeline() -> None:
    for name, service in yaml.safe_load(COMPOSE)["services"].items():
        if name != "kafka":
            made, run = re.findall(r"headrace (?:topics create|worker) (\w+)", service["entrypoint"][-1])
            assert made == run
            assert made in PIPELINES


def test_the_image_compiles_what_the_workers_compile() -> None:
    (run,) = re.findall(r"^RUN (\[.+\])$", DOCKERFILE, re.MULTILINE)
    interpreter, option, program = json.loads(run)
    assert (interpreter, option) == ("python", "-c")
    assert "encoding.warm_up()" in program
    assert "build(settings.Settings()).warm_up() for each in PIPELINES.values()" in program  # as streams.worker does
    subprocess.run([sys.executable, option, program], cwd=ROOT, check=True, timeout=300)


def test_what_can_be_mounted_is_where_a_worker_looks() -> None:
    (folder,) = re.findall(r"^WORKDIR (/var\S+)$", DOCKERFILE, re.MULTILINE)
    services = yaml.safe_load(re.sub(r"^    # (?=volumes:|  - )", "    ", COMPOSE, flags=re.MULTILINE))["services"]
    own = (str(settings.DEFAULT_FILE), settings.Settings().models.root)
    for name in ("worker", "vision-worker"):
        assert services[name]["volumes"] == [f"./{each}:{folder}/{each}:ro" for each in own]


def test_ports_are_published_on_the_loopback_only() -> None:
    published = re.findall(r'^ +- "([\d.:]+)"', COMPOSE, re.MULTILINE)
    assert published == ["127.0.0.1:9092:9092", "127.0.0.1:8080:8080", "127.0.0.1:8081:8080"]


def test_the_wheel_can_be_built_from_what_the_context_holds() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    copied = {
        source.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert kept == copied
    assert all((ROOT / name).exists() for name in kept)
