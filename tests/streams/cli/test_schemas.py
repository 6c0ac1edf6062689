from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streams import asyncapi
from streams.deadletter import dead_letters
from streams.errors import PoisonEvent
from streams.records import RecordBatch
from streams.settings import Fraud, Kafka, Labels, Settings, Vision
from tests.streams.cli.conftest import run


def references(node: Any) -> Iterator[str]:
    """All `$ref`s, wherever they stand."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and "$ref" in node:
        yield node["$ref"]
    for child in children:
        yield from references(child)


def resolve(document: Any, reference: str) -> Any:
    place, *path = reference.split("/")
    assert place == "#"
    for name in path:
        document = document[name]
    return document


def test_each_message_has_a_schema_that_stands_on_its_own() -> None:
    schemas = json.loads(run("schemas").out)
    assert set(schemas) == {
        "Transaction", "FraudFlag", "FraudLabel", "FraudOutcome", "Comparison", "VideoDetections", "VideoEvent",
    }  # fmt: skip
    for schema in schemas.values():
        assert schema["$schema"].endswith("2020-12/schema")
        assert schema["type"] == "object"
        for reference in references(schema):
            assert resolve(schema, reference)["type"] == "object"
    required = {"transaction_id", "card_id", "terminal_id", "amount", "event_time"}
    assert set(schemas["Transaction"]["required"]) == required
    assert "Reason" in schemas["FraudFlag"]["$defs"]
    detections = schemas["VideoDetections"]
    assert detections["properties"]["classes"]["items"] == {"$ref": "#/$defs/PictureClass"}
    assert "classes" not in detections["required"]


def test_the_asyncapi_document_is_whole() -> None:
    document = json.loads(run("schemas", "--format", "asyncapi").out)
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(document["info"])
    assert {channel["address"] for channel in document["channels"].values()} == {
        "transactions", "fraud.flags", "transactions.dead-letter", "fraud.labels", "fraud.outcomes",
        "fraud.labels.dead-letter", "fraud.flags.shadow",
        "video.frames", "video.detections", "video.events", "video.frames.dead-letter",
    }  # fmt: skip
    for reference in references(document):
        assert resolve(document, reference)
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
    for channel in document["channels"].values():
        assert all(server["$ref"] == "#/servers/kafka" for server in channel["servers"])
    for message in document["components"]["messages"].values():
        assert "key" in message["bindings"]["kafka"]
        assert message.get("headers", {"type": "object"})["type"] == "object"
    for output in ("FraudFlag", "FraudOutcome", "VideoDetections", "VideoEvent"):
        headers = document["components"]["messages"][output]["headers"]
        assert set(headers["properties"]) == {"id", "model", "engine", "engine-reason"}
        assert set(headers["required"]) == {"id", "model", "engine"}


def test_dead_letter_headers_are_those_that_are_written() -> None:
    batch = RecordBatch("transactions", 0, [1], [0], [b"k"], [b"?"], [[]])
    letters = dead_letters(batch, {0: PoisonEvent("decode", "bad")}, pipeline="fraud", model="fraud/1", now_s=0.0)
    described = asyncapi.document(Settings())["components"]["messages"]["DeadLetter"]["headers"]["properties"]
    assert [name for name, _ in letters.headers_of(0)] == list(described)


def test_names_and_server_come_from_the_settings() -> None:
    kafka = Kafka(bootstrap_servers="one:9093,two:9093", security_protocol="SSL")
    labels = Labels(input="pay.labels", output="pay.outcomes")
    vision = Vision(input="eyes", output="eyes.seen", events="eyes.told")
    fraud = Fraud(input="pay", output="pay.flags")
    document = asyncapi.document(Settings(kafka=kafka, fraud=fraud, labels=labels, vision=vision))
    assert document["servers"]["kafka"] == {"host": "one:9093", "protocol": "kafka-secure"}
    assert {each["address"] for each in document["channels"].values()} == {
        "pay", "pay.flags", "pay.flags.shadow", "pay.dead-letter", "pay.labels", "pay.outcomes",
        "pay.labels.dead-letter", "eyes", "eyes.seen", "eyes.told", "eyes.dead-letter",
    }  # fmt: skip


def test_files_are_written_into_a_folder(tmp_path: Path) -> None:
    written = run("schemas", "--output", tmp_path / "new").out.split()
    assert sorted(Path(name).name for name in written) == [
        "Comparison.schema.json",
        "FraudFlag.schema.json", "FraudLabel.schema.json", "FraudOutcome.schema.json", "Transaction.schema.json",
        "VideoDetections.schema.json", "VideoEvent.schema.json", "asyncapi.json",
    ]  # fmt: skip
    assert all(json.loads(Path(name).read_text()) for name in written)
    run("schemas", "--output", tmp_path / "some", "--format", "asyncapi")
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["asyncapi.json"]
    (tmp_path / "file").touch()
    assert "writing schemas to" in run("schemas", "--output", tmp_path / "file" / "x", code=1).error
