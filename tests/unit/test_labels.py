"""Labels of nodes: what they look like, what they mean to placement, and who may change them when."""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.catalog.commands import ChangeGroup, apply
from hanse.catalog.group_commands import AddGroup
from hanse.catalog.labels import check, distance, parse, written, zone_of
from hanse.catalog.model import Group, Instance, Node, Snapshot
from hanse.catalog.node_commands import AddNode, LabelNode, PlaceNode
from hanse.catalog.placement import free_nodes, possible_origins, to_have, to_leave
from hanse.core.errors import PgError


def node(number: int, **labels: str) -> Node:
    return Node(name=f"n{number}", host="h", gateway_port=1, labels=labels)


def group(name: str, *nodes: int, **location: str) -> Group:
    instances = tuple(
        Instance(
            name=f"{name}.{place}", node=f"n{number}", host="h", port=1, role="follower" if place > 1 else "leader"
        )
        for place, number in enumerate(nodes, start=1)
    )
    return Group(name=name, instances=instances, location=location)


# --- what they look like


def test_what_a_label_looks_like() -> None:
    labels = parse(["region=eu", " zone = eu-1.a "])
    check(labels)
    assert (labels, written(labels)) == ({"region": "eu", "zone": "eu-1.a"}, "region=eu,zone=eu-1.a")
    for texts in (["eu"], ["region=eu", "region=us"], [""]):
        with pytest.raises(ValueError):
            parse(texts)
    for wrong in ({"": "x"}, {"Zone": "x"}, {"a" * 64: "x"}, {"zone": ""}, {"zone": "a b"}, {"zone": "a" * 64}):
        with pytest.raises(ValueError):
            check(wrong)
    with pytest.raises(ValueError, match="at most 16 labels, not 17"):
        check({f"k{number}": "v" for number in range(17)})


def test_what_is_near() -> None:
    here = node(1, region="eu", zone="a")
    near = [node(1), node(2, region="eu", zone="a"), node(3, region="eu", zone="b"), node(4, region="us", zone="a")]
    assert [distance(here, there) for there in near] == [0, 1, 2, 3]
    assert distance(node(1), node(2)) == 3, "nobody knows"
    assert distance(node(1, zone="a"), node(2, zone="a")) == 1


# --- the catalog


def test_labels_come_with_a_node_change_and_are_not_told_by_its_start() -> None:
    catalog = apply(Snapshot(), AddNode(node=node(1, zone="a")))
    catalog = apply(catalog, LabelNode(name="n1", changes={"zone": "b", "region": "eu", "rack": ""}))
    assert catalog.nodes[0].labels == {"region": "eu", "zone": "b"}
    moved = apply(catalog, PlaceNode(node=msgspec.structs.replace(node(1, zone="a"), host="moved")))
    assert (moved.nodes[0].host, moved.nodes[0].labels) == ("moved", {"region": "eu", "zone": "b"})
    assert apply(moved, LabelNode(name="n1", changes={"zone": ""})).nodes[0].labels == {"region": "eu"}
    for command in (AddNode(node=node(2, Zone="a")), LabelNode(name="n1", changes={"zone": "a,b"})):
        with pytest.raises(PgError) as caught:
            apply(moved, command)
        assert caught.value.sqlstate == "22023"
    with pytest.raises(PgError, match="does not exist"):
        apply(moved, LabelNode(name="n9", changes={"zone": "a"}))


def test_no_instance_is_outside_of_its_groups_location() -> None:
    nodes = (node(1, region="eu"), node(2, region="eu"), node(3, region="us"))
    catalog = Snapshot(nodes=nodes, groups=(group("g1", 3), group("eu", 1, 2, region="eu")))
    abroad = AddGroup(group="g3", nodes=("n2", "n3"), durability="all", origin="g1", location={"region": "eu"})
    for command in (
        LabelNode(name="n1", changes={"region": "us"}),
        LabelNode(name="n1", changes={"region": ""}),
        ChangeGroup(group="eu", add=("n3",)),
        ChangeGroup(group="g1", location={"region": "eu"}),
        abroad,
    ):
        with pytest.raises(PgError) as caught:
            apply(catalog, command)
        assert caught.value.sqlstate == "55000"
    assert apply(catalog, LabelNode(name="n3", changes={"region": "as"})).version == 1
    coming = apply(catalog, msgspec.structs.replace(abroad, nodes=("n2",)))
    assert coming.coming[0].group.location == {"region": "eu"}
    with pytest.raises(PgError, match="would not be in location region=eu"):
        apply(coming, LabelNode(name="n2", changes={"region": "us"}))
    anywhere = apply(catalog, ChangeGroup(group="eu", location={}))
    assert anywhere.group_by_name["eu"].location == {}
    assert apply(catalog, ChangeGroup(group="eu", durability="all")).group_by_name["eu"].location == {"region": "eu"}
    gone = apply(catalog, ChangeGroup(group="eu", remove=("eu.1",)))
    apply(gone, LabelNode(name="n1", changes={"region": "us"}))  # what leaves may be anywhere


def test_catalogs_without_labels_are_read() -> None:
    for kind, text in (
        (Node, b'{"name":"n1","host":"h","gateway_port":1}'),
        (Group, b'{"name":"g1","instances":[]}'),
        (ChangeGroup, b'{"type":"change_group","group":"g1","durability":"all"}'),
        (AddGroup, b'{"type":"add_group","group":"g1","nodes":[],"durability":"all","origin":"g2"}'),
    ):
        msgspec.json.decode(text, type=kind)


