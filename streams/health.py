"""What a supervisor and Prometheus ask a worker over HTTP: is it alive, is it ready, its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec
from aiohttp import web

from streams.errors import HeadraceError
from streams.outages import OUTAGES
from streams.telemetry import Telemetry

Phase = Literal["starting", "restoring", "running", "stalled", "stopped"]


@dataclass(slots=True)
class Health:
    """A worker's phase and why; ready only while running."""

    phase: Phase = "starting"
    reason: str = "not assigned yet"
    details: dict[str, object] = field(default_factory=dict)

    def set(self, phase: Phase, reason: str) -> None:
        """Enter a phase; once stopped, it stays stopped."""
        if self.phase != "stopped":
            self.phase, self.reason = phase, reason

    @property
    def ready(self) -> bool:
        return self.phase == "running"


class HealthServer:
    """Serves `/health/live`, `/health/ready` and `/metrics`."""

    def __init__(self, health: Health, telemetry: Telemetry, host: str, port: int) -> None:
        self._health, self._telemetry = health, telemetry
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self.port = port

    async def start(self) -> None:
        """Listen. Port 0 picks a free one; `port` then says which.

        Raises:
            HeadraceError: the address cannot be bound.
        """
        app = web.Application()
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except (OSError, OverflowError) as error:  # the latter: a port above 65535
            await self.stop()
            raise HeadraceError(
                f"listening on {self._host}:{self._port} for /metrics and /health: "
                f"{getattr(error, 'strerror', None) or error}; "
                "set worker.http_port, or --http-port (0 picks a free one)"
            ) from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _live(self, request: web.Request) -> web.Response:
        return _json(200, {"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        health = self._health
        reason = "; ".join(filter(None, (health.reason, OUTAGES.told())))
        body = {"ready": health.ready, "phase": health.phase, "reason": reason, **health.details}
        return _json(200 if health.ready else 503, body)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._telemetry.expose(), headers={"Content-Type": self._telemetry.content_type})


def _json(status: int, body: dict[str, object]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
