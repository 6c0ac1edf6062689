"""What a worker answers over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.errors import HeadraceError
from streams.health import Health, HealthServer, Phase
from streams.telemetry import Telemetry

HOST = "127.0.0.1"


def _serve(scenario: Callable[[aiohttp.ClientSession, Health, Telemetry], Awaitable[None]]) -> None:
    async def run() -> None:
        health, telemetry = Health(details={"model": "fraud/1"}), Telemetry("fraud")
        server = HealthServer(health, telemetry, HOST, 0)
        await server.start()
        try:
            async with aiohttp.ClientSession(f"http://{HOST}:{server.port}") as session:
                await scenario(session, health, telemetry)
        finally:
            await server.stop()

    asyncio.run(asyncio.wait_for(run(), 20))


async def _get(session: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with session.get(path) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


def test_a_worker_is_alive_from_the_start_and_ready_only_while_it_runs() -> None:
    async def scenario(session: aiohttp.ClientSession, health: Health, _: Telemetry) -> None:
        assert (await _get(session, "/health/live"))[0] == 200
        status, body = await _get(session, "/health/ready")
        assert (status, body["ready"], body["phase"]) == (503, False, "starting")
        phases: list[Phase] = ["restoring", "stalled", "stopped"]
        for phase in ("running", *phases):
            health.set(phase, f"because {phase}")
            status, body = await _get(session, "/health/ready")
            assert status == (200 if phase == "running" else 503)
            assert body == {
                "ready": phase == "running",
                "phase": phase,
                "reason": f"because {phase}",
                "model": "fraud/1",
            }
        assert (await _get(session, "/health/live"))[0] == 200

    _serve(scenario)


def test_stopped_is_final() -> None:
    health = Health()
    health.set("stopped", "too many dead letters")
    health.set("running", "4 partitions assigned")
    assert (health.ready, health.reason) == (False, "too many dead letters")


def test_metrics_are_served_in_prometheus_own_form() -> None:
    async def scenario(session: aiohttp.ClientSession, _: Health, telemetry: Telemetry) -> None:
        telemetry.add("headrace_records_out_total", 3)
        async with session.get("/metrics") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            families = {family.name for family in text_string_to_metric_families(await response.text())}
        assert "headrace_records_out" in families

    _serve(scenario)


def test_other_paths_are_not_found() -> None:
    async def scenario(session: aiohttp.ClientSession, _: Health, __: Telemetry) -> None:
        async with session.get("/health") as response:
            assert response.status == 404

    _serve(scenario)


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    async def run(port: int) -> None:
        server = HealthServer(Health(), Telemetry("fraud"), HOST, port)
        with pytest.raises(HeadraceError, match=rf"{HOST}:{port}.*worker\.http_port"):
            await server.start()
        await server.stop()

    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        asyncio.run(run(taken.getsockname()[1]))


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), (HOST, 70_000)])
def test_an_address_that_cannot_be_is_a_sentence_too(host: str, port: int) -> None:
    async def run() -> None:
        server = HealthServer(Health(), Telemetry("fraud"), host, port)
        with pytest.raises(HeadraceError, match=r"worker\.http_"):
            await server.start()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_server_can_be_stopped_before_it_was_started_and_twice() -> None:
    async def run() -> None:
        server = HealthServer(Health(), Telemetry("fraud"), HOST, 0)
        await server.stop()
        await server.start()
        await server.stop()
        await server.stop()

    asyncio.run(run())