# --- placement


def test_a_group_is_spread_over_zones() -> None:
    nodes = tuple(node(number, zone="aabbc"[number - 1]) for number in range(1, 6))
    busy = Snapshot(nodes=nodes, groups=(group("g1", 1), group("g2", 3, 5), group("g3", 5)))
    assert to_have(busy, busy.groups[0], 3, "g1.1").add == ("n4", "n5"), "another zone, before what has less to do"
    assert to_have(busy, busy.groups[0], 5, "g1.1").add == ("n4", "n5", "n2", "n3")
    spread = Snapshot(nodes=nodes, groups=(group("g1", 1, 3, 5), group("g2", 2)))
    assert to_leave(spread, spread.groups[0], "n1").add == ("n2",), "the zone that is left is free"
    crowded = Snapshot(nodes=nodes, groups=(group("g1", 1, 2, 3),))
    assert to_have(crowded, crowded.groups[0], 2, "g1.1").remove == ("g1.2",)
    assert to_have(crowded, crowded.groups[0], 2, "g1.1", away={"g1.3"}).remove == ("g1.3",)


def test_a_zones_name_is_its_regions_own() -> None:
    nodes = (node(1, region="eu", zone="1"), node(2, region="eu", zone="1"), node(3, region="us", zone="1"))
    catalog = Snapshot(nodes=nodes, groups=(group("g1", 1),))
    assert to_have(catalog, catalog.groups[0], 2, "g1.1").add == ("n3",)


def test_a_group_with_a_location_is_on_its_nodes_only() -> None:
    nodes = tuple(node(number, region="eu" if number < 4 else "us") for number in range(1, 6))
    catalog = Snapshot(nodes=nodes, groups=(group("g1", 1, 2, 3, 4), group("eu", 1, 2, region="eu")))
    eu = catalog.groups[1]
    assert to_have(catalog, eu, 3, "eu.1").add == ("n3",)
    assert to_leave(catalog, eu, "n1").add == ("n3",)
    with pytest.raises(PgError, match="cannot have 4 instances on 3 nodes with region=eu") as caught:
        to_have(catalog, eu, 4, "eu.1")
    assert caught.value.sqlstate == "22023"
    full = Snapshot(nodes=nodes, groups=(group("eu", 1, 2, 3, region="eu"),))
    with pytest.raises(PgError, match="every other node with region=eu has an instance of it") as caught:
        to_leave(full, full.groups[0], "n1")
    assert caught.value.sqlstate == "55000"


def test_rows_are_not_copied_to_another_place_where_others_do() -> None:
    catalog = Snapshot(groups=(group("g1", 1), group("eu", 1, region="eu"), group("us", 2, region="us")))
    assert set(possible_origins(catalog, {"region": "us"})) == {"g1", "us"}
    assert possible_origins(catalog, {}) == ("g1",)
    abroad = Snapshot(groups=catalog.groups[1:])
    assert set(possible_origins(abroad, {})) == {"eu", "us"}


def crowds(catalog: Snapshot, names: tuple[str, ...]) -> list[int]:
    """How many instances the zones have, the fullest first: the smaller, the more evenly they are spread."""
    return sorted(Counter(zone_of(catalog.node_by_name[name]) for name in names).values(), reverse=True)


zones = st.lists(st.sampled_from(("a", "b", "c", None)), min_size=2, max_size=7)


@given(zones, st.data())
def test_no_choice_of_nodes_is_more_even(places: list[str | None], data: st.DataObject) -> None:
    nodes = tuple(node(i, **({} if zone is None else {"zone": zone})) for i, zone in enumerate(places, start=1))
    everywhere = data.draw(st.permutations(range(1, len(nodes) + 1)))
    there = everywhere[: data.draw(st.integers(1, len(nodes)))]
    others = [group(f"g{i}", i) for i in data.draw(st.lists(st.integers(2, 7), unique=True)) if i <= len(nodes)]
    own = group("g1", *there)
    catalog = Snapshot(nodes=nodes, groups=(own, *others))
    replicas = data.draw(st.integers(1, len(nodes)))
    moves = to_have(catalog, own, replicas, "g1.1")
    stay = tuple(each.node for each in own.instances if each.name not in moves.remove)
    after = stay + moves.add
    assert len(set(after)) == len(after) == replicas and after[0] == f"n{there[0]}"
    free = [each.name for each in nodes if each.name not in stay]
    followers = [each.node for each in own.instances[1:]]
    possible = (
        (stay + chosen for chosen in itertools.combinations(free, len(moves.add)))
        if replicas >= len(there)
        else ((after[0], *kept) for kept in itertools.combinations(followers, replicas - 1))
    )
    assert crowds(catalog, after) == min(crowds(catalog, each) for each in possible)


@given(st.integers(2, 6), st.data())
def test_where_no_node_has_labels_those_with_least_to_do_come_first(count: int, data: st.DataObject) -> None:
    loads = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    groups = [group(f"g{i}_{turn}", i) for i, load in enumerate(loads, start=1) for turn in range(load)]
    catalog = Snapshot(nodes=tuple(node(i) for i in range(1, count + 1)), groups=tuple(groups))
    wanted = data.draw(st.integers(1, count))
    order = sorted(range(1, count + 1), key=lambda i: (loads[i - 1], i))
    assert free_nodes(catalog, Group(name="new", instances=()), wanted) == tuple(f"n{i}" for i in order[:wanted])
