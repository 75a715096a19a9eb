"""`catalog.commands.apply`: what each command does to a snapshot, and when it is refused."""

from __future__ import annotations

import pytest

from hanse.catalog.commands import CommitDdl, SetTopology, apply
from hanse.catalog.model import Bound, Group, Instance, Kind, Node, Relation, Shard, Snapshot
from hanse.core.errors import PgError


def group(name: str) -> Group:
    return Group(name=name, instances=(Instance(name=f"{name}.1", node="n1", host="h", port=1),))


SNAPSHOT = Snapshot(version=7, groups=(group("g1"), group("g2")))
TABLE = Relation(schema="public", name="t", kind=Kind.SINGLE, group="g2")
SHARDED = Relation(
    schema="public",
    name="s",
    kind=Kind.SHARDED,
    shards=(Shard(schema="public", name="s_0", group="g2", bound=Bound(modulus=1, remainder=0)),),
)


def ddl(**more: object) -> CommitDdl:
    return CommitDdl(**{"transaction_id": "x", "expected_version": 7, "role": "hanse", **more})  # type: ignore[arg-type]


def test_commit_ddl_replaces_the_schema_and_raises_the_version() -> None:
    assert SNAPSHOT.find("public", "t", ()) is None  # fills the cached index, which the new snapshot must not inherit
    changed = apply(SNAPSHOT, ddl(relations=(TABLE,), schemas=("public", "s")))
    assert (changed.version, changed.relations, changed.schemas) == (8, (TABLE,), ("public", "s"))
    assert changed.find("public", "t", ()) is TABLE
    assert changed.groups == SNAPSHOT.groups
    assert SNAPSHOT.relations == ()
    assert (SNAPSHOT.schema_version, changed.schema_version) == (0, 8)


@pytest.mark.parametrize("expected", [6, 8])
def test_a_stale_commit_ddl_is_refused(expected: int) -> None:
    with pytest.raises(PgError, match="the catalog changed meanwhile") as caught:
        apply(SNAPSHOT, ddl(expected_version=expected))
    assert caught.value.sqlstate == "40001"


def test_set_topology_keeps_the_schema_and_the_home_group() -> None:
    before = apply(SNAPSHOT, ddl(relations=(TABLE,)))
    nodes = (Node(name="n1", host="h", gateway_port=1),)
    after = apply(before, SetTopology(nodes=nodes, groups=(group("g1"), group("g2"), group("g3"))))
    assert (after.version, after.nodes, after.relations) == (9, nodes, (TABLE,))
    assert (after.group_names, after.home_group) == (("g1", "g2", "g3"), "g1")
    assert after.schema_version == before.schema_version, "the groups are not told of it"


@pytest.mark.parametrize("relation", [TABLE, SHARDED])
def test_a_group_with_rows_cannot_go(relation: Relation) -> None:
    before = apply(SNAPSHOT, ddl(relations=(relation,)))
    with pytest.raises(PgError, match='cannot remove group "g2"') as caught:
        apply(before, SetTopology(nodes=(), groups=(group("g1"),)))
    assert caught.value.sqlstate == "2BP01"


@pytest.mark.parametrize(
    "command",
    [
        SetTopology(nodes=(), groups=(group("g1"), group("g1"))),
        SetTopology(nodes=(), groups=(group("g2"),)),
        SetTopology(nodes=(), groups=(group("g1"),), home_group="g9"),
        SetTopology(nodes=(Node(name="n", host="a", gateway_port=1),) * 2, groups=(group("g1"),)),
    ],
)
def test_impossible_topologies(command: SetTopology) -> None:
    with pytest.raises(PgError) as caught:
        apply(SNAPSHOT, command)
    assert caught.value.sqlstate == "22023"
