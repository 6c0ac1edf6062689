"""The demo's page, as a browser gets it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import aiohttp
import numpy as np
from numpy.typing import NDArray

from models.vision.drawing import Outline
from models.vision.pictures import decode
from streams.demo.cameras import SiteView
from streams.demo.page import Page
from tests.streams.demo.answers import BOX, GREY, HEIGHT, WIDTH, event, found, site, thing


def _browse(view: SiteView, scenario: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Page(view) as page:
            assert page.url is not None
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", page.url)
            async with aiohttp.ClientSession(page.url) as session:
                await scenario(session)
        assert page.url is None

    asyncio.run(asyncio.wait_for(run(), 30))


def _seen() -> SiteView:
    view = site("gate", "dock")
    view.cameras["gate"].zones = (Outline("lane", [(0.7, 0.1), (0.95, 0.1), (0.95, 0.4), (0.7, 0.4)]),)
    view.cameras["gate"].send(4, GREY, now=0.0)
    view.answer([found("gate", 4, thing("person", 3))], 0.04)
    return view


async def _picture(session: aiohttp.ClientSession, camera: str) -> NDArray[np.uint8]:
    async with session.get(f"/cameras/{camera}.jpg?frame=4") as response:
        assert (response.status, response.content_type) == (200, "image/jpeg")
        assert response.headers["Cache-Control"] == "no-store"
        return decode(await response.read()).pixels


def test_it_needs_nothing_from_elsewhere() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        async with session.get("/") as response:
            assert (response.status, response.content_type) == (200, "text/html")
            html = await response.text()
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "headrace demo" in html
        assert re.findall(r"https?://|@import|url\(|<script[^>]+src", html) == []

    _browse(site("gate"), scenario)


def test_a_cameras_picture_has_its_objects_and_its_zones_drawn_onto_the_frame_that_was_sent() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        pixels = await _picture(session, "gate")
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        grey = decode(GREY).pixels.astype(int)
        off = np.abs(pixels - grey).max(axis=2)
        x1, y1, x2, y2 = map(round, BOX)
        for edge in (off[y1 + 15 : y2, x1], off[y1 + 15 : y2, x2], off[y2, x1:x2]):
            assert (edge > 30).mean() > 0.9
        assert off[y1 + 15 : y2 - 5, x1 + 6 : x2 - 5].max() < 30
        assert (off[18:40, 118:146] > 8).mean() > 0.9  # the zone's veil
        assert off[80:, 100:].max() < 30

    _browse(_seen(), scenario)


def test_a_picture_is_drawn_once_and_anew_for_the_next_frame() -> None:
    view = _seen()

    async def scenario(session: aiohttp.ClientSession) -> None:
        first, again = await asyncio.gather(_picture(session, "gate"), _picture(session, "gate"))
        assert np.array_equal(first, again)
        view.cameras["gate"].send(5, GREY, now=1.0)
        view.answer([found("gate", 5)], 1.1)
        assert not np.array_equal(first, await _picture(session, "gate"))

    _browse(view, scenario)


def test_there_is_no_picture_of_a_camera_without_frames_nor_of_an_unknown_one() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        for path in ("/cameras/dock.jpg", "/cameras/attic.jpg", "/cameras/", "/page.html"):
            async with session.get(path) as response:
                assert response.status == 404, path

    _browse(_seen(), scenario)


def test_the_state_has_figures_objects_and_the_newest_alerts_first() -> None:
    view = _seen()
    view.tell([event("new"), event("zone", zone="lane", action="enter")])

    async def scenario(session: aiohttp.ClientSession) -> None:
        async with session.get("/state") as response:
            state = await response.json()
        assert (state["p50_ms"], state["p99_ms"], state["dropped"]) == (40.0, 40.0, 0)
        assert state["cameras"] == [
            {"id": "gate", "style": "yard", "frame": 4, "objects": {"person": 1}},
            {"id": "dock", "style": "yard", "frame": None, "objects": {}},
        ]
        assert [(each["text"], each["weight"]) for each in state["alerts"]] == [
            ("person #3 enters lane", "notice"),
            ("person #3 appears", "quiet"),
        ]

    _browse(view, scenario)


def test_before_the_first_frame_there_are_no_figures() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        async with session.get("/state") as response:
            state = await response.json()
        assert (state["fps"], state["p50_ms"], state["alerts"]) == (0.0, None, [])

    _browse(site("gate"), scenario)
