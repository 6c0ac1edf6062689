"""The one faust.App: its settings, and the agent that hands record batches to the runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faust

from streams.runner import Runner
from streams.settings import Settings
from streams.transport import Transport

# Polls between Faust's fetcher and the runner; the runner's own queue is counted in records.
BUFFERED_POLLS = 2


class App(faust.App):
    """Faust's application without its folders: state lives in a changelog, not on disk."""

    def _create_directories(self) -> None:
        """Nothing to create."""


class _AsItIs(faust.Schema):
    """Nothing to decode: what a message holds is a poll."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, **_: Any) -> Any:
            return create_event(None, message.value, None, message)

        return decode


def create_app(settings: Settings, group: str, input_topic: str, runner: Runner, tables: Any) -> App:
    """An application of one agent over one topic. Start and stop it like any Faust service.

    Args:
        group: the consumer group.
        tables: the table manager's class, of `recovery.state_manager`.
    """
    app = App(
        group,
        broker=[f"kafka://{server.strip()}" for server in settings.kafka.bootstrap_servers.split(",")],
        TableManager=tables,
        datadir=Path(),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_buffer_maxsize=BUFFERED_POLLS,
        stream_wait_empty=True,
        broker_commit_interval=settings.worker.commit_interval_s,
        broker_request_timeout=max(settings.kafka.request_timeout_s, settings.worker.session_timeout_s),
        broker_session_timeout=settings.worker.session_timeout_s,
    )
    transport = Transport(app.conf.broker_consumer, app)
    transport.settings, transport.flow = settings, runner
    app.transport = app.producer_transport = transport
    topic = app.topic(input_topic, schema=_AsItIs(), internal=False)

    @app.agent(topic, name=f"{group}.agent")
    async def deliver(stream: Any) -> None:
        # noack: Faust's iterator would acknowledge what it skips after a rebalance, and what a task is still computing.
        async for event in stream.noack().events():
            for received in event.value:
                await runner.offer(received, app.consumer)

    return app
