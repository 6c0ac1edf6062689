"""The commands as a person types them, against the session's broker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from click.testing import CliRunner, Result

from streams.cli.main import cli
from tests.conftest import Kafka


@dataclass(frozen=True)
class Outcome:
    """What a command did; `error` is the sentence that a person would see."""

    result: Result

    @property
    def code(self) -> int:
        return self.result.exit_code

    @property
    def out(self) -> str:
        return self.result.stdout

    @property
    def err(self) -> str:
        return self.result.stderr

    @property
    def error(self) -> str:
        return str(self.result.exception)

    def lines(self) -> list[Any]:
        """Standard output, which must be JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Run(Protocol):
    def __call__(self, *arguments: object, code: int = 0, **environment: str) -> Outcome: ...


def run(*arguments: object, code: int = 0, **environment: str) -> Outcome:
    """Run `headrace ARGUMENTS...`, which must end with this exit code."""
    env = {"COLUMNS": "200"} | {f"HEADRACE_{name}": value for name, value in environment.items()}
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env=env)
    assert result.exit_code == code, (result.output, result.exception)
    return Outcome(result)


@pytest.fixture
def headrace(kafka: Kafka) -> Run:
    """`run` with the session's broker."""

    def connected(*arguments: object, code: int = 0, **environment: str) -> Outcome:
        return run(*arguments, code=code, KAFKA__BOOTSTRAP_SERVERS=kafka.bootstrap_servers, **environment)

    return connected
