"""The vision half of the demo: simulated cameras, what a worker sees in their frames, and a page that shows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec
from aiokafka import AIOKafkaConsumer

from connectors.video_frames import JPEG, VideoFrame
from models.vision.drawing import Outline
from streams.clock import SystemClock
from streams.demo import footage
from streams.demo.cameras import CameraView, SiteView
from streams.demo.figures import Figures
from streams.demo.footage import Footage
from streams.demo.home import CONFIG, consumer, until
from streams.demo.page import Page
from streams.demo.processes import WorkerProcess
from streams.demo.site import site
from streams.frames import headers
from streams.producing import EventProducer
from streams.schemas import VideoDetections, VideoEvent
from streams.settings import Settings

LAST_PREDICTIONS_TIMEOUT_S = 10.0


class VisionDemo:
    """Frames of simulated cameras through a vision worker.

    Args:
        started: when the demo did, by `time.perf_counter`.
        tell: called with one sentence a step while it starts and ends.
    """

    pipeline = "vision"

    def __init__(self, started: float, tell: Callable[[str], None]) -> None:
        place = site()
        cameras = [place.camera(number) for number in range(place.cameras)]
        self.view = SiteView([CameraView(camera.camera_id, camera.style) for camera in cameras])
        self.page = Page(self.view)
        self._names = [camera.camera_id for camera in cameras]
        self._started, self._tell = started, tell

    @property
    def figures(self) -> Figures:
        return self.view.figures

    async def run(self, settings: Settings, stop: asyncio.Event) -> None:
        """Start a worker, the cameras and the page, film and measure until `stop`, end it all.

        Raises:
            HeadraceError: something did not start, or the worker or the cameras ended by themselves.
        """
        kafka, vision = settings.kafka, settings.vision
        for camera in vision.cameras:
            self.view.cameras[camera.id].zones = tuple(Outline(zone.name, zone.polygon) for zone in camera.zones)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.page)
            worker = await stack.enter_async_context(WorkerProcess(self.pipeline, CONFIG, self._tell))
            frames = await stack.enter_async_context(footage.cameras())
            answers = await stack.enter_async_context(consumer(kafka, [vision.output, vision.events]))
            producer = await stack.enter_async_context(EventProducer(kafka, vision.input))
            await worker.until_ready(stop)
            if not stop.is_set():
                sending = self._send(frames, producer, stop)
                await worker.during(sending, self._receive(answers, vision.events))

    async def _send(self, frames: Footage, producer: EventProducer, stop: asyncio.Event) -> None:
        clock, stopped = SystemClock(), asyncio.create_task(stop.wait())
        try:
            while True:
                following = asyncio.create_task(frames.next())
                await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    following.cancel()
                    break
                taken = following.result()
                name = self._names[taken.camera]
                frame = VideoFrame(taken.jpeg, JPEG, taken.number, round(clock.time() * 1000))
                self.view.cameras[name].send(taken.number, taken.jpeg, time.perf_counter())
                await producer.send([name.encode()], [frame.value], [headers(frame)])
                await producer.push()
                self.figures.sent += 1
        finally:
            stopped.cancel()
        await until(lambda: not self.view.waiting, LAST_PREDICTIONS_TIMEOUT_S)

    async def _receive(self, answers: AIOKafkaConsumer, events_topic: str) -> None:
        seen, told = msgspec.json.Decoder(VideoDetections).decode, msgspec.json.Decoder(VideoEvent).decode
        while True:
            for partition, batches in (await answers.getmany(timeout_ms=200)).items():
                now = time.perf_counter()
                values = [value for batch in batches for value in batch.values]
                if partition.topic == events_topic:
                    self.view.tell([told(value) for value in values])
                else:
                    self._measure([seen(value) for value in values], now)

    def _measure(self, found: list[VideoDetections], now: float) -> None:
        self.view.answer(found, now)
        if self.figures.received and self.figures.first_s is None:
            self.figures.first_s = now - self._started
