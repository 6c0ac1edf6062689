"""The published contract: JSON Schema of every message, and an AsyncAPI document of all topics.

References:
    AsyncAPI specification 3.0.0; its Kafka bindings 0.5.0. JSON Schema, draft 2020-12.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from streams.deadletter import PREFIX, SUFFIX
from streams.rollout import SHADOW
from streams.schemas import (
    Comparison,
    FraudFlag,
    FraudLabel,
    FraudOutcome,
    Transaction,
    VideoDetections,
    VideoEvent,
)
from streams.settings import Settings

ASYNCAPI = "3.0.0"
BINDING = "0.5.0"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
MESSAGES = (Transaction, FraudFlag, FraudLabel, FraudOutcome, Comparison, VideoDetections, VideoEvent)

Document = dict[str, Any]

_OUTPUT_HEADERS: Mapping[str, str] = {
    "id": "<input topic>/<partition>/<offset>: the same input gives the same id, so a repeated record can be dropped",
    "model": "what predicted it, such as fraud/1",
    "engine": "what ran the model, such as onnx-cpu",
    "engine-reason": "which better engines did not, and why, in one line; absent where the best one did, or the one "
    "that was asked for",
}
_EVENT_HEADERS: Mapping[str, str] = {
    **_OUTPUT_HEADERS,
    "id": "<input topic>/<partition>/<offset>/<n>: the n-th event of that frame, so a repeated record can be dropped",
}
_FRAME_HEADERS: Mapping[str, str] = {
    "content-type": "image/jpeg, image/png or image/webp; what the bytes are decides",
    "frame": "its number, as the camera counts; without it, the record's offset",
    "event-time": "when it was taken, in RFC 3339 with an offset or milliseconds since the epoch; without it, the "
    "record's timestamp",
}
_SOMETIMES = {"engine-reason", *_FRAME_HEADERS}
_ERROR_HEADERS: Mapping[str, str] = {
    "stage": "where it failed: decode, features, infer, conclude or encode",
    "type": "the kind of error",
    "message": "expected and got",
    "topic": "where the record stood",
    "partition": "its partition there",
    "offset": "its offset there",
    "pipeline": "the pipeline that could not process it",
    "model": "the model that it had loaded",
    "attempts": "how often it has failed by now",
    "first-failed-at": "RFC 3339, UTC",
}


def json_schemas() -> dict[str, Document]:
    """Message name -> a JSON Schema that stands on its own."""
    schemas: dict[str, Document] = {}
    for message in MESSAGES:
        _, definitions = msgspec.json.schema_components([message], ref_template="#/$defs/{name}")
        # At the top stands the message itself, not a reference to it.
        body = definitions.pop(message.__name__)
        others = {"$defs": definitions} if definitions else {}
        schemas[message.__name__] = {"$schema": DIALECT, **body, **others}
    return schemas


def document(settings: Settings) -> Document:
    """The AsyncAPI document of the topics as these settings name them, seen from a worker: inputs are received."""
    _, schemas = msgspec.json.schema_components(MESSAGES, ref_template="#/components/schemas/{name}")
    fraud, labels, vision = settings.fraud, settings.labels, settings.vision
    messages = {
        "Transaction": _message("A card payment.", "Transaction", "card_id"),
        "FraudFlag": _message("The prediction for one transaction.", "FraudFlag", "card_id", _OUTPUT_HEADERS),
        "FraudLabel": _message("What a transaction turned out to be.", "FraudLabel", "card_id"),
        "FraudOutcome": _message(
            "A label, and the prediction that it belongs to.", "FraudOutcome", "card_id", _OUTPUT_HEADERS
        ),
        "Comparison": _message("What a challenger makes of an event, beside the champion.", "Comparison", "card_id"),
        "VideoFrame": _frame(),
        "VideoDetections": _message("What there is in a frame.", "VideoDetections", "camera_id", _OUTPUT_HEADERS),
        "VideoEvent": _message("Something that an operator wants to know.", "VideoEvent", "camera_id", _EVENT_HEADERS),
        "DeadLetter": _dead_letter(),
    }
    topics = {
        "transactions": (fraud.input, "receive", "Transaction", "Card payments; yours to produce."),
        "fraudFlags": (fraud.output, "send", "FraudFlag", "A prediction for every transaction, at least once."),
        "fraudFlagsShadow": (
            fraud.output + SHADOW,
            "send",
            "Comparison",
            "What a challenger makes of events; at most once.",
        ),
        "transactionsDeadLetter": (fraud.input + SUFFIX, "send", "DeadLetter", "What can never succeed, as it came."),
        "fraudLabels": (
            labels.input,
            "receive",
            "FraudLabel",
            "Chargebacks and analysts' decisions; yours to produce.",
        ),
        "fraudOutcomes": (labels.output, "send", "FraudOutcome", "What became of a transaction, for every label."),
        "fraudLabelsDeadLetter": (labels.input + SUFFIX, "send", "DeadLetter", "Labels that can never succeed."),
        "videoFrames": (vision.input, "receive", "VideoFrame", "Pictures of cameras; yours to produce."),
        "videoDetections": (
            vision.output,
            "send",
            "VideoDetections",
            "The objects or classes of every frame, but those that newer ones have overtaken under overload.",
        ),
        "videoEvents": (vision.events, "send", "VideoEvent", "Lives of objects, zones, unsafe distances."),
        "videoFramesDeadLetter": (vision.input + SUFFIX, "send", "DeadLetter", "Frames that can never succeed."),
    }
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Headrace",
            "version": version("headrace"),
            "description": "Streaming event processing for real-time inference: the topics and their messages.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": _server(settings)},
        "channels": {name: _channel(address, message, text) for name, (address, _, message, text) in topics.items()},
        "operations": {
            f"{action}{name[0].upper()}{name[1:]}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{message}"}],
            }
            for name, (_, action, message, _) in topics.items()
        },
        "components": {"schemas": schemas, "messages": messages},
    }


def _server(settings: Settings) -> Document:
    secure = settings.kafka.security_protocol != "PLAINTEXT"
    return {"host": settings.kafka.bootstrap_servers.split(",")[0], "protocol": "kafka-secure" if secure else "kafka"}


def _channel(address: str, message: str, text: str) -> Document:
    return {
        "address": address,
        "description": text,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topic": address, "bindingVersion": BINDING}},
    }


def _message(text: str, schema: str, key: str, headers: Mapping[str, str] | None = None) -> Document:
    message: Document = {
        "name": schema,
        "summary": text,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{schema}"},
        "bindings": _key({"type": "string", "description": f"{key}, UTF-8"}),
    }
    return message | ({"headers": _headers(headers)} if headers else {})


def _frame() -> Document:
    return {
        "name": "VideoFrame",
        "summary": "A picture of a camera: JPEG, PNG or WebP.",
        "contentType": "image/jpeg",
        "headers": _headers(_FRAME_HEADERS),
        "payload": {"description": "the picture's bytes"},
        "bindings": _key({"type": "string", "description": "camera_id, UTF-8"}),
    }


def _dead_letter() -> Document:
    return {
        "name": "DeadLetter",
        "summary": "A record that can never succeed: key, value and headers as they came, and why.",
        "contentType": "application/octet-stream",
        "headers": _headers({PREFIX + name: text for name, text in _ERROR_HEADERS.items()}),
        "payload": {"description": "the original value, byte for byte"},
        "bindings": _key({"description": "the original key, byte for byte"}),
    }


def _headers(names: Mapping[str, str]) -> Document:
    properties = {name: {"type": "string", "description": text} for name, text in names.items()}
    return {"type": "object", "properties": properties, "required": [name for name in names if name not in _SOMETIMES]}


def _key(schema: Document) -> Document:
    return {"kafka": {"key": schema, "bindingVersion": BINDING}}
