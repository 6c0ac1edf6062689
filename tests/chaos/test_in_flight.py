"""One batch is held in flight, later ones are done, the worker is killed: the held one must come again."""

from __future__ import annotations

import pytest

from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.counting import CountStore
from tests.processes import Workers
from tests.waiting import until

pytestmark = pytest.mark.chaos

BATCH, RECORDS, HELD = 64, 6_400, 5


@pytest.mark.parametrize("highest", [False, True], ids=["low-water-mark", "highest-finished"])
def test_a_batch_that_was_in_flight_is_processed_again(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, highest: bool
) -> None:
    """The second case commits what Faust would (its issue 606), to show that this test sees the loss."""
    servers = kafka.bootstrap_servers
    source, output = make_topics("held", "held-out")
    group = f"{source}-group"
    verify.send(servers, source, ((0, b"k%d" % (n % 50), b"{}", []) for n in range(RECORDS)))
    script: dict[str, object] = {"input": source, "output": output}
    if highest:
        script["without"] = "commit_the_low_water_mark"
    settings = {"batch__max_batch_size": BATCH, "worker__slot": "1"}

    first = workers.counting(group, script | {"hold": HELD}, **settings)
    first.said("holding a write")
    held = set(range(HELD * BATCH, (HELD + 1) * BATCH))
    until(lambda: verify.ends(servers, output)[0] >= RECORDS - BATCH, 30, "outputs of all other batches")
    mark = RECORDS if highest else HELD * BATCH
    until(lambda: verify.committed(servers, group, source)[0] == mark, 10, f"a commit of {mark}")
    done = {record.source(source)[1] for record in verify.read(servers, output)}
    assert done == set(range(RECORDS)) - held
    first.kill()

    second = workers.counting(group, script, **settings).running()
    until(lambda: not verify.behind(servers, group, source), 30, "a commit of everything")
    assert second.stop() == 0
    inputs, outputs = verify.read(servers, source), verify.read(servers, output)
    if highest:
        with pytest.raises(AssertionError, match="64 of 6400 inputs have no output"):
            verify.assert_nothing_lost(inputs, outputs, source)
        return
    assert verify.assert_nothing_lost(inputs, outputs, source) == RECORDS - (HELD + 1) * BATCH
    store = CountStore()
    for record in verify.read(servers, f"{group}.changelog"):
        store.merge([record.key or b""], [record.value])
    assert {(0, key): entry[0] for key, entry in store.counts.items()} == verify.counts(inputs)
