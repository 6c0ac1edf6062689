"""Sources of frames: what they give out, when it was taken, and what they say when they cannot."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from connectors.video import Backoff, Counters, VideoError, VideoFrame, VideoSource, Wanted, masked, open_video
from connectors.video_frames import Thinning
from tests.connectors.cameras import film, http_camera, jpeg, number_of, picture
from tests.connectors.rtsp import rtsp_camera

NOON_MS = 1_700_000_000_000
FILM = Path(__file__).parents[2].parent / "shared/data/detection/video/bottle-detection.mp4"
SOON = Backoff(0.01, 0.05)


def noon() -> int:
    return NOON_MS


def fast(source: object, wanted: Wanted | None = None) -> VideoSource:
    return open_video(str(source), noon, wanted or Wanted(), speed=0)


def all_of(source: object, wanted: Wanted | None = None) -> list[VideoFrame]:
    with fast(source, wanted) as opened:
        return list(opened)


def size_of(value: bytes) -> tuple[int, int]:
    pixels = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels.shape[1], pixels.shape[0]


# Files


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.mkv", "libx264"), ("a.avi", "mjpeg")])
def test_a_film_gives_all_its_frames_in_order(tmp_path: Path, name: str, codec: str) -> None:
    frames = all_of(film(tmp_path / name, 30, codec=codec))
    assert [frame.frame for frame in frames] == list(range(30))
    assert [number_of(frame.value) for frame in frames] == [number % 16 for number in range(30)]
    assert {frame.content_type for frame in frames} == {"image/jpeg"}
    assert [frame.event_time_ms - frames[0].event_time_ms for frame in frames] == [number * 50 for number in range(30)]


def test_a_film_played_at_once_ends_at_the_present(tmp_path: Path) -> None:
    frames = all_of(film(tmp_path / "a.mp4", 40))
    assert frames[0].event_time_ms == NOON_MS - 2000
    assert frames[-1].event_time_ms < NOON_MS


def test_a_film_played_as_it_was_filmed_begins_at_the_present_and_takes_its_time(tmp_path: Path) -> None:
    started = time.monotonic()
    with open_video(str(film(tmp_path / "a.mp4", 9)), noon) as source:
        times = [frame.event_time_ms for frame in source]
    assert times == [NOON_MS + number * 50 for number in range(9)]
    assert time.monotonic() - started >= 0.4


def test_a_film_that_is_closed_stops_at_once(tmp_path: Path) -> None:
    with open_video(str(film(tmp_path / "a.mp4", 30)), noon, speed=0.001) as source:
        frames = iter(source)
        assert next(frames).frame == 0
        threading.Timer(0.1, source.close).start()
        assert next(frames, None) is None


def test_fewer_frames_a_second_are_spread_evenly(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 40, fps=20)
    assert [frame.frame for frame in all_of(path, Wanted(fps=5))] == list(range(0, 40, 4))
    assert len(all_of(path, Wanted(fps=100))) == 40
    with fast(path, Wanted(fps=5)) as source:
        assert len(list(source)) == source.counters.frames == 10
        assert source.counters.thinned == 30


def test_thinning_follows_a_source_that_starts_again() -> None:
    choose = Thinning(2.0, Counters())
    assert [choose(time_s) for time_s in (0, 0.3, 0.5, 0.9, 7, 7.2, 0.1, 0.2)] == [1, 0, 1, 0, 1, 0, 1, 0]


def test_a_wide_film_is_made_smaller_and_a_small_one_is_not_made_larger(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 2, size=(160, 120))
    assert size_of(all_of(path, Wanted(width=80))[0].value) == (80, 60)
    assert size_of(all_of(path, Wanted(width=500))[0].value) == (160, 120)
    assert number_of(all_of(path, Wanted(width=80))[1].value) == 1


def test_quality_is_what_a_frame_costs(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 2, size=(320, 240))
    assert len(all_of(path, Wanted(quality=95))[0].value) > 1.3 * len(all_of(path, Wanted(quality=20))[0].value)


def test_motion_jpeg_goes_through_byte_for_byte(tmp_path: Path) -> None:
    values = [jpeg(number) for number in range(12)]
    path = tmp_path / "a.mjpeg"
    path.write_bytes(b"".join(values))
    assert [frame.value for frame in all_of(path)] == values
    assert [frame.value for frame in all_of(path, Wanted(width=64))] == values
    assert [size_of(frame.value) for frame in all_of(path, Wanted(width=32))] == [(32, 24)] * 12


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_film_of_a_turned_camera_is_shown_upright(tmp_path: Path, codec: str, turned: int) -> None:
    path = film(tmp_path / "a.mov", 3, codec=codec, size=(160, 120), turned=turned)
    reader = cv2.VideoCapture(str(path))
    frames = all_of(path, Wanted(quality=95))
    assert len(frames) == 3
    for frame in frames:
        good, expected = reader.read()
        assert good
        found = cv2.imdecode(np.frombuffer(frame.value, np.uint8), cv2.IMREAD_COLOR)
        assert found is not None and found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 3
    width, height = size_of(all_of(path, Wanted(width=60))[0].value)
    assert (width, height) == ((60, 80) if turned % 180 else (60, 45))


def test_a_film_that_is_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = all_of(path)
    assert 10 < len(frames) < 40
    assert [number_of(frame.value) for frame in frames[:10]] == list(range(10))


@pytest.mark.skipif(not FILM.exists(), reason="needs the film in ../shared/data")
def test_a_real_film_is_what_opencv_reads() -> None:
    reader = cv2.VideoCapture(str(FILM))
    with fast(FILM, Wanted(quality=100)) as source:
        assert source.total_s == pytest.approx(39.85, abs=0.01)
        for frame in itertools.islice(source, 20):
            good, expected = reader.read()
            assert good
            found = cv2.imdecode(np.frombuffer(frame.value, np.uint8), cv2.IMREAD_COLOR)
            assert np.abs(found.astype(int) - expected).mean() < 1.5


# Pictures


def test_a_folder_is_read_in_natural_order_byte_for_byte(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100, 2):
        cv2.imwrite(str(tmp_path / f"shot{number}.png"), picture(number))
    (tmp_path / "shot3.JPG").write_bytes(jpeg(3))
    (tmp_path / "shot4.jpg").write_bytes(b"damaged, and no business of ours")
    (tmp_path / "notes.txt").write_text("no picture")
    frames = all_of(tmp_path, Wanted(fps=4))
    names = ["shot1.png", "shot2.png", "shot3.JPG", "shot4.jpg", "shot9.png", "shot10.png", "shot100.png"]
    assert [frame.value for frame in frames] == [(tmp_path / name).read_bytes() for name in names]
    assert [frame.content_type for frame in frames[:3]] == ["image/png", "image/png", "image/jpeg"]
    assert [frame.event_time_ms - frames[0].event_time_ms for frame in frames] == [number * 250 for number in range(7)]


def test_pictures_are_made_smaller_where_they_are_wider(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), picture(5, 320, 240))
    cv2.imwrite(str(tmp_path / "2.png"), picture(6, 100, 50))
    first, second = all_of(tmp_path, Wanted(width=160))
    assert (size_of(first.value), first.content_type, number_of(first.value)) == ((160, 120), "image/jpeg", 5)
    assert second.value == (tmp_path / "2.png").read_bytes()
    (tmp_path / "3.jpg").write_bytes(b"")
    with pytest.raises(VideoError, match=r"3\.jpg: expected a picture"):
        all_of(tmp_path, Wanted(width=160))


def test_a_picture_alone_is_a_film_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "one.jpeg"
    path.write_bytes(jpeg(3))
    assert [frame.value for frame in all_of(path)] == [jpeg(3)]


# What cannot be opened


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.mp4", None, "there is no such file or folder"),
        ("empty.mp4", b"", "expected a video, got an empty file"),
        ("text.mp4", b"not a film at all" * 100, "Invalid data"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n", "opening .*list.m3u8"),
    ],
)
def test_what_is_no_film_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=message):
        all_of(tmp_path / name)


def test_a_file_of_sound_alone_is_named(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    with pytest.raises(VideoError, match="expected a video, got audio alone"):
        all_of(tmp_path / "a.wav")


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="expected pictures"):
        all_of(tmp_path)


def test_a_camera_is_asked_for_by_its_number() -> None:
    with pytest.raises(VideoError, match=r"expected camera:NUMBER, got 'camera:x'"):
        open_video("camera:x", lambda: 0)


@pytest.mark.parametrize("source", ["camera:77", "ftp://a:b@host/x", "file:///etc/passwd"])
def test_other_places_are_refused_in_words(source: str) -> None:
    with pytest.raises(VideoError, match=r"camera:77|expected one of rtsp") as caught:
        open_video(source, noon)
    assert "a:b" not in str(caught.value)


# Live


def test_a_stream_is_connected_again_and_its_frames_go_on(caplog: pytest.LogCaptureFixture) -> None:
    sessions = [[jpeg(number) for number in range(3)], [jpeg(number) for number in range(3, 6)]]
    with http_camera(sessions) as address, open_video(address, noon, backoff=SOON) as source:
        assert source.live
        frames = list(itertools.islice(source, 4))
        assert source.counters.connects == 2
    assert [frame.value for frame in frames] == [jpeg(number) for number in range(4)]
    assert [frame.frame for frame in frames] == [0, 1, 2, 3]
    assert {frame.event_time_ms for frame in frames} == {NOON_MS}
    assert "trying again in" in caplog.text
    assert source.counters.failures >= 1


def test_an_rtsp_camera_is_decoded_and_connected_again(caplog: pytest.LogCaptureFixture) -> None:
    with rtsp_camera(30) as address, open_video(address, noon, backoff=SOON) as source:
        frames = list(itertools.islice(source, 40))
        assert source.counters.connects >= 2
    numbers = [frame.frame for frame in frames]
    assert numbers == sorted(set(numbers))
    assert all(number_of(frame.value) == frame.frame % 30 % 16 for frame in frames)
    assert "secret" not in caplog.text


def test_credentials_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with http_camera([[jpeg(0)] * 3]) as address, open_video(address, noon, backoff=SOON) as source:
        assert next(iter(source)).frame == 0
        while source.counters.failures < 3:
            time.sleep(0.01)
    for text in (caplog.text, source.name, repr(source)):
        assert "secret" not in text
        assert "hidden" not in text
    assert "http://***@127.0.0.1" in caplog.text


def test_a_stream_that_refuses_us_for_good_is_an_error_without_credentials() -> None:
    with http_camera([]) as address, pytest.raises(VideoError) as caught:
        wrong = address.replace("http://", "https://")
        with open_video(wrong, noon, backoff=SOON) as source:
            next(iter(source))
    assert "secret" not in str(caught.value)
    assert "***@" in str(caught.value)


def test_a_camera_that_is_not_up_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with open_video("rtsp://user:secret@127.0.0.1:9/x", noon, backoff=SOON) as source:
        while source.counters.failures < 3:
            time.sleep(0.01)
        source.close()
        assert list(source) == []
    assert "Connection refused; trying again in" in caplog.text
    assert "secret" not in caplog.text


def test_without_what_reads_films_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", 2)
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "connectors.video_container", raising=False)
    for source in (str(path), "rtsp://user:secret@127.0.0.1:9/x"):
        with pytest.raises(VideoError, match=r"films, streams and cameras need PyAV: pip install 'headrace\[video\]'"):
            open_video(source, noon)
    with open_video(str(tmp_path / "a.jpg"), noon, speed=0) as pictures:
        assert [frame.value for frame in pictures] == [jpeg(1)]


def test_a_slow_reader_gets_the_newest_frames() -> None:
    sessions = [[jpeg(number % 16) for number in range(30)]]
    with http_camera(sessions) as address, open_video(address, noon, backoff=Backoff(60)) as source:
        while source.counters.failures < 1:
            time.sleep(0.01)
        frames = list(itertools.islice(source, 4))
        assert [frame.frame for frame in frames] == [26, 27, 28, 29]
        assert (source.counters.frames, source.counters.shed) == (4, 26)


def test_the_wait_grows_to_a_limit_and_is_never_the_same_for_all() -> None:
    backoff = Backoff(0.5, 30)
    assert [backoff.delay_s(failures, 1.0) for failures in (1, 2, 3, 7, 500)] == [0.5, 1, 2, 30, 30]
    assert backoff.delay_s(3, 0.0) == 1.0


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:p@ss@10.0.0.5:554/a", "rtsp://***@10.0.0.5:554/a"),
        ("http://cam/video?user=a&pwd=b#x", "http://cam/video?user=***&pwd=***"),
        ("rtsp://cam/stream", "rtsp://cam/stream"),
    ],
)
def test_addresses_are_masked(address: str, shown: str) -> None:
    assert masked(address) == shown
