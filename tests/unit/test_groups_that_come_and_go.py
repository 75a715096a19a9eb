"""The catalog's part in groups that are added and dropped, and what makes a copy a group of its own."""

from __future__ import annotations

import pytest

from hanse.catalog.commands import Command, apply
from hanse.catalog.founding import drop_temporary, reference_tables, strip
from hanse.catalog.group_commands import AddGroup, DropGroup, FoundGroup, OpenGroup
from hanse.catalog.model import Bound, Group, Instance, Kind, Node, Relation, Shard, Snapshot, Strategy
from hanse.core.errors import PgError
from hanse.engines.postgres.identity import crc32c

NODES = tuple(Node(name=f"n{i}", host="127.0.0.1", gateway_port=5431 + i) for i in (1, 2, 3))


def group(name: str) -> Group:
    return Group(name=name, instances=(Instance(name=f"{name}.1", node="n1", host="h", port=1),))


def shard(name: str, place: str, remainder: int) -> Shard:
    return Shard(schema="public", name=name, group=place, bound=Bound(modulus=2, remainder=remainder))


SHARDED = Relation(
    schema="public",
    name="s",
    kind=Kind.SHARDED,
    strategy=Strategy.HASH,
    shards=(shard("s_p0", "g1", 0), shard("s_p1", "g2", 1)),
)
REFERENCE = Relation(schema="public", name="r", kind=Kind.REFERENCE)
SINGLE = Relation(schema="a b", name="t", kind=Kind.SINGLE, group="g1")
BEGUN = Snapshot(nodes=NODES, groups=(group("g1"), group("g2")), relations=(SHARDED, REFERENCE, SINGLE))
ADD = AddGroup(group="g3", nodes=("n2", "n3"), durability="all", origin="g2")


def found(attempt: str) -> FoundGroup:
    return FoundGroup(group="g3", attempt=attempt, host="h", port=7, peer_port=8, socket_directory=None)


def after(snapshot: Snapshot, *commands: Command) -> Snapshot:
    for command in commands:
        snapshot = apply(snapshot, command)
    return snapshot


def refused(snapshot: Snapshot, command: Command) -> str:
    with pytest.raises(PgError) as caught:
        apply(snapshot, command)
    return caught.value.sqlstate


def test_a_group_comes() -> None:
    coming = after(BEGUN, ADD)
    assert coming.group_names == ("g1", "g2"), "nobody uses it yet"
    assert refused(coming, ADD) == "42710"
    opened = after(coming, found("a"), OpenGroup(group="g3", attempt="a", term=4))
    assert opened.coming == () and opened.version == 3
    assert (coming.schema_version, opened.schema_version) == (0, 3), "writers of reference tables must know it"
    made = opened.group_by_name["g3"]
    assert [(each.name, each.node, each.role, each.port) for each in made.instances] == [
        ("g3.1", "n2", "leader", 7),
        ("g3.2", "n3", "follower", 0),
    ]
    assert (made.term, made.durability, made.is_replicated) == (4, "all", True)


def test_only_the_newest_attempt_opens_a_group() -> None:
    begun_anew = after(BEGUN, ADD, found("a"), found("b"))
    assert refused(begun_anew, OpenGroup(group="g3", attempt="a", term=2)) == "55000"
    opened = after(begun_anew, OpenGroup(group="g3", attempt="b", term=2))
    assert refused(opened, found("c")) == "55000", "who would begin again finds that it is open"


def test_numbers_and_names_are_not_given_twice() -> None:
    opened = after(BEGUN, ADD, found("a"), OpenGroup(group="g3", attempt="a", term=2))
    assert opened.group_numbers == {"g1": 1, "g2": 2, "g3": 3}
    again = after(opened, DropGroup(group="g3"), ADD, found("b"), OpenGroup(group="g3", attempt="b", term=2))
    assert again.dropped == {"g3": 2}
    assert again.group_by_name["g3"].number == 4
    assert [each.name for each in again.group_by_name["g3"].instances] == ["g3.3", "g3.4"]


@pytest.mark.parametrize(
    ("command", "sqlstate"),
    [
        (DropGroup(group="g1"), "55006"),
        (DropGroup(group="g2"), "55000"),
        (DropGroup(group="g9"), "42704"),
        (AddGroup(group="g2", nodes=("n1",), durability="all", origin="g1"), "42710"),
        (AddGroup(group="g4", nodes=("n1",), durability="all", origin="g9"), "22023"),
        (AddGroup(group="g4", nodes=("n9",), durability="all", origin="g1"), "22023"),
        (found("a"), "55000"),
        (OpenGroup(group="g3", attempt="a", term=2), "55000"),
    ],
)
def test_what_no_catalog_takes(command: Command, sqlstate: str) -> None:
    assert refused(BEGUN, command) == sqlstate


def test_an_origin_stays_while_it_is_copied() -> None:
    empty = Snapshot(nodes=NODES, groups=(group("g1"), group("g2")))
    assert refused(after(empty, ADD), DropGroup(group="g2")) == "55006"
    given_up = after(empty, ADD, DropGroup(group="g3"), DropGroup(group="g2"))
    assert given_up.group_names == ("g1",) and given_up.coming == ()


def test_what_belongs_to_the_origin_goes() -> None:
    assert reference_tables(BEGUN) == (("public", "r"),)
    assert strip(BEGUN, "g2")[:2] == ("DROP TABLE public.s_p1 CASCADE", 'TRUNCATE ONLY "a b".t')
    assert not any("public.r" in statement for statement in strip(BEGUN, "g2"))
    assert drop_temporary([("pg_temp_3", "v", "v")]) == ("DROP VIEW IF EXISTS pg_temp_3.v CASCADE",)


def test_the_sum_is_postgresqls() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, and pg_crc32c
