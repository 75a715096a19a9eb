"""Labels of nodes: they say where a node is, and placement and reads of what is near go by them.

    hanse join … --label region=eu --label zone=eu-1        labels of a node
    CREATE TABLESPACE eu LOCATION 'region=eu'               the location of a group: labels that each of its nodes has

A location may name any label. Two labels mean something by themselves: nodes of one `region` and one `zone` fail together, so
that a group's instances are spread over such pairs. Nodes that have neither are one zone more: nobody knows where they are.

The catalog holds them. `hanse init` and `hanse join` give the first ones, `hanse label` changes them; a node that starts tells its
address and nothing of them (`node_commands.py`), so there are no two words on where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from ..core.errors import PgError
from ..core.limits import NODE_LABELS_MAX
from .model import Group, Node, Snapshot

Labels = dict[str, str]

REGION, ZONE = "region", "zone"
FARTHEST = 3
# Neither has what separates labels in a location, or means something to a shell.
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def parse(texts: Iterable[str]) -> Labels:
    """`key=value` each; what the names look like is for `check` to say. Raises ValueError with a sentence for a person."""
    found: Labels = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ValueError(f"a label is KEY=VALUE, not {text.strip()!r}")
        if key in found:
            raise ValueError(f"label {key!r} is given twice")
        found[key] = value
    return found


def check(labels: Mapping[str, str]) -> None:
    """Raises ValueError likewise."""
    for key, value in labels.items():
        if not _KEY.fullmatch(key):
            raise ValueError(f"a label's key has up to 63 small letters, digits, hyphens and underscores, not {key!r}")
        if not _VALUE.fullmatch(value):
            raise ValueError(
                f"a label's value has up to 63 letters, digits, dots, hyphens and underscores, not {value!r}"
            )
    if len(labels) > NODE_LABELS_MAX:
        raise ValueError(f"there are at most {NODE_LABELS_MAX} labels, not {len(labels)}")


def changed(labels: Mapping[str, str], changes: Mapping[str, str]) -> Labels:
    """An empty value takes a label away. Raises 22023."""
    after = {key: value for key, value in sorted({**labels, **changes}.items()) if value}
    try:
        check(after)
    except ValueError as error:
        raise PgError("22023", str(error)) from None
    return after


def written(labels: Mapping[str, str]) -> str:
    """As LOCATION has it."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def lies_in(node: Node, location: Mapping[str, str]) -> bool:
    return all(node.labels.get(key) == value for key, value in location.items())


def zone_of(node: Node) -> tuple[str, str]:
    return node.labels.get(REGION, ""), node.labels.get(ZONE, "")


def distance(here: Node, there: Node) -> int:
    """0: the same node; 1: the same zone; 2: the same region; else FARTHEST."""
    if here.name == there.name:
        return 0
    if here.labels.get(ZONE) and zone_of(here) == zone_of(there):
        return 1
    return 2 if here.labels.get(REGION) and here.labels.get(REGION) == there.labels.get(REGION) else FARTHEST


def check_location(snapshot: Snapshot, group: Group) -> None:
    """Every instance that a group is to have is where the group's location says. Raises 55000."""
    for instance in group.wanted:
        node = snapshot.node_by_name.get(instance.node)
        if node is not None and not lies_in(node, group.location):
            raise PgError(
                "55000",
                f"instance {instance.name} on node {node.name} would not be in location {written(group.location)}",
                detail=f"Labels of node {node.name}: {written(node.labels) or 'none'}.",
                hint=f"ALTER TABLESPACE {group.name} SET (leave = '{node.name}') moves it to another node.",
            )


def with_changed_labels(snapshot: Snapshot, name: str, changes: Mapping[str, str]) -> Snapshot:
    """Raises 22023, or 55000 where a group's instance needs the node to be where it was."""
    nodes = tuple(
        msgspec.structs.replace(node, labels=changed(node.labels, changes)) if node.name == name else node
        for node in snapshot.nodes
    )
    after = msgspec.structs.replace(snapshot, nodes=nodes)
    for group in (*after.groups, *(each.group for each in after.coming)):
        check_location(after, group)
    return after
