"""Films that are damaged or cut off, and whole ones that must not be taken for such."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest

from connectors.video import Backoff, Counters, VideoError, Wanted, open_video
from tests.connectors.cameras import film, http_camera, http_server, jpeg
from tests.connectors.rtsp import rtsp_camera

FRAMES, FPS = 100, 20
SIZE = (160, 120)
SOON = Backoff(0.01, 0.05)


class Pipe(io.RawIOBase):
    """Where a muxer cannot come back to what it wrote."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("wb")

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, content: Any) -> int:
        return self._file.write(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def textured(
    path: Path,
    codec: str = "libx264",
    sound: str = "",
    sound_s: float = 9,
    uneven: bool = False,
    frames: int = FRAMES,
    start: int = 0,
    piped: bool = False,
    **options: str,
) -> Path:
    """Write a film of 20 frames a second that weighs enough to be damaged."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    scene = cast("np.ndarray[Any, np.dtype[np.uint8]]", cv2.resize(noise, SIZE))
    kind = {".mkv": "matroska"}.get(path.suffix, path.suffix[1:])
    with av.open(Pipe(path) if piped else str(path), "w", format=kind, options=options) as container:
        stream: Any = container.add_stream(codec, rate=25 if codec == "mpeg2video" else FPS)
        stream.width, stream.height = SIZE
        stream.gop_size = 10
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if uneven:
            stream.codec_context.time_base = Fraction(1, 1000)
        track: Any = container.add_stream(sound, rate=48000) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(scene, number * 3, 1), format="bgr24")
            frame.pts = number * 50 + number % 7 * 5 + 3000 * (number > 60) if uneven else number + start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None:
            context = track.codec_context
            samples = context.frame_size or 1024
            planar = context.format.is_planar
            shape = (context.layout.nb_channels, samples) if planar else (1, samples * context.layout.nb_channels)
            kind_of = np.float32 if context.format.name.startswith("flt") else np.int16
            for at in range(0, int(sound_s * 48000), samples):
                piece = av.AudioFrame.from_ndarray(
                    np.zeros(shape, kind_of), format=context.format.name, layout=context.layout.name
                )
                piece.sample_rate, piece.pts = 48000, at
                container.mux(track.encode(piece))
            container.mux(track.encode())
    return path


def read(source: object, wanted: Wanted | None = None) -> tuple[int, Counters]:
    """How many frames came, and what was counted."""
    with open_video(str(source), lambda: 0, wanted or Wanted(), speed=0) as opened:
        return len(list(opened)), opened.counters


def cut(path: Path, share: float = 0.5) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def with_noise(path: Path, length: int = 20_000) -> Path:
    content = path.read_bytes()
    at = len(content) // 2
    path.write_bytes(content[:at] + np.random.default_rng(1).bytes(length) + content[at + length :])
    return path


WHOLE: dict[str, dict[str, Any]] = {
    "a.mp4": {},
    "index-first.mp4": {"movflags": "+faststart"},
    "fragments.mp4": {"movflags": "+frag_keyframe+empty_moov"},
    "a.mov": {},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx"},
    "a.avi": {"codec": "mpeg4"},
    "motion-jpeg.avi": {"codec": "mjpeg"},
    "uneven.mp4": {"uneven": True},
    "uneven.mkv": {"uneven": True},
    "uneven.webm": {"codec": "libvpx", "uneven": True},
    "late.mp4": {"start": 400},
    "late.mkv": {"start": 400},
    "longer-sound.mp4": {"sound": "aac"},
    "longer-sound.mov": {"sound": "aac"},
    "longer-sound.mkv": {"sound": "aac"},
    "longer-sound.webm": {"codec": "libvpx", "sound": "libopus"},
    "longer-sound.avi": {"codec": "mpeg4", "sound": "mp2"},
    "shorter-sound.mkv": {"sound": "aac", "sound_s": 1},
    "shorter-sound.mp4": {"sound": "aac", "sound_s": 1},
    "piped.mkv": {"piped": True},
    "piped-sound.mkv": {"codec": "mpeg4", "sound": "pcm_s16le", "piped": True},
    "piped.webm": {"codec": "libvpx", "piped": True},
    "piped.avi": {"codec": "mpeg4", "piped": True},
    "piped.mp4": {"movflags": "+frag_keyframe+empty_moov+default_base_moof", "piped": True},
    "a.flv": {},
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_film_is_neither_damaged_nor_cut_off(tmp_path: Path, name: str) -> None:
    path = textured(tmp_path / name, **WHOLE[name])
    for wanted in (Wanted(), Wanted(fps=2)):
        frames, counters = read(path, wanted)
        assert (counters.damaged, counters.cut_off) == (0, None)
        assert frames + counters.thinned == FRAMES


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_short_film_is_whole(tmp_path: Path, name: str, frames: int) -> None:
    assert read(textured(tmp_path / name, frames=frames)) == (frames, _counted(frames, tmp_path / name))


def _counted(frames: int, path: Path) -> Counters:
    with open_video(str(path), lambda: 0, speed=0) as opened:
        values = [frame.value for frame in opened]
    assert len(values) == frames
    return Counters(frames=frames, frames_bytes=sum(map(len, values)))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {"movflags": "+faststart"}),
        ("a.mov", {"movflags": "+faststart"}),
        ("a.mkv", {}),
        ("sound.mkv", {"sound": "aac", "sound_s": 5}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("motion-jpeg.avi", {"codec": "mjpeg"}),
    ],
)
def test_a_film_that_is_cut_off_says_where(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    path = cut(textured(tmp_path / name, **how))
    frames, counters = read(path)
    assert 10 < frames < 80
    assert counters.cut_off is not None
    assert counters.cut_off.of_s == pytest.approx(5, abs=0.05)
    assert counters.cut_off.at_s == pytest.approx(frames / FPS, abs=0.3)


def test_who_stops_reading_does_not_find_a_film_cut_off(tmp_path: Path) -> None:
    path = cut(textured(tmp_path / "a.mkv"))
    with open_video(str(path), lambda: 0, speed=0) as opened:
        assert len(list(itertools.islice(opened, 5))) == 5
    assert opened.counters.cut_off is None


def test_all_frames_that_damage_costs_are_counted(tmp_path: Path) -> None:
    path = with_noise(textured(tmp_path / "a.mp4"))
    frames, counters = read(path)
    assert 0 < frames < FRAMES
    assert counters.damaged == FRAMES - frames
    assert counters.cut_off is None


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_damage_is_counted_in_containers_that_skip_it(tmp_path: Path, name: str, codec: str) -> None:
    frames, counters = read(with_noise(textured(tmp_path / name, codec)))
    assert 0 < counters.damaged <= FRAMES - frames


def test_live_streams_are_never_cut_off() -> None:
    for camera in (http_camera([[jpeg(number) for number in range(3)]] * 3), rtsp_camera(30)):
        with camera as address, open_video(address, lambda: 0, backoff=SOON) as source:
            assert source.live
            frames = iter(source)
            while source.counters.connects < 2:
                next(frames)
        assert source.counters.cut_off is None


def test_a_film_from_a_host_is_judged_as_one_of_this_machine(tmp_path: Path) -> None:
    content = textured(tmp_path / "a.mkv").read_bytes()
    with http_files({"/whole": (content, True), "/half": (content[: len(content) // 2], True)}) as root:
        assert read(f"{root}/whole")[1].cut_off is None
        assert read(f"{root}/half")[1].cut_off is not None


# What is no film


def test_a_file_that_is_no_film_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "coco.names").write_text("person\nbicycle\n" * 40)
    with pytest.raises(VideoError, match=r"expected a film, or a picture named \.jpg, .*FFmpeg finds no film in it"):
        read(tmp_path / "coco.names")


@pytest.mark.parametrize(("options", "share"), [({}, 0.9), ({}, 0.4), ({"movflags": "+faststart"}, 0.01)])
def test_an_mp4_without_its_index_is_named(tmp_path: Path, options: dict[str, Any], share: float) -> None:
    path = cut(textured(tmp_path / "a.mp4", **options), share)
    with pytest.raises(VideoError, match=r"without its index.* cut off, or still being written"):
        read(path)


def test_an_mp4_of_nonsense_is_not_said_to_be_cut_off(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", 3)
    (tmp_path / "a.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(VideoError, match="expected a film"):
        read(tmp_path / "a.mp4")


@contextmanager
def http_files(files: dict[str, tuple[bytes, bool]]) -> Iterator[str]:
    """A server of files; each says its length or does not."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, measured = files[self.path]
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            if measured:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http_server(Handler) as place:
        yield f"http://{place}"


@pytest.mark.parametrize("measured", [True, False])
def test_a_web_page_is_an_answer_that_is_no_video(measured: bool) -> None:
    page = b"<html><body>" + b"Welcome. " * 400 + b"</body></html>"
    answered = pytest.raises(VideoError, match="the host answered, but what it sends is no video")
    with http_files({"/page": (page, measured)}) as root, answered as caught:
        open_video(f"{root}/page", lambda: 0)
    assert "no such host" not in str(caught.value)


def test_a_host_that_is_not_there_is_named() -> None:
    with pytest.raises(VideoError, match=r"there is no such host$"):
        open_video("http://no-such-host.invalid/a.mp4", lambda: 0)
