"""`headrace produce video` as a person types it: frames in a topic, byte for byte where they were JPEG."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import confluent_kafka
import confluent_kafka.admin
import cv2
import numpy as np
import pytest

from connectors.video import VideoError
from streams.errors import ProduceError, TopicError
from tests.conftest import Kafka, MakeTopics
from tests.connectors.cameras import film, http_camera, jpeg, number_of
from tests.streams.cli.conftest import Run, run


def records(kafka: Kafka, topic: str, count: int) -> list[confluent_kafka.Message]:
    """What an independent client finds, in the order of offsets."""
    client = confluent_kafka.Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    try:
        partitions = client.list_topics(topic, timeout=20).topics[topic].partitions
        client.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in partitions])
        found = client.consume(count, timeout=20)
        assert len(found) == count
        return found
    finally:
        client.close()


def headers_of(message: confluent_kafka.Message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers()}


def test_pictures_arrive_with_key_and_headers(
    headrace: Run, kafka: Kafka, make_topics: MakeTopics, tmp_path: Path
) -> None:
    (topic,) = make_topics("frames", partitions=3)
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    done = headrace("produce", "video", "--from", tmp_path, "--camera", "gate", "--topic", topic, "--fast", "--fps", 5)
    assert f"12 frames of gate to {topic}" in done.err
    found = records(kafka, topic, 12)
    assert [message.value() for message in found] == [jpeg(number) for number in range(12)]
    assert {message.key() for message in found} == {b"gate"}
    assert len({message.partition() for message in found}) == 1
    headers = [headers_of(message) for message in found]
    assert [each["frame"] for each in headers] == [str(number) for number in range(12)]
    assert {each["content-type"] for each in headers} == {"image/jpeg"}
    times = np.array([each["event-time"].removesuffix("Z") for each in headers], "datetime64[ms]")
    assert set(np.diff(times)) == {np.timedelta64(200, "ms")}


def test_a_film_is_thinned_made_smaller_and_cut(headrace: Run, kafka: Kafka, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 40, fps=20, size=(160, 120))
    topic = f"frames-{tmp_path.name}"
    done = headrace(
        *("produce", "video", "--from", path, "--topic", topic, "--create", "--fast"),
        *("--fps", 5, "--width", 80, "--count", 6),
    )
    assert "6 frames of camera-1" in done.err
    found = records(kafka, topic, 6)
    assert [headers_of(message)["frame"] for message in found] == ["0", "4", "8", "12", "16", "20"]
    pixels = cv2.imdecode(np.frombuffer(found[1].value(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (60, 80, 3)
    assert number_of(found[1].value()) == 4


def test_a_stream_is_relayed_as_it_comes(headrace: Run, kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("live")
    with http_camera([[jpeg(1), jpeg(2), jpeg(3)]]) as address:
        done = headrace("produce", "video", "--from", address, "--topic", topic, "--count", 3)
    assert [message.value() for message in records(kafka, topic, 3)] == [jpeg(1), jpeg(2), jpeg(3)]
    assert "secret" not in done.err


def test_seconds_end_a_stream_that_sends_nothing_with_an_error(headrace: Run, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("silent")
    address = "rtsp://a:secret@127.0.0.1:9/x"
    done = headrace("produce", "video", "--from", address, "--topic", topic, "--seconds", 0.3, code=1)
    assert "camera-1 gave no frame, so nothing was sent" in done.error
    assert "secret" not in done.err
    assert "0 frames of camera-1" in done.err
    assert "connections lost or refused: " in done.err


def test_a_frame_of_more_than_a_megabyte_fits_a_topic_made_here(headrace: Run, kafka: Kafka, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 1000, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    assert (tmp_path / "noise.png").stat().st_size > 2_000_000
    topic = f"large-{tmp_path.name}"
    headrace("produce", "video", "--from", tmp_path / "noise.png", "--topic", topic, "--create")
    assert records(kafka, topic, 1)[0].value() == (tmp_path / "noise.png").read_bytes()


def test_without_a_topic_it_is_the_pipelines_made_as_topics_create_makes_it(
    headrace: Run, kafka: Kafka, tmp_path: Path
) -> None:
    path, name = film(tmp_path / "a.mp4", 3), f"input-{tmp_path.name}"
    settings = {"VISION__INPUT": name, "VISION__MAX_VALUE_BYTES": "3000000"}
    done = headrace("produce", "video", "--from", path, "--fast", "--create", **settings)
    assert f"3 frames of camera-1 to {name}" in done.err
    other = {"VISION__INPUT": f"{name}-2", "VISION__MAX_VALUE_BYTES": "3000000"}
    headrace("topics", "create", "vision", **other)
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": kafka.bootstrap_servers})

    def largest(topic: str) -> int:
        resource = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.ResourceType.TOPIC, topic)
        return int(admin.describe_configs([resource])[resource].result(10)["max.message.bytes"].value)

    assert largest(name) == largest(f"{name}-2") > 3_000_000
    there = admin.list_topics(timeout=20).topics
    assert len(there[name].partitions) == len(there[f"{name}-2"].partitions)


def test_a_frame_that_a_topic_does_not_take_is_named(headrace: Run, make_topics: MakeTopics, tmp_path: Path) -> None:
    (topic,) = make_topics("narrow", config={"max.message.bytes": "1000"})
    path = film(tmp_path / "a.mp4", 3, size=(320, 240))
    done = headrace("produce", "video", "--from", path, "--topic", topic, code=1)
    assert isinstance(done.result.exception, ProduceError)
    assert "more than the topic takes; give --width" in done.error


def test_a_picture_that_a_topic_does_not_take_is_named_by_its_file(
    headrace: Run, make_topics: MakeTopics, tmp_path: Path
) -> None:
    (topic,) = make_topics("narrow", config={"max.message.bytes": "3000"})
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    cv2.imwrite(str(tmp_path / "2.png"), np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    done = headrace("produce", "video", "--from", tmp_path, "--topic", topic, code=1)
    size = (tmp_path / "2.png").stat().st_size
    assert f"the largest frame, 2.png, has {size:,} bytes, more than the topic takes" in done.error
    assert "files left out, whose names are not those of pictures: 1" in done.err


def test_a_film_that_is_cut_off_is_said_to_be(headrace: Run, make_topics: MakeTopics, tmp_path: Path) -> None:
    (topic,) = make_topics("frames")
    path = film(tmp_path / "a.mkv", 100, size=(160, 120))
    whole = headrace("produce", "video", "--from", path, "--topic", topic, "--fast")
    assert "the film ends" not in whole.err
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = headrace("produce", "video", "--from", path, "--topic", topic, "--fast")
    assert re.search(r"the film ends after \d\.\d s of the 5\.0 s that it should have", done.err)


def test_mistakes_are_sentences(headrace: Run, tmp_path: Path) -> None:
    missing = headrace("produce", "video", "--from", tmp_path / "none.mp4", code=1)
    assert isinstance(missing.result.exception, VideoError)
    assert "there is no such file" in missing.error
    path = film(tmp_path / "a.mp4", 3)
    topic = headrace("produce", "video", "--from", path, "--topic", "never-created", code=1)
    assert isinstance(topic.result.exception, TopicError)
    assert "or give --create" in topic.error
    assert "expected an id" in headrace("produce", "video", "--from", path, "--camera", "", code=2).err


@pytest.mark.parametrize(
    "option", [("--quality", 0), ("--quality", 101), ("--width", -1), ("--fps", -2), ("--speed", 0)]
)
def test_numbers_out_of_range_are_refused(option: tuple[str, int]) -> None:
    run("produce", "video", "--from", "x", *option, code=2)


def test_the_help_loads_neither_opencv_nor_ffmpeg() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from streams.cli.main import cli\n"
        "assert '--camera' in CliRunner().invoke(cli, ['produce', 'video', '--help']).output\n"
        "print([name for name in ('cv2', 'av', 'simplejpeg') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
