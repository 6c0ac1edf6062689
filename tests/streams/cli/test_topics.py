from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from connectors.broker import Broker
from streams.errors import TopicError
from streams.settings import Vision
from tests.conftest import Kafka, MakeTopics
from tests.streams.cli.conftest import Run, run
from tests.streams.cli.terminal import on_terminal


def test_a_pipelines_topics_are_created_as_it_needs_them(kafka: Kafka, headrace: Run) -> None:
    names: Any = {
        "FRAUD__INPUT": "pay",
        "FRAUD__OUTPUT": "pay.flags",
        "FRAUD__LABELS": "pay.labels",
        "WORKER__GROUP": "pay-group",
        "MODELS__CONTROL": "pay.models",
    }
    made = headrace("topics", "create", "fraud", "--partitions", 3, "--replication", 1, **names)
    assert made.out.count("created") == 8
    assert "created pay.models with 1 partition\n" in made.out
    found = {each["name"]: each for each in json.loads(headrace("topics", "list", "--json").out)}
    for name in ("pay", "pay.flags", "pay.dead-letter", "pay-group.changelog", "pay-group.table", "pay.labels"):
        assert found[name] == {"name": name, "partitions": 3, "records": 0}
    for name in ("pay.models", "pay.models.reports"):
        assert found[name] == {"name": name, "partitions": 1, "records": 0}
    assert not [name for name in found if name.startswith("__")]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for name in ("pay-group.changelog", "pay.models"):
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        assert admin.describe_configs([resource])[resource].result(10)["cleanup.policy"].value == "compact"
    assert headrace("topics", "create", "fraud", "--partitions", 3, **names).out.count("is there already") == 8
    assert "with 3 partitions" in headrace("topics", "create", "pay", "--partitions", 2).out


def test_topics_are_listed_and_deleted(headrace: Run, make_topics: MakeTopics) -> None:
    first, second = make_topics("one", "two", partitions=2)
    headrace("produce", "transactions", "--topic", first, "--count", 1234)
    assert f"{first} 2 1,234" in " ".join(headrace("topics", "list").out.split())
    missing = headrace("topics", "delete", first, second + "-not", "--yes", code=1)
    assert f"topic '{second}-not' does not exist" in missing.error
    assert missing.error.rstrip().endswith("or is hidden by ACLs; nothing was deleted")
    assert headrace("topics", "delete", first, second, "--yes").out == f"deleted {first}, {second}\n"
    assert first not in headrace("topics", "list").out
    assert "[y/N]" in headrace("topics", "delete", second, code=1).out


def test_the_broker_says_why_a_topic_cannot_be(headrace: Run) -> None:
    refused = headrace("topics", "create", "no/slash", code=1)
    assert isinstance(refused.result.exception, TopicError)
    assert "'no/slash'" in refused.error
    assert "replication factor" in headrace("topics", "create", "copies", "--replication", 3, code=1).error.lower()


def test_a_pipelines_topic_is_made_as_it_needs_it_under_its_own_name_too(
    headrace: Run, kafka: Kafka, make_topics: MakeTopics
) -> None:
    (name,) = make_topics("taken")
    frames = f"frames-of-{name}"
    headrace("topics", "create", frames, VISION__INPUT=frames)
    resource = ConfigResource(ConfigResource.Type.TOPIC, frames)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    found = admin.describe_configs([resource])[resource].result(20)
    assert int(found["max.message.bytes"].value) == Vision().max_message_bytes > 8_000_000


@pytest.fixture
def half_read(kafka: Kafka, make_topics: MakeTopics) -> tuple[str, str]:
    """A topic and a group: partition 0 is read to 3 of 5, of which the fourth is 100 s old; 1 to its end; 2 not."""
    (topic,) = make_topics("lagging", partitions=4)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    now_ms = int(time.time() * 1000)
    for partition, ages_s in {0: (900, 800, 700, 100, 50), 1: (60, 50), 2: (30,)}.items():
        for age_s in ages_s:
            producer.produce(topic, b"v", b"k", partition=partition, timestamp=now_ms - age_s * 1000)
    assert producer.flush(20) == 0
    group = f"group-of-{topic}"
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 3), TopicPartition(topic, 1, 2)], asynchronous=False)
    consumer.close()
    return topic, group


def test_lag_is_in_records_and_in_seconds(headrace: Run, half_read: tuple[str, str]) -> None:
    topic, group = half_read
    lags = json.loads(headrace("topics", "lag", "--group", group, "--json").out)
    seen = [(lag["partition"], lag["committed"], lag["end"], lag["records"]) for lag in lags]
    assert seen == [(0, 3, 5, 2), (1, 2, 2, 0), (2, None, 1, 1), (3, None, 0, 0)]
    assert [lag["seconds"] for lag in lags] == [pytest.approx(100, abs=15), 0, pytest.approx(30, abs=15), 0]
    table = headrace("topics", "lag", "--group", group).out
    assert table.count(topic) == 4
    assert table.split()[-3] == "all"


