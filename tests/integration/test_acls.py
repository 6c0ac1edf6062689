"""A cluster with ACLs: what a worker needs there, and what it says where something is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from connectors.broker import Broker
from models.repository import Repository
from streams.rollout import Rollout
from tests import verify
from tests.conftest import MakeTopics
from tests.fraud_versions import write_versions
from tests.integration.test_bad_weather import GOOD, SOON_S, assert_ends
from tests.processes import Workers
from tests.waiting import until

READ, WRITE = AclOperation.READ, AclOperation.WRITE
GROUP, TOPIC = ResourceType.GROUP, ResourceType.TOPIC


@pytest.fixture
def guarded(private_broker: Callable[..., Broker]) -> Broker:
    """A broker on which everybody may do everything to what has no ACL, and nothing else to what has one."""
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    broker = private_broker(properties={"authorizer.class.name": authorizer, "allow.everyone.if.no.acl.found": "true"})
    broker.start()
    return broker


def _allow(
    broker: Broker,
    kind: ResourceType,
    name: str,
    *operations: AclOperation,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
) -> None:
    """To everybody these, and no others."""
    for operation in operations:
        _put(broker, AclBinding(kind, name, pattern, "User:*", "*", operation, AclPermissionType.ALLOW))


def _forbid(broker: Broker, kind: ResourceType, name: str) -> None:
    """Everything to everybody."""
    literal, deny = ResourcePatternType.LITERAL, AclPermissionType.DENY
    _put(broker, AclBinding(kind, name, literal, "User:*", "*", AclOperation.ALL, deny))


def _put(broker: Broker, acl: AclBinding) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_acls([acl])[acl].result(SOON_S)
    same = AclBindingFilter(
        acl.restype, acl.name, acl.resource_pattern_type, acl.principal, acl.host, acl.operation, acl.permission_type
    )
    until(lambda: admin.describe_acls(same).result(SOON_S), SOON_S, "an ACL in force")  # an answer comes before it is


def test_what_is_forbidden_ends_a_worker_and_is_said(
    guarded: Broker, make_topics: MakeTopics, workers: Workers
) -> None:
    servers = guarded.bootstrap_servers
    source, output = make_topics("guarded", "guarded-out", partitions=2, kafka=guarded)
    group, script = f"{source}-group", {"input": source, "output": output}
    worker = workers.counting(group, script, servers).running()
    _forbid(guarded, TOPIC, output)
    verify.send(servers, source, [(0, b"key", b"{}", [])])
    assert_ends(worker, f"writing 1 records to {output}", "needs an ACL to WRITE it", "uncommitted")
    _forbid(guarded, GROUP, group)
    elsewhere = script | {"output": f"{source}-other"}
    assert_ends(workers.counting(group, elsewhere, servers), f"not let this client join group {group}", "ACL to READ")
    worker = workers.counting(f"{group}-other", elsewhere, servers).running()
    _forbid(guarded, TOPIC, source)
    assert_ends(worker, f"the consumer of group {group}-other", source, "needs an ACL to READ it")
    assert_ends(workers.counting(group, elsewhere, servers), f"input topic '{source}' does not exist", "hidden by ACLs")


def test_the_acls_of_the_readme_are_enough(guarded: Broker, make_topics: MakeTopics, workers: Workers) -> None:
    servers = guarded.bootstrap_servers
    source, output = make_topics("allowed", "allowed-out", partitions=2, kafka=guarded)
    group = f"{source}-group"
    settings = {"fraud__input": source, "fraud__output": output, "worker__processing_guarantee": "exactly_once"}
    assert workers.fraud(group, servers=servers, **settings).running().stop() == 0  # its topics are there now
    own = {
        source: (READ,),
        "fraud.labels": (READ,),
        "headrace.models": (READ,),
        output: (WRITE,),
        f"{source}.dead-letter": (WRITE,),
        "headrace.models.reports": (WRITE,),
        f"{group}.changelog": (READ, WRITE),
        f"{group}.table": (READ, WRITE),
    }
    admin = AdminClient({"bootstrap.servers": servers})
    there = admin.list_topics(timeout=SOON_S).topics
    assert {name for name in there if not name.startswith("__")} == own.keys()
    good = json.dumps(GOOD).encode()
    verify.send(servers, source, [(number % 2, b"c", good, []) for number in range(9)] + [(0, b"c", b"{oops", [])])
    for name, operations in own.items():
        _allow(guarded, TOPIC, name, *operations)
    _allow(guarded, GROUP, group, READ)
    _allow(guarded, ResourceType.TRANSACTIONAL_ID, group, WRITE, pattern=ResourcePatternType.PREFIXED)
    worker = workers.fraud(group, servers=servers, **settings).running()
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of everything")
    assert worker.stop() == 0
    _allow(guarded, TOPIC, output, READ)
    _allow(guarded, TOPIC, f"{source}.dead-letter", READ)
    assert len(verify.read(servers, output)) == 9
    assert len(verify.read(servers, f"{source}.dead-letter")) == 1


def test_rollouts_are_served_where_their_reports_may_not_be_written(
    guarded: Broker, make_topics: MakeTopics, workers: Workers, tmp_path: Path
) -> None:
    servers, root = guarded.bootstrap_servers, write_versions(tmp_path / "models")
    source, output, control = make_topics("mute", "mute-out", "mute-models", kafka=guarded)
    worker = workers.fraud(
        f"{source}-group", servers=servers, fraud__input=source, fraud__output=output, models__root=root,
        models__control=control,
    ).running()  # fmt: skip
    _forbid(guarded, TOPIC, f"{control}.reports")
    for version in (3, 2, 3):
        sha256 = Repository([root]).load("fraud", version).manifest.sha256
        rollout = msgspec.json.encode(Rollout("fraud", version, sha256))
        verify.send(servers, control, [(0, b"fraud", rollout, [])])
        until(lambda wanted=f"fraud/{version}": worker.ready()[1]["model"] == wanted, SOON_S, f"version {version}")
    assert worker.said(f"reporting a rollout on {control}.reports: .* needs an ACL to WRITE it; trying again")
    assert worker.stop() == 0
