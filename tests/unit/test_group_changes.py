"""What the catalog does with a group that changes, and where new instances go."""

from __future__ import annotations

from pathlib import Path

import pytest

from hanse.catalog.commands import ChangeGroup, PlaceInstance, SetLeader, SettleGroup, apply
from hanse.catalog.model import Group, Instance, Node, Snapshot
from hanse.catalog.placement import Moves, free_nodes, to_have, to_leave
from hanse.catalog.told import Told, newest, tell
from hanse.core.errors import PgError

NODES = tuple(Node(name=f"n{i}", host="127.0.0.1", gateway_port=5431 + i) for i in range(1, 5))


def group(name: str, *nodes: int) -> Group:
    instances = (
        Instance(
            name=f"{name}.{place}",
            node=f"n{node}",
            host="127.0.0.1",
            port=1000 + node,
            peer_port=2000 + node,
            role="follower" if place > 1 else "leader",
        )
        for place, node in enumerate(nodes, start=1)
    )
    return Group(name=name, instances=tuple(instances))


def snapshot(*groups: Group) -> Snapshot:
    return Snapshot(nodes=NODES, groups=groups)


def test_an_instance_comes_is_placed_leaves_and_its_name_is_not_used_again() -> None:
    catalog = apply(snapshot(group("g1", 1, 2)), ChangeGroup(group="g1", add=("n3",), durability="all"))
    (changed,) = catalog.groups
    assert [(each.name, each.node, each.is_placed) for each in changed.instances][2] == ("g1.3", "n3", False)
    assert changed.durability == "all" and changed.leader.name == "g1.1"
    placed = PlaceInstance(group="g1", name="g1.3", host="h", port=7, peer_port=8, socket_directory="/s")
    catalog = apply(catalog, placed)
    assert catalog.groups[0].instances[2].port == 7
    catalog = apply(catalog, ChangeGroup(group="g1", remove=("g1.3",)))
    assert [each.name for each in catalog.groups[0].wanted] == ["g1.1", "g1.2"]
    with pytest.raises(PgError, match="has an instance on node"):
        apply(catalog, ChangeGroup(group="g1", add=("n3",)))
    assert len(apply(catalog, SettleGroup(group="g1", members=("g1.1", "g1.2", "g1.3"))).groups[0].instances) == 3
    catalog = apply(catalog, SettleGroup(group="g1", members=("g1.1", "g1.2")))
    assert len(catalog.groups[0].instances) == 2
    assert apply(catalog, placed).groups == catalog.groups, "what is said late of one that is gone changes nothing"
    catalog = apply(catalog, ChangeGroup(group="g1", add=("n3",)))
    assert catalog.groups[0].instances[2].name == "g1.4"
    assert catalog.version == 5


@pytest.mark.parametrize(
    "command",
    [
        ChangeGroup(group="g2", add=("n3",)),
        ChangeGroup(group="g1", add=("n9",)),
        ChangeGroup(group="g1", remove=("g1.9",)),
        ChangeGroup(group="g1", remove=("g1.1", "g1.2")),
        SettleGroup(group="g2", members=()),
        SetLeader(group="g2", leader="g2.1", term=1),
    ],
)
def test_what_no_group_becomes(command: ChangeGroup | SettleGroup | SetLeader) -> None:
    with pytest.raises(PgError) as caught:
        apply(snapshot(group("g1", 1, 2)), command)
    assert caught.value.sqlstate == "22023"


def test_new_instances_go_where_fewest_are() -> None:
    catalog = snapshot(group("g1", 1), group("g2", 2), group("g3", 2, 3))
    assert to_have(catalog, catalog.groups[0], 2, "g1.1") == Moves(add=("n4",))
    assert to_have(catalog, catalog.groups[0], 4, "g1.1") == Moves(add=("n4", "n3", "n2"))
    assert free_nodes(catalog, catalog.groups[2], 1) == ("n4",)
    assert to_leave(catalog, catalog.groups[2], "n3") == Moves(add=("n4",), remove=("g3.2",))
    assert to_leave(catalog, catalog.groups[2], "n4") == Moves()
    everywhere = snapshot(group("g1", 1, 2, 3, 4))
    with pytest.raises(PgError, match="every other node has an instance"):
        to_leave(everywhere, everywhere.groups[0], "n1")
    with pytest.raises(PgError, match="cannot have 5 instances on 4 nodes"):
        to_have(catalog, catalog.groups[0], 5, "g1.1")


def test_instances_leave_where_most_are_and_never_the_leader() -> None:
    catalog = snapshot(group("g1", 1, 2, 3), group("g2", 2))
    assert to_have(catalog, catalog.groups[0], 2, "g1.1") == Moves(remove=("g1.2",))
    assert to_have(catalog, catalog.groups[0], 2, "g1.2") == Moves(remove=("g1.3",))
    assert to_have(catalog, catalog.groups[0], 2, "g1.2", away={"g1.1"}) == Moves(remove=("g1.1",))
    assert to_have(catalog, catalog.groups[0], 3, "g1.1") == Moves()
    leaving = apply(catalog, ChangeGroup(group="g1", remove=("g1.2",)))
    with pytest.raises(PgError, match="still being removed") as caught:
        to_have(leaving, leaving.groups[0], 4, "g1.1")
    assert caught.value.sqlstate == "55000"


def test_the_agent_takes_the_newest_that_it_is_told(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    older, newer = snapshot(group("g1", 1)), apply(snapshot(group("g1", 1)), ChangeGroup(group="g1", add=("n2",)))
    tell(tmp_path, 0, newer)
    tell(tmp_path, 1, older)
    (tmp_path / "groups-2.told").write_text("half a")
    assert newest(tmp_path) == Told(version=1, groups=newer.groups, nodes=newer.nodes)