def test_a_record_without_a_timestamp_has_no_age(headrace: Run, kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("timeless", partitions=1)

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
            await producer.send_and_wait(topic, b"v", timestamp_ms=-1)

    asyncio.run(send())
    (lag,) = json.loads(headrace("topics", "lag", "--json", FRAUD__INPUT=topic, WORKER__GROUP=f"{topic}-group").out)
    assert (lag["records"], lag["seconds"]) == (1, None)


def test_the_pipelines_own_group_shows_before_it_has_committed(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fresh", partitions=2)
    names: Any = {"FRAUD__INPUT": topic, "WORKER__GROUP": "fresh-group"}
    assert [lag["committed"] for lag in json.loads(headrace("topics", "lag", "--json", **names).out)] == [None, None]
    unknown = headrace("topics", "lag", "--group", "nobody", code=1)
    assert unknown.error == "looking for the lag of group 'nobody': it has committed nothing"


def test_the_lag_of_a_pipeline_is_asked_for_by_its_name(headrace: Run, make_topics: MakeTopics) -> None:
    (frames,) = make_topics("frames", partitions=3)
    names: Any = {"VISION__INPUT": frames, "FRAUD__INPUT": "not-made"}
    for arguments in (("vision",), ("--group", "headrace-vision"), ("vision", "--group", "another")):
        lags = json.loads(headrace("topics", "lag", *arguments, "--json", **names).out)
        assert [(lag["topic"], lag["committed"]) for lag in lags] == [(frames, None)] * 3
    fraud = headrace("topics", "lag", WORKER__GROUP="nobody-yet", **names, code=1)
    assert "group 'nobody-yet': it has committed nothing, and its topic 'not-made' does not exist" in fraud.error
    assert fraud.error.endswith("of other pipelines: `headrace topics lag labels` or `headrace topics lag vision`")
    named = headrace("topics", "lag", "fraud", WORKER__GROUP="nobody-yet", **names, code=1)
    assert "other pipelines" not in named.error
    assert "'visoin' is not one of 'fraud', 'labels', 'vision'" in headrace("topics", "lag", "visoin", code=2).err


def test_a_topic_that_is_nearly_a_pipeline_is_made_on_request_only(headrace: Run) -> None:
    refused = headrace("topics", "create", "plain-beside-vison", "vison", code=2)
    assert "did you mean the pipeline vision, and not a topic called vison? --yes creates that topic" in refused.err
    assert "vison" not in headrace("topics", "list").out
    assert headrace("topics", "create", "vison", "--yes").out == "created vison with 4 partitions\n"
    assert "created visions with" in headrace("topics", "create", "visions", VISION__INPUT="visions").out


@pytest.mark.parametrize(("answer", "code", "made"), [("n", 1, False), ("y", 0, True)])
def test_on_a_terminal_it_is_asked_what_was_meant(
    kafka: Kafka, headrace: Run, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, made: bool
) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    said = on_terminal("create", "labells", answers=[answer], code=code, group="topics")
    assert "did you mean the pipeline labels? create a plain topic labells [y/N]" in said
    assert ("labells" in headrace("topics", "list").out) == made


def test_watching_lag_goes_on_until_ctrl_c(kafka: Kafka, half_read: tuple[str, str]) -> None:
    watch = [sys.executable, "-m", "streams.cli", "topics", "lag", "--group", half_read[1], "--watch", "--json"]
    environment = os.environ | {"HEADRACE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    with subprocess.Popen(watch, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert looks[0][0]["seconds"] < looks[1][0]["seconds"]


def test_a_cluster_of_many_topics_is_listed(private_broker: Callable[..., Broker], make_topics: MakeTopics) -> None:
    broker = private_broker()
    broker.start()
    names = make_topics(*(f"many{number}" for number in range(200)), kafka=broker)
    listed = run("topics", "list", "--json", KAFKA__BOOTSTRAP_SERVERS=broker.bootstrap_servers).out
    assert all(f'"{name}"' in listed for name in names)


def test_a_broker_that_is_spoken_to_in_another_protocol_is_not_said_to_be_away(headrace: Run, kafka: Kafka) -> None:
    found = headrace("topics", "list", code=1, KAFKA__SECURITY_PROTOCOL="SSL").error
    assert f"connecting to Kafka at {kafka.bootstrap_servers!r}: nobody answers as Kafka over SSL" in found
    assert "HEADRACE_KAFKA__SECURITY_PROTOCOL" in found
