"""Frames through real Kafka to a worker whose model is a classifier: classes out, in order, and nothing beside."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from streams.promoting import Rollouts
from streams.rollout import Report, Rollout
from streams.settings import Kafka as KafkaSettings
from streams.settings import Models
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.processes import Workers
from tests.streams.vision import colours
from tests.streams.vision.colours import LABELS, noise, plain, png, scores
from tests.waiting import until

PARTITIONS, FRAMES = 2, 30
CAMERAS = (b"gate", b"yard")
SOON_S = 60.0


def frame(camera: int, number: int) -> tuple[int, bytes, bytes, verify.Headers]:
    picture = png(noise(100 * camera + number))
    return camera % PARTITIONS, CAMERAS[camera], picture, [("frame", str(number).encode())]


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_every_frame_is_answered_with_its_classes_in_order_or_is_a_dead_letter(
    guarantee: str, tmp_path: Path, kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("pictures", "classes", partitions=PARTITIONS)
    group, events, control = f"{source}-group", f"{source}-events", f"{source}-models"
    colours.save(tmp_path)
    detector = colours.save(tmp_path, version=2, task="detect")
    worker = workers.vision(
        group, vision__input=source, vision__output=output, vision__events=events, vision__freshness="every",
        vision__model="colours", vision__top=2, models__root=tmp_path, models__control=control,
        worker__processing_guarantee=guarantee,
    ).running()  # fmt: skip
    good = [frame(camera, number) for number in range(FRAMES) for camera in range(2)]
    bad = [(0, b"gate", b"no picture", []), (1, b"yard", png(plain(0, 0, 0)), [])]
    half = len(good) // 2
    verify.send(servers, source, [*good[:9], bad[0], *good[9:half], bad[1]])
    report = asyncio.run(_ask(servers, control, Rollout("colours", 2, detector.manifest.sha256)))
    assert report.serving == "colours/1"
    assert "expected the same task, 'classify', got 'detect'" in report.error
    verify.send(servers, source, good[half:])
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of everything")

    seen: dict[str, list[Any]] = defaultdict(list)
    for record in verify.read(servers, output):
        assert record.header("model") == b"colours/1"
        seen[(record.key or b"").decode()].append(json.loads(record.value or b""))
    for camera, name in enumerate(CAMERAS):
        messages = seen[name.decode()]
        assert [each["frame"] for each in messages] == list(range(FRAMES))
        for number, message in enumerate(messages):
            reckoned = scores(noise(100 * camera + number))
            best = sorted(range(len(LABELS)), key=lambda each, of=reckoned: (-of[each], each))[:2]
            assert [each["label"] for each in message["classes"]] == [LABELS[each] for each in best]
            assert [each["score"] for each in message["classes"]] == pytest.approx(reckoned[best].tolist(), abs=1e-4)
            assert (message["camera_id"], message["objects"]) == (name.decode(), [])
    letters = verify.read(servers, f"{source}.dead-letter")
    assert {(each.value, each.header("error.type")) for each in letters} == {
        (bad[0][2], b"PictureForeign"), (bad[1][2], b"NonFinite"),
    }  # fmt: skip
    until(lambda: worker.metric("headrace_records_out_total") == len(good), SOON_S, "the last acknowledgement")
    counted = [worker.metric(f"headrace_records_{what}_total") for what in ("in", "out", "dead_lettered")]
    assert counted == [len(good) + 2, len(good), 2]
    assert worker.metric("headrace_records_in_total") == len(verify.read(servers, source))
    there = AdminClient({"bootstrap.servers": servers}).list_topics(timeout=20).topics
    assert not {events, f"{group}.changelog"} & set(there)
    assert worker.stop() == 0


async def _ask(servers: str, control: str, rollout: Rollout) -> Report:
    """Ask for a version; returns what the worker says."""
    async with Rollouts(KafkaSettings(bootstrap_servers=servers), Models(control=control)) as rollouts:
        async for report in rollouts.reports(await rollouts.ask(rollout), SOON_S):
            return report
    raise AssertionError("the worker has not answered")
