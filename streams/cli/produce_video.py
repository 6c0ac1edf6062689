"""`headrace produce video`: push a camera's frames into a topic, from files, streams and cameras."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from streams.cli.console import DEFAULT_PARTITIONS, Finite, Meter, run, stop_on_signal, summary
from streams.cli.losses import losses

if TYPE_CHECKING:
    from connectors.video import VideoFrame, VideoSource
    from streams.producing import EventProducer, Pace
    from streams.settings import Settings


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    metavar="SOURCE",
    help="A video file, a folder of pictures or one, rtsp://…, http://… or camera:0.",
)
@click.option("--camera", metavar="ID", default="camera-1", show_default=True, help="Whose frames they are: the key.")
@click.option(
    "--fps",
    type=Finite(0, 1000),
    default=0,
    help="At most so many frames a second; of pictures, exactly so many.  [all; of pictures 10]",
)
@click.option(
    "--width",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="PIXELS",
    help="Make wider frames so wide, the height in proportion.  [as they are]",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=85,
    show_default=True,
    help="Of frames that are encoded as JPEG here.",
)
@click.option(
    "--speed",
    type=Finite(0, min_open=True),
    default=1,
    show_default=True,
    help="Play files so many times as fast as they were filmed.",
)
@click.option("--fast", is_flag=True, help="Play files as fast as the broker takes them.")
@click.option("--topic", help="Where they go.  [vision.input: video.frames]")
@click.option(
    "--create", is_flag=True, help="Create the topic where it does not exist, with 4 partitions and room for pictures."
)
@click.option("--count", type=click.IntRange(0), default=0, help="End after so many frames.  [no limit]")
@click.option("--seconds", type=Finite(0), default=0, help="End after so many seconds.  [no limit]")
def video(
    source: str,
    camera: str,
    fps: float,
    width: int,
    quality: int,
    speed: float,
    fast: bool,
    topic: str | None,
    create: bool,
    count: int,
    seconds: float,
) -> None:
    """Push a camera's frames, keyed by its id.

    Files are played at the speed they were filmed. A stream or a camera that fails is connected again, first after half
    a second, then ever less often; while the broker is slower than a camera, the newest frames go. JPEG goes through
    byte for byte (pictures, Motion JPEG) unless --width makes it smaller; all else is encoded as JPEG. Passwords in
    addresses are never shown. What cannot be decoded is left out and counted, and of a film that is cut off it is said
    where. Ctrl-C ends in order: what was sent is acknowledged first.

    \b
    Examples:
      headrace produce video --from gate.mp4 --camera gate --create
      headrace produce video --from rtsp://user:password@10.0.0.5/stream1 --camera yard --fps 10 --width 1280
      headrace produce video --from http://10.0.0.7/video.mjpg --camera dock
      headrace produce video --from pictures/ --fps 2 --camera archive
      headrace produce video --from camera:0 --camera desk --seconds 60
      headrace produce video --from yesterday.mkv --camera gate --fast
    """  # fmt: skip
    from connectors.video import Wanted, open_video
    from streams import settings
    from streams.clock import SystemClock
    from streams.producing import Pace

    if not camera:
        raise click.BadParameter("expected an id, got nothing", param_hint="'--camera'")
    loaded, clock = settings.load(), SystemClock()
    wanted = Wanted(fps, width, quality)
    with open_video(source, lambda: int(clock.time() * 1000), wanted, speed=0.0 if fast else speed) as opened:
        job = _Job(
            loaded,
            topic or loaded.vision.input,
            create,
            Pace(0, count, seconds),
            opened,
            camera,
            not fast or opened.live,
        )
        run(job.run())


@dataclass(frozen=True)
class _Job:
    settings: Settings
    topic: str
    create: bool
    pace: Pace
    source: VideoSource
    camera: str
    at_once: bool

    async def run(self) -> None:
        """Everything from the look at the topic to the summary, which is printed after a failure, too."""
        from streams.errors import HeadraceError
        from streams.pipelines import PIPELINES
        from streams.producing import EventProducer
        from streams.topics import find

        wanted = replace(PIPELINES["vision"].topics(self.settings)[0], name=self.topic)
        await find(self.settings.kafka, wanted, DEFAULT_PARTITIONS if self.create else None)
        started = time.perf_counter()
        limit_s = self.settings.worker.broker_timeout_s
        async with EventProducer(self.settings.kafka, self.topic, limit_s) as producer:
            try:
                await self._relay(producer)
            finally:
                self._summarise(producer, time.perf_counter() - started)
        if self.source.counters.failures and not self.source.counters.frames:
            raise HeadraceError(f"{self.camera} gave no frame, so nothing was sent; why stands above")

    async def _relay(self, producer: EventProducer) -> None:
        from streams.frames import relay

        counters = self.source.counters
        first_ms: int | None = None
        total = self.source.total_s or (float(self.pace.count) or None)
        with stop_on_signal() as stop, Meter("frames", total) as meter:

            def show(frame: VideoFrame) -> None:
                nonlocal first_ms
                at_ms = frame.event_time_ms
                first_ms = at_ms if first_ms is None else first_ms
                done = (at_ms - first_ms) / 1000 if self.source.total_s else float(counters.frames)
                meter.show(counters.frames, done)

            await relay(producer, self.source, self.camera, self.pace, stop, at_once=self.at_once, on_frame=show)

    def _summarise(self, producer: EventProducer, seconds: float) -> None:
        counters, sent = self.source.counters, producer.acknowledged
        text = (
            f"{sent:,} frames of {self.camera} to {self.topic} in {seconds:.1f} s ({sent / max(seconds, 1e-9):,.1f}/s)"
        )
        if producer.sent != sent:
            text += f"; {producer.sent - sent:,} more were sent, but not acknowledged"
        if counters.thinned:
            text += f"; {counters.thinned:,} left out by --fps"
        if counters.shed:
            text += f"; {counters.shed:,} left out because the broker was too slow"
        if counters.failures:
            text += f"; connections lost or refused: {counters.failures:,}"
        summary(text + losses(counters))
