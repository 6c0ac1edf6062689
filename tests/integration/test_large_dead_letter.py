"""A value that only fits Kafka because its producer compressed it, and that the pipeline cannot take."""

from __future__ import annotations

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.integration.test_poison import transaction
from tests.processes import Workers
from tests.waiting import until

GIANT = b'{"x":"' + b"0123456789abcdef" * (6_000_000 // 16) + b'"}'


def test_a_giant_is_dead_lettered_byte_for_byte(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("giant", "giant-flags")  # of Kafka's own limit, 1 MiB
    group = f"{source}-group"
    worker = workers.fraud(group, fraud__input=source, fraud__output=output).running()
    giant = (0, b"c0", GIANT, [("raw", b"\x00\xff")])
    after = ((0, b"c%d" % number, transaction(number), []) for number in range(10))
    verify.send(servers, source, [giant], **{"compression.type": "gzip", "message.max.bytes": 2 * len(GIANT)})
    verify.send(servers, source, after)
    until(lambda: not worker.alive or not verify.behind(servers, group, source), 30, "a commit of everything")
    assert worker.alive, worker.output()
    assert worker.stop() == 0

    came, *good = verify.read(servers, source)
    (letter,) = verify.read(servers, f"{source}.dead-letter")
    assert came.value == GIANT
    assert letter.value == GIANT, f"{len(letter.value or b'')} bytes"
    assert (letter.key, letter.headers[:1]) == (came.key, came.headers)
    assert letter.header("error.type") == b"ValueTooLarge"
    assert len(good) == 10
    assert verify.assert_nothing_lost(good, verify.read(servers, output), source) == 0
