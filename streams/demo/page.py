"""A page on 127.0.0.1 with the demo's cameras, what was found in their frames, and the latest alerts."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from connectors.jpeg import encode_jpeg
from models.vision.drawing import Drawing
from models.vision.pictures import decode
from streams.demo.cameras import Answered, CameraView, SiteView, shown

HOST = "127.0.0.1"
HTML = Path(__file__).with_name("page.html")
SHOWN_ALERTS = 60
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
}


class Page:
    """Serves the page while its context is open, at a port that is free.

    A frame is drawn when somebody asks for it, once, however many look at it.
    """

    def __init__(self, view: SiteView) -> None:
        self._view = view
        self._drawing = Drawing()
        self._drawn: dict[str, tuple[Answered, asyncio.Future[bytes]]] = {}
        self.url: str | None = None
        """Where it is; None while it is not."""

    async def __aenter__(self) -> Page:
        self._thread = ThreadPoolExecutor(1, "page")
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/state", self._state)
        app.router.add_get("/cameras/{camera}.jpg", self._picture)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.url = None
        await self._runner.cleanup()
        self._thread.shutdown()

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(body=HTML.read_bytes(), content_type="text/html", charset="utf-8", headers=HEADERS)

    async def _state(self, request: web.Request) -> web.Response:
        return web.Response(
            body=msgspec.json.encode(_state(self._view)), content_type="application/json", headers=HEADERS
        )

    async def _picture(self, request: web.Request) -> web.Response:
        camera = self._view.cameras.get(request.match_info["camera"])
        if camera is None or camera.latest is None:
            raise web.HTTPNotFound(text="there is no such camera, or no frame of it yet\n")
        drawn = await self._drawn_frame(camera, camera.latest)
        return web.Response(body=drawn, content_type="image/jpeg", headers=HEADERS)

    async def _drawn_frame(self, camera: CameraView, answered: Answered) -> bytes:
        drawn = self._drawn.get(camera.camera_id)
        if drawn is None or drawn[0] is not answered:
            loop = asyncio.get_running_loop()
            drawn = answered, loop.run_in_executor(self._thread, self._draw, camera, answered)
            self._drawn[camera.camera_id] = drawn
        return await asyncio.shield(drawn[1])  # others may wait for what one viewer gives up

    def _draw(self, camera: CameraView, answered: Answered) -> bytes:
        picture = decode(answered.jpeg)
        self._drawing.draw(picture.pixels, shown(answered.detections), camera.outlines(picture.width, picture.height))
        return encode_jpeg(picture.pixels)


def _state(view: SiteView) -> dict[str, Any]:
    """What the page shows beside the pictures."""
    p50, p99 = view.figures.recent_ms()
    cameras = [
        {
            "id": camera.camera_id,
            "style": camera.style,
            "frame": None if camera.latest is None else camera.latest.detections.frame,
            "objects": dict(sorted(camera.objects.items())),
        }
        for camera in view.cameras.values()
    ]
    return {
        "fps": view.figures.rate(time.perf_counter()),
        "p50_ms": p50,
        "p99_ms": p99,
        "dropped": view.dropped,
        "cameras": cameras,
        "alerts": list(view.alerts)[: -SHOWN_ALERTS - 1 : -1],
    }
