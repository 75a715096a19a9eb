from __future__ import annotations

import pytest

from hanse.agent.voters import voters_wanted
from hanse.catalog.commands import apply
from hanse.catalog.model import Group, Instance, Node, Snapshot
from hanse.catalog.node_commands import AddNode, NodeCommand, PlaceNode, RemoveNode
from hanse.core.errors import PgError


def node(number: int, *, votes: bool = True, host: str = "h") -> Node:
    port = 9000 + number if votes else 0
    return Node(name=f"n{number}", host=host, gateway_port=1, control_port=port, raft_port=port)


G1 = Group(
    name="g1",
    instances=(
        Instance(name="g1.1", node="n1", host="h", port=5, peer_port=6),
        Instance(name="g1.2", node="n2", host="h", port=0, role="follower"),
    ),
)
CATALOG = Snapshot(version=7, nodes=(node(1), node(2), node(3)), groups=(G1,))


def test_nodes_come_and_go() -> None:
    more = apply(CATALOG, AddNode(node=node(4)))
    assert ([each.name for each in more.nodes], more.version) == (["n1", "n2", "n3", "n4"], 8)
    less = apply(more, RemoveNode(name="n4"))
    assert (less.nodes, less.version, less.removed_nodes) == (CATALOG.nodes, 9, ("n4",))
    with pytest.raises(PgError, match="not used again"):  # its certificate is still good
        apply(less, AddNode(node=node(4)))


@pytest.mark.parametrize(
    ("command", "sqlstate"),
    [
        (AddNode(node=node(3)), "42710"),
        (RemoveNode(name="n2"), "55006"),
        (RemoveNode(name="n9"), "42704"),
        (PlaceNode(node=node(9)), "42704"),
    ],
)
def test_what_nodes_cannot_do(command: NodeCommand, sqlstate: str) -> None:
    with pytest.raises(PgError) as caught:
        apply(CATALOG, command)
    assert caught.value.sqlstate == sqlstate


def test_the_last_node_stays() -> None:
    with pytest.raises(PgError, match="only one"):
        apply(Snapshot(nodes=(node(1),)), RemoveNode(name="n1"))


def test_a_node_says_where_it_is_and_nothing_else() -> None:
    now = Instance(name="g1.1", node="n1", host="moved", port=15, peer_port=16, socket_directory="/s", role="follower")
    unknown = Instance(name="g9.1", node="n1", host="moved", port=17)
    after = apply(CATALOG, PlaceNode(node=node(1, host="moved"), instances=(now, unknown)))
    assert [each.host for each in after.nodes] == ["moved", "h", "h"]
    (group,) = after.groups
    assert (group.leader.name, group.leader.host, group.leader.port, group.leader.peer_port) == (
        "g1.1",
        "moved",
        15,
        16,
    )
    early = Instance(name="g1.2", node="n2", host="h", port=25)
    assert (
        apply(CATALOG, PlaceNode(node=node(2), instances=(early,))).groups == CATALOG.groups
    )  # `PlaceInstance` says it


@pytest.mark.parametrize(
    ("nodes", "voters", "leader", "wanted"),
    [
        ((1,), (1,), 1, (1,)),
        ((1, 2), (1,), 1, (1,)),
        ((1, 2, 3), (1,), 1, (1, 2, 3)),
        ((1, 2, 3, 4), (1, 2, 3), 2, (1, 2, 3)),
        ((1, 2, 3, 4, 5), (1, 2, 3), 2, (1, 2, 3, 4, 5)),
        ((1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5), 2, (1, 2, 3, 4, 5)),
        ((1, 3, 4), (1, 2, 3), 2, (1, 3, 4)),  # the leader itself was removed
        ((1, 2, 3, 5), (1, 2, 3, 4, 5), 5, (1, 2, 5)),  # the leader keeps its vote
        ((2,), (1, 2, 3), None, (2,)),
    ],
)
def test_who_votes(
    nodes: tuple[int, ...], voters: tuple[int, ...], leader: int | None, wanted: tuple[int, ...]
) -> None:
    names = voters_wanted(
        [node(number) for number in nodes],
        [f"n{number}" for number in voters],
        None if leader is None else f"n{leader}",
    )
    assert names == tuple(f"n{number}" for number in wanted)


def test_nobody_loses_a_vote_who_has_not_said_yet_where_it_is() -> None:
    assert voters_wanted([node(1, votes=False), node(2), node(3), node(4)], ("n1", "n2", "n3"), "n2") == (
        "n1",
        "n2",
        "n3",
    )
