from __future__ import annotations

import msgspec
import pytest

from streams.pipelines import serving
from streams.rollout import Report, Rollout, decode
from streams.settings import Fraud, Settings
from tests.streams.inmemory import batch

ROLLOUTS = [Rollout("fraud", version, "0" * 64) for version in (2, 3)]
BAD = [None, b"", b"{", b'{"model":"fraud"}', b"\xff", b'{"model":"\xff","version":1,"sha256":""}']


def test_what_is_no_rollout_is_left_out_and_said() -> None:
    first, second = map(msgspec.json.encode, ROLLOUTS)
    told: list[str] = []
    found = decode(
        [batch([first, *BAD], start=5, topic="models"), batch([second], start=40, topic="models")], Rollout, told.append
    )
    assert found == [(5, ROLLOUTS[0]), (40, ROLLOUTS[1])]
    assert [text.partition(": ")[0] for text in told] == [
        f"decoding the rollout models[0]@{offset}" for offset in range(6, 6 + len(BAD))
    ]
    assert all(text.endswith("; it is left out") for text in told)


def test_nobody_needs_to_hear_of_it() -> None:
    report = Report("w1", "fraud", 7, "fraud/3", "fraud/3", "onnx-cpu", 0.5)
    values = [b"{", msgspec.json.encode(report), msgspec.json.encode(ROLLOUTS[0])]
    assert decode([batch(values)], Report) == [(1, report)]


@pytest.mark.parametrize(("model", "expected"), [("fraud", []), ("mine", ["fraud"]), ("labels", []), ("", [])])
def test_a_models_pipelines_are_those_whose_settings_name_it(model: str, expected: list[str]) -> None:
    assert [each.name for each in serving(model, Settings(fraud=Fraud(model="mine")))] == expected
    assert [each.name for each in serving("fraud", Settings())] == ["fraud"]
