"""A worker that ends while it loads a version does not wait for that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LOADING = """
import asyncio, threading
from streams.processor import Processor
from streams.serving import ModelSwitch
from streams.settings import Settings
from streams.telemetry import Telemetry
from tests.counting import CountingPipeline

class Slow(CountingPipeline):
    rollout_of = "counting"
    begun = threading.Event()

    def open(self, version, sha256):
        self.begun.set()
        threading.Event().wait()

async def main():
    processor = Processor(Slow("events", "counts"))
    switch = ModelSwitch(processor, Settings(), None, Telemetry("counting"), "one", lambda: None)
    loading = asyncio.create_task(switch._open(2, ""))
    await asyncio.to_thread(Slow.begun.wait)
    loading.cancel()
    await switch.stop()

asyncio.run(main())
"""


def test_a_version_that_is_being_loaded_keeps_no_process_from_its_end() -> None:
    assert subprocess.run([sys.executable, "-c", LOADING], cwd=ROOT, timeout=20, check=False).returncode == 0
