"""Options and fixtures of the chaos suite: how long, which guarantee, and a broker that may be hurt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from connectors.broker import Broker, BrokerSettings
from connectors.kafka_port import free_port
from tests.chaos.disks import SmallDisk
from tests.chaos.stage import Outcome, Plan, Stage
from tests.chaos.verdict import GUARANTEES
from tests.conftest import JARS
from tests.processes import Workers
from tests.processes import workers as workers

# Everything that Kafka does seldom is done often.
HASTY = {
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.backoff.ms": "200",
    "log.segment.delete.delay.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption(
        "--chaos-minutes",
        type=float,
        default=0.0,
        help="the long suite: the full doses and the negative controls, then random scenarios until so long has passed",
    )
    group.addoption("--chaos-guarantee", choices=GUARANTEES, help="only this one")
    group.addoption("--chaos-seed", type=int, default=606, help="of the first random scenario; each next one adds 1")
    group.addoption("--chaos-report", type=Path, help="append each outcome to this file, a JSON object a line")


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    minutes: float
    guarantees: Sequence[str]
    seed: int
    report: Path | None
    began: float

    @property
    def long(self) -> bool:
        return self.minutes > 0

    @property
    def left_s(self) -> float:
        """Until the time is up."""
        return self.began + 60 * self.minutes - time.monotonic()


@pytest.fixture(scope="session")
def chaos(pytestconfig: pytest.Config) -> Options:
    asked = pytestconfig.getoption("chaos_guarantee", default=None)
    return Options(
        pytestconfig.getoption("chaos_minutes", default=0.0),
        (asked,) if asked else GUARANTEES,
        pytestconfig.getoption("chaos_seed", default=606),
        pytestconfig.getoption("chaos_report", default=None),
        time.monotonic(),
    )


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk | str]:
    """A disk for the broker that can be made full, or why there is none."""
    try:
        disk = SmallDisk(tmp_path_factory.mktemp("chaos-kafka"))
    except OSError as error:
        yield str(error)
        return
    yield disk
    disk.unmount()


@pytest.fixture(scope="session")
def _chaos_broker(disk: SmallDisk | str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    home = disk.folder if isinstance(disk, SmallDisk) else tmp_path_factory.mktemp("chaos-kafka")
    broker = Broker(BrokerSettings(home=home, port=free_port(), jars=JARS, owned=True, properties=HASTY))
    try:
        yield broker
    finally:
        broker.stop(timeout_s=5)


@pytest.fixture
def broker(_chaos_broker: Broker) -> Broker:
    """The broker of the chaos suite, running: whoever kills it need not start it again."""
    _chaos_broker.start()
    return _chaos_broker


Enter = Callable[..., Stage]


@pytest.fixture
def enter(broker: Broker, workers: Workers, tmp_path: Path, chaos: Options) -> Iterator[Enter]:
    """Set a stage: `enter(Plan(...), seed=1, guarantees=...)`; the one before is closed."""
    entered: list[Stage] = []

    def make(plan: Plan, seed: int, guarantees: Sequence[str] | None = None) -> Stage:
        close()
        entered.append(Stage(broker, workers, tmp_path, guarantees or chaos.guarantees, plan, seed))
        entered[-1].begin()
        return entered[-1]

    def close() -> None:
        broker.start()  # or the producers' last words would wait for it
        for stage in entered:
            stage.close()
        entered.clear()

    yield make
    close()


Report = Callable[[Sequence[Outcome]], None]


@pytest.fixture
def report(chaos: Options) -> Report:
    """Tell the table about outcomes."""

    def tell(outcomes: Sequence[Outcome]) -> None:
        if chaos.report is not None:
            with chaos.report.open("a") as file:
                file.writelines(json.dumps(asdict(each)) + "\n" for each in outcomes)

    return tell
