"""Settings: where each comes from, which one wins, what an error says, and that a secret never shows."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from models.repository import ZOO
from streams.errors import SettingsError
from streams.settings import Kafka, Settings, load

PASSWORD = "hunter2-hunter2"
SASL = {
    "HEADRACE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "HEADRACE_KAFKA__SASL_USERNAME": "me",
    "HEADRACE_KAFKA__SASL_PASSWORD": PASSWORD,
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _file(text: str) -> Path:
    path = Path("mine.toml")
    path.write_text(text, encoding="utf-8")
    return path


def _refusal(environ: Mapping[str, str] | None = None, **more: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ or {}, **more)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_without_any_source_there_are_the_defaults() -> None:
    assert load({}) == Settings()


def test_the_file_in_the_current_directory_is_read() -> None:
    Path("headrace.toml").write_text('[kafka]\nbootstrap_servers = "one:9092"\n[batch]\nmax_batch_size = 7\n')
    settings = load({})
    assert (settings.kafka.bootstrap_servers, settings.batch.max_batch_size) == ("one:9092", 7)


def test_own_models_come_before_the_bundled_ones() -> None:
    assert load({}).models.repository().roots == (Path(".headrace/models"), ZOO)
    assert load({"HEADRACE_MODELS__ROOT": "~/mine"}).models.repository().own == Path.home() / "mine"


def test_a_variable_names_another_file() -> None:
    path = _file('[kafka]\nbootstrap_servers = "two:9092"\n')
    assert load({"HEADRACE_CONFIG": str(path)}).kafka.bootstrap_servers == "two:9092"


def test_the_environment_wins_over_the_file_and_the_command_line_over_both() -> None:
    path = _file('[worker]\ngroup = "file"\nslot = "file"\nhttp_port = 1\n')
    environ = {"HEADRACE_WORKER__SLOT": "environment", "HEADRACE_WORKER__HTTP_PORT": "2"}
    worker = load(environ, path, {"worker": {"http_port": 3, "group": None}}).worker
    assert (worker.group, worker.slot, worker.http_port) == ("file", "environment", 3)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("batch.max_queue_delay_s", "0.25", 0.25),
        ("batch.max_batch_size", "64", 64),
        ("kafka.ssl_check_hostname", "false", False),
        ("worker.slot", "3", "3"),
        ("fraud.version", "2", 2),
        ("kafka.sasl_mechanism", "SCRAM-SHA-512", "SCRAM-SHA-512"),
    ],
)
def test_a_variable_is_text_and_becomes_what_the_setting_is(key: str, text: str, value: object) -> None:
    section, name = key.split(".")
    settings = load({f"HEADRACE_{section.upper()}__{name.upper()}": text})
    assert getattr(getattr(settings, section), name) == value


def test_other_variables_do_not_matter() -> None:
    assert load({"PATH": "/bin", "HEADRACER__X__Y": "1", "MY_HEADRACE_KAFKA__X": "2"}) == Settings()


WRONG = [  # key, a value that is wrong for it
    ("batch.max_batch_size", "many"),
    ("batch.max_batch_size", "0"),
    ("batch.max_batch_size", "-5"),
    ("batch.max_batch_size", "100000"),  # above max_queue_size
    ("batch.max_queue_size", "10"),  # below max_batch_size
    ("batch.max_queue_delay_s", "-1"),
    ("batch.max_queue_delay_s", "61"),
    ("batch.max_queue_delay_s", "nan"),
    ("worker.session_timeout_s", "0"),
    ("worker.session_timeout_s", "nan"),
    ("worker.session_timeout_s", "inf"),
    ("worker.in_flight", "0"),
    ("worker.http_port", "70000"),
    ("worker.http_port", "-1"),
    ("worker.nonsense", "1"),
    ("kafka.security_protocol", "TLS"),
    ("kafka.bootstrap_servers", ""),
    ("kafka.bootstrap_servers", "nohost:abc"),
    ("kafka.bootstrap_servers", "one:9092,"),
    ("kafka.bootstrap_servers", "one:9092,two:0"),
    ("kafka.bootstrap_servers", "one:99999"),
    ("kafka.bootstrap_servers", ":9092"),
    ("kafka.bootstrap_servers", "[::1"),
    ("kafka.bootstrap_servers", "::1"),
    ("kafka.bootstrap_servers", "http://one:9092"),
    ("kafka.bootstrap_servers", "a b:9092"),
    ("kafka.request_timeout_s", "-3"),
    ("dead_letter.max_share", "0"),
    ("dead_letter.max_share", "1.5"),
    ("dead_letter.share_window", "0"),
    ("fraud.version", "one"),
    ("fraud.max_future_s", "inf"),
    ("fraud.max_value_bytes", "0"),
    ("vision.threads", "0"),
    ("vision.threads", "257"),
    ("vision.top", "0"),
    ("vision.top", "-1"),
    ("vision.top", "65537"),
    ("vision.top", "all"),
    ("labels.max_future_s", "-1"),
    ("labels.delay_days", "0"),
    ("labels.window_days", "nan"),
    ("labels.memory_days", "13.5"),  # below delay_days and window_days together
    ("labels.memory_days", "40000"),  # more than a century
    ("labels.delay_days", "39"),
    ("labels.wait_days", "46"),  # above memory_days
]


@pytest.mark.parametrize(("key", "text"), WRONG)
def test_an_error_names_the_key_and_the_variable(key: str, text: str) -> None:
    section, name = key.split(".")
    variable = f"HEADRACE_{section.upper()}__{name.upper()}"
    message = _refusal({variable: text})
    assert key in message
    assert variable in message


@pytest.mark.parametrize(("key", "text"), WRONG)
def test_an_error_names_the_key_and_the_file(key: str, text: str) -> None:
    section, name = key.split(".")
    plain = text.lstrip("-").replace(".", "").isdigit() or text in ("nan", "inf")
    path = _file(f"[{section}]\n{name} = {text if plain else json.dumps(text)}\n")
    message = _refusal(file=path)
    assert key in message
    assert path.name in message


@pytest.mark.parametrize("text", ["one", "one:1,two:65535", " one:9092 , 10.0.0.7:9093", "[::1]", "[fe80::1%e0]:9"])
def test_servers_are_hosts_with_or_without_a_port(text: str) -> None:
    assert load({"HEADRACE_KAFKA__BOOTSTRAP_SERVERS": text}).kafka.bootstrap_servers == text


def test_a_server_that_cannot_be_one_is_named() -> None:
    message = _refusal({"HEADRACE_KAFKA__BOOTSTRAP_SERVERS": "one:9092, nohost:abc"})
    assert message.startswith("kafka.bootstrap_servers from HEADRACE_KAFKA__BOOTSTRAP_SERVERS: expected HOST:PORT")
    assert message.endswith("got 'nohost:abc'")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("worker.processing_guarantee", "exactly-once", "expected at_least_once or exactly_once, got 'exactly-once'"),
        ("vision.freshness", "newest", "expected latest-per-key or every, got 'newest'"),
        ("worker.compression", 4, "expected lz4 or none, got 4"),
    ],
)
def test_a_setting_of_few_values_says_which_there_are(key: str, value: object, said: str) -> None:
    section, name = key.split(".")
    assert _refusal(overrides={section: {name: value}}) == f"{key} from the command line: {said}"


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("vision.threads", "many", "expected int, got 'many'"),
        ("fraud.max_future_s", "1d", "expected float, got '1d'"),
        ("kafka.ssl_check_hostname", "perhaps", "expected bool, got 'perhaps'"),
    ],
)
def test_a_value_that_cannot_be_converted_is_shown(key: str, text: str, said: str) -> None:
    variable = f"HEADRACE_{key.replace('.', '__').upper()}"
    assert _refusal({variable: text}) == f"{key} from {variable}: {said}"
    assert _refusal(file=_file("[kafka]\nsasl_password = 12345\n")).endswith("expected `str`")


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        (
            "HEADRACE_VISION__CAMERA",
            "unknown setting vision.camera in HEADRACE_VISION__CAMERA; did you mean 'cameras'?",
        ),
        ("HEADRACE_VISON__TOP", "unknown section 'vison' in HEADRACE_VISON__TOP; did you mean 'vision'?"),
        (
            "HEADRACE_MODELS__XYZ",
            "unknown setting models.xyz in HEADRACE_MODELS__XYZ; there are control, root, shadow_",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_one_that_was_meant(variable: str, said: str) -> None:
    assert _refusal({variable: "1"}).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("heights_m = { 'a: b' = 0 }", "vision.heights_m 'a: b' from mine.toml: expected metres from 0.01 to 1000"),
        ("cameras = [{ id = \"it's: \" }, { id = \"it's: \" }]",
         "vision.cameras[1] \"it's: \" from mine.toml: expected a name of its own"),
        ("cameras = [{ id = 'gate', zones = [{ name = 'dock', polygon = [[0, 0], [1, 1]] }] }]",
         "vision.cameras[0] 'gate' zones[0] 'dock' from mine.toml: expected a polygon of 3 to 64 corners, got 2"),
        ("new_score = 0.2\nhigh_score = 0.35", "vision.low_score, high_score, new_score, lost_s from mine.toml: "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_place_names_the_file(text: str, said: str) -> None:
    assert _refusal(file=_file(f"[vision]\n{text}\n")).startswith(said)


def test_settings_that_contradict_each_other_name_all_their_sources() -> None:
    message = _refusal({"HEADRACE_VISION__NEW_SCORE": "0.2"}, file=_file("[vision]\nhigh_score = 0.35\n"))
    assert " lost_s from HEADRACE_VISION__NEW_SCORE and mine.toml: expected" in message


def test_an_error_names_the_command_line() -> None:
    message = _refusal(overrides={"batch": {"max_batch_size": 0}})
    assert "batch.max_batch_size" in message
    assert "command line" in message


def test_an_unknown_section_is_named_with_its_origin_and_what_there_is() -> None:
    message = _refusal({"HEADRACE_KAFAK__BOOTSTRAP_SERVERS": "x"})
    assert "'kafak'" in message
    assert "HEADRACE_KAFAK__BOOTSTRAP_SERVERS" in message
    assert "kafka" in message
    assert "mine.toml" in _refusal(file=_file("[kafak]\nx = 1\n"))


def test_a_variable_with_one_underscore_too_few_is_not_silently_ignored() -> None:
    message = _refusal({"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "mine:9092"})
    assert "HEADRACE_KAFKA_BOOTSTRAP_SERVERS" in message


@pytest.mark.parametrize("text", ["[kafka\n", 'x = "', "\x00", "[kafka]\na = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_named(text: str) -> None:
    assert "mine.toml" in _refusal(file=_file(text))


def test_a_file_that_is_no_text_or_no_file_is_named() -> None:
    Path("binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "binary.toml" in _refusal(file=Path("binary.toml"))
    Path("folder.toml").mkdir()
    assert "folder.toml" in _refusal(file=Path("folder.toml"))


def test_a_byte_order_mark_is_no_part_of_the_file() -> None:
    Path("marked.toml").write_bytes(b"\xef\xbb\xbf[fraud]\r\nversion = 2\r\n")
    assert load({}, file=Path("marked.toml")).fraud.version == 2


def test_a_file_that_was_asked_for_must_be_there() -> None:
    assert "'nowhere.toml'" in _refusal(file=Path("nowhere.toml"))
    assert "'nowhere.toml', which HEADRACE_CONFIG names, does not exist" in _refusal(
        {"HEADRACE_CONFIG": "nowhere.toml"}
    )
    assert "'.', which HEADRACE_CONFIG names, cannot be read" in _refusal({"HEADRACE_CONFIG": ""})


def test_a_setting_outside_of_a_section_is_named() -> None:
    message = _refusal(file=_file("max_batch_size = 3\n"))
    assert "max_batch_size" in message
    assert "mine.toml" in message


@pytest.mark.parametrize(("read", "written"), [
    ("fraud.input", "fraud.output"), ("fraud.labels", "fraud.output"), ("labels.input", "labels.output"),
    ("fraud.output", "labels.output"), ("vision.input", "vision.output"), ("vision.input", "vision.events"),
    ("fraud.input", "models.control"), ("vision.events", "models.control"),
])  # fmt: skip
def test_no_pipeline_reads_what_it_writes(read: str, written: str) -> None:
    section, key = written.split(".")
    topic = attrgetter(read)(Settings())
    message = _refusal({f"HEADRACE_{section.upper()}__{key.upper()}": topic})
    assert (
        f"{written} from HEADRACE_{section.upper()}__{key.upper()} must not be {read} (default), {topic!r}" in message
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "\u00fc", "a" * 250])
def test_a_topic_that_kafka_would_refuse_is_named(name: str) -> None:
    message = _refusal({"HEADRACE_FRAUD__INPUT": name})
    assert "fraud.input from HEADRACE_FRAUD__INPUT: expected a topic's name" in message
    assert repr(name) in message


@pytest.mark.parametrize("name", ["a b", "a/b", "a" * 240])
def test_a_group_whose_topics_kafka_would_refuse_is_named(name: str) -> None:
    message = _refusal({"HEADRACE_WORKER__GROUP": name})
    assert "worker.group from HEADRACE_WORKER__GROUP: expected a name that topics can have" in message
    assert repr(name) in message


# Secrets


def _shown(thing: object) -> list[str]:
    return [repr(thing), str(thing), f"{thing}", f"{thing!s:>40}", "%s" % (thing,), "{}".format(thing)]  # noqa: UP031, UP032


def test_a_secret_shows_nowhere() -> None:
    settings = load(SASL | {"HEADRACE_KAFKA__SSL_KEY_PASSWORD": PASSWORD})
    things = [settings, settings.kafka, settings.kafka.sasl_password, settings.kafka.ssl_key_password]
    things += [copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))]
    for thing in things:
        assert not [text for text in _shown(thing) if PASSWORD in text]


@pytest.mark.parametrize(
    "text",
    [
        f'sasl_password = "{PASSWORD}"\n',  # above any section
        f'[kafka]\nsasl_password = ["{PASSWORD}"]\n',
        f'[kafka]\nsasl_password = {{ value = "{PASSWORD}" }}\n',
        f'[kafka]\nsasl_pasword = "{PASSWORD}"\n',
        f'[kafka]\nsasl_password = "{PASSWORD}\n',
        f"[kafka]\nsasl_password = {PASSWORD}\n",
        f'[kafka]\nsasl_password = "{PASSWORD}"\nrequest_timeout_s = 0\n',
    ],
)
def test_a_secret_in_a_wrong_place_shows_in_no_error(text: str) -> None:
    _refusal(file=_file(text))


def test_a_client_gets_the_secret_itself() -> None:
    options = load(SASL).kafka.client_options()
    assert options["sasl_plain_password"] == PASSWORD
    assert type(options["sasl_plain_password"]) is str
    assert (options["sasl_plain_username"], options["sasl_mechanism"]) == ("me", "PLAIN")


@pytest.mark.parametrize("missing", ["HEADRACE_KAFKA__SASL_USERNAME", "HEADRACE_KAFKA__SASL_PASSWORD"])
def test_sasl_without_user_or_password_says_what_to_set(missing: str) -> None:
    kafka = load({name: value for name, value in SASL.items() if name != missing}).kafka
    with pytest.raises(SettingsError, match=r"kafka\.sasl_username and kafka\.sasl_password") as caught:
        kafka.client_options()
    assert PASSWORD not in str(caught.value)


def test_plaintext_passes_neither_tls_nor_sasl() -> None:
    options = Kafka(bootstrap_servers="a:1,b:2", request_timeout_s=2.5).client_options()
    assert options["bootstrap_servers"] == "a:1,b:2"
    assert options["request_timeout_ms"] == 2500
    assert not [name for name in options if name.startswith(("ssl", "sasl"))]


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
@pytest.mark.parametrize("check", [True, False])
def test_tls_verifies_the_broker_and_its_name_unless_told_otherwise(protocol: str, check: bool) -> None:
    environ = SASL | {
        "HEADRACE_KAFKA__SECURITY_PROTOCOL": protocol,
        "HEADRACE_KAFKA__SSL_CHECK_HOSTNAME": str(check).lower(),
    }
    context = load(environ).kafka.client_options()["ssl_context"]
    assert context.check_hostname is check
    assert context.verify_mode.name == "CERT_REQUIRED"


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile"])
@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_tls_files_that_cannot_be_loaded_are_named(name: str, content: bytes | None) -> None:
    if content is not None:
        Path("file.pem").write_bytes(content)
    kafka = load(
        {
            "HEADRACE_KAFKA__SECURITY_PROTOCOL": "SSL",
            f"HEADRACE_KAFKA__{name.upper()}": "file.pem",
            "HEADRACE_KAFKA__SSL_KEY_PASSWORD": PASSWORD,
        }
    ).kafka
    with pytest.raises(SettingsError, match=r"file\.pem") as caught:
        kafka.client_options()
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
