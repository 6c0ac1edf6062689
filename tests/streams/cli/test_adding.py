"""`headrace models add`, as a person types it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from connectors.https import DownloadError
from models.engine import ModelCorrupt, ModelNotFound, ModelRefused
from models.repository import Repository
from tests.https_server import Answer, Server, https_server
from tests.models import networks
from tests.streams.cli.conftest import Outcome, run
from tests.streams.cli.terminal import on_terminal

SAID = ("--description", "Multiplies.", "--licence", "MIT")
NETWORK = networks.scaling().SerializeToString()
SHA256 = hashlib.sha256(NETWORK).hexdigest()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.onnx").write_bytes(NETWORK)


def add(*arguments: object, code: int = 0, **environment: str) -> Outcome:
    return run("models", "add", *arguments, code=code, **environment)


def own() -> Repository:
    return Repository([Path(".headrace/models")])


def test_a_file_becomes_the_first_version_of_a_new_model() -> None:
    outcome = add("mine.onnx", "mine", *SAID, "--label", "a", "--label", "b", "--threshold", "review=0.25")
    assert outcome.out.startswith("mine/1")
    manifest = own().load("mine").manifest
    assert (manifest.description, manifest.licence, manifest.source) == ("Multiplies.", "MIT", "mine.onnx")
    assert (manifest.labels, manifest.thresholds) == (("a", "b"), {"review": 0.25})
    assert "mine/1  onnx-cpu  ok" in run("models", "verify", "mine").out


def test_the_same_network_twice_changes_nothing() -> None:
    add("mine.onnx", "mine", *SAID)
    assert add("mine.onnx", "mine", *SAID).err.strip() == "mine/1 is this network already; nothing was changed"
    assert own().versions("mine") == [1]
    other = ("mine.onnx", "mine", *SAID, "--threshold", "review=0.25")
    assert add(*other).out.startswith("mine/2")
    assert add(*other).err.strip() == "mine/2 is this network already; nothing was changed"


def test_what_is_added_to_a_bundled_model_does_not_replace_it() -> None:
    fraud = onnx.load(Repository().load("fraud").onnx_path)
    fraud.doc_string = "ours"
    onnx.save(fraud, "fraud.onnx")
    outcome = add("fraud.onnx", "fraud", *SAID, "--like", "fraud")
    assert "fraud/2 serves as before; fraud/3 does when it is asked for by its number" in outcome.err
    bundled, added = Repository().load("fraud").manifest, own().load("fraud", 3).manifest
    assert (added.thresholds, added.baseline, added.state) == (bundled.thresholds, bundled.baseline, bundled.state)
    Path("events.jsonl").write_text(
        '{"transaction_id": "t", "card_id": "c", "terminal_id": "m", "amount": 1, "event_time": 1767225600000}\n'
    )
    assert '"fraud/2"' in run("predict", "fraud", "--from", "events.jsonl").out
    assert '"fraud/3"' in run("predict", "fraud", "--from", "events.jsonl", FRAUD__VERSION="3").out


def test_the_root_is_an_option_and_a_setting() -> None:
    add("mine.onnx", "mine", *SAID, "--root", "here")
    assert Repository([Path("here")]).versions("mine") == [1]
    add("mine.onnx", "mine", *SAID, MODELS__ROOT="there")
    assert Repository([Path("there")]).versions("mine") == [1]
    assert not Path(".headrace").exists()


def test_a_batch_of_ones_own_is_kept() -> None:
    batch = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.savez("golden.npz", x=batch, y=batch * networks.WEIGHTS)
    add("mine.onnx", "mine", *SAID, "--golden", "golden.npz")
    np.testing.assert_array_equal(own().load("mine").golden().inputs["x"], batch)
    np.savez("golden.npz", x=batch, y=batch)
    with pytest.raises(ModelRefused, match="something else than the batch says"):
        raise_from(add("mine.onnx", "other", *SAID, "--golden", "golden.npz", code=1))
    assert own().names() == ["mine"]


def raise_from(outcome: Outcome) -> None:
    assert outcome.result.exception is not None
    raise outcome.result.exception


def test_what_was_not_said_and_nobody_is_there_to_say_is_told_so() -> None:
    add("mine.onnx", "mine")
    manifest = own().load("mine").manifest
    assert (manifest.description, manifest.licence) == ("Added from mine.onnx.", "not stated")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("mine.onnx", "../mine", *SAID), "got '../mine'"),
        (("mine.onnx", "mine", *SAID, "--threshold", "review"), "expected NAME=NUMBER, got 'review'"),
        (("mine.onnx", "mine", *SAID, "--threshold", "review=high"), "expected a number for review, got 'high'"),
        (("mine.onnx", "mine", *SAID, "--threshold", "review=nan"), "expected a number for review, got 'nan'"),
        (("mine.onnx", "mine", *SAID, "--sha256", "abc"), "expected 64 hexadecimal digits, got 'abc'"),
        (("mine.onnx", "mine", *SAID, "--golden", "none.npz"), "does not exist"),
        (("mine.onnx", "mine", *SAID, "--like", "fraud/latest"), "expected NAME or NAME/VERSION"),
        (("https://127.0.0.1/x.onnx", "mine", *SAID), "a URL needs --sha256"),
        (("mine.onnx",), "Missing argument"),
    ],
)
def test_a_mistake_is_said_before_anything_is_done(arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in add(*arguments, code=2).err
    assert not Path(".headrace").exists()


def test_what_cannot_be_added_is_one_sentence() -> None:
    Path("page.onnx").write_text("<!DOCTYPE html>")
    for source, more, error in (
        ("none.onnx", (), ModelCorrupt),
        ("page.onnx", (), ModelCorrupt),
        ("mine.onnx", ("--sha256", "0" * 64), ModelRefused),
        ("mine.onnx", ("--like", "nothing"), ModelNotFound),
        ("http://127.0.0.1/x.onnx", ("--sha256", "0" * 64), DownloadError),
    ):
        outcome = add(source, "mine", *SAID, *more, code=1)
        assert isinstance(outcome.result.exception, error), source
        assert "\n" not in outcome.error
    assert not Path(".headrace").exists()


def test_weights_beside_the_file_come_with_it() -> None:
    onnx.save(networks.scaling(), "wide.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    add("wide.onnx", "wide", *SAID)
    Path("w.bin").unlink()
    assert "wide/1  onnx-cpu  ok" in run("models", "verify", "wide").out


def test_on_a_terminal_it_asks_for_what_is_missing() -> None:
    said = on_terminal("add", "mine.onnx", "mine", answers=["Multiplies.", "MIT"], code=0)
    assert "mine.onnx: x: float32 [n, 4] to y: float32 [n, 4]" in said
    assert said.index("what it does [Added from mine.onnx.]:") < said.index("licence [not stated]:")
    manifest = own().load("mine").manifest
    assert (manifest.description, manifest.licence) == ("Multiplies.", "MIT")


# From an address


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with https_server(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.certificate))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        running.answers["/mine.onnx"] = Answer(NETWORK)
        yield running


def test_a_url_is_fetched_checked_and_added(server: Server) -> None:
    add(f"{server.address}/mine.onnx?token=secret", "mine", *SAID, "--sha256", SHA256.upper())
    model = own().load("mine")
    assert model.onnx_bytes() == NETWORK
    assert model.manifest.source == f"{server.address}/mine.onnx"


def test_a_url_that_leads_to_something_else_is_refused(server: Server) -> None:
    outcome = add(f"{server.address}/mine.onnx", "mine", *SAID, "--sha256", "0" * 64, code=1)
    assert f"expected sha256 {'0' * 64}, got {SHA256}" in outcome.error
    assert not Path(".headrace").exists()


def test_a_fetched_network_with_weights_elsewhere_reads_no_file_of_this_machine(server: Server) -> None:
    network = networks.scaling()
    weight = network.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    Path("w.bin").write_bytes(networks.WEIGHTS.tobytes())
    server.answers["/mine.onnx"] = Answer(network.SerializeToString())
    sha256 = hashlib.sha256(network.SerializeToString()).hexdigest()
    outcome = add(f"{server.address}/mine.onnx", "mine", *SAID, "--sha256", sha256, code=1)
    assert "reading weights from 'w.bin': there is none; give" in outcome.error


def test_a_file_of_any_name_is_added() -> None:
    path = Path(os.fsdecode(b"m\xff\x1b[2J\n.onnx"))
    path.write_bytes(NETWORK)
    add(path, "mine", *SAID)
    assert own().load("mine").manifest.source == r"m\xff\x1b[2J\n.onnx"


def test_a_text_that_no_manifest_can_hold_is_a_sentence_that_names_its_field() -> None:
    failed = add("mine.onnx", "mine", *SAID, "--label", os.fsdecode(b"a\xff"), code=1)
    assert r"expected texts in UTF-8, got 'a\udcff' in `labels`; nothing was written" in failed.error
    failed = add("mine.onnx", "mine", *SAID, "--state", "a\x1b[2J", code=1)
    assert r"expected texts without control characters, got 'a\x1b[2J' in `state`; nothing was written" in failed.error
    assert own().names() == []
