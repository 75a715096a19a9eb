"""What `consensus.contract` promises, of each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hanse.core.errors import PgError
from support.consensus import Make, Members, by_etcd, by_raft
from support.etcd import needs_etcd, running_etcd
from support.raft_nodes import THREE, Journal, until

SNAPSHOT_ENTRIES = 20


@pytest.fixture(scope="module", params=["raft", pytest.param("etcd", marks=needs_etcd)])
def url(request: pytest.FixtureRequest, run_directory: Path) -> Iterator[str | None]:
    """Of an etcd; None: the nodes themselves."""
    if request.param == "raft":
        yield None
        return
    with running_etcd(run_directory) as etcd:
        yield etcd.url


@pytest.fixture
def make(url: str | None, tmp_path: Path) -> Make:
    entries = SNAPSHOT_ENTRIES
    return (
        by_raft(tmp_path, snapshot_entries=entries) if url is None else by_etcd(tmp_path, url, snapshot_entries=entries)
    )


@pytest.fixture
async def members(make: Make) -> AsyncIterator[Members[Journal]]:
    async with Members(make, Journal) as members:
        await members.start(*THREE)
        yield members


async def test_any_node_proposes_and_reads(members: Members[Journal]) -> None:
    await members.leader()
    results = [int(await node.propose(b"x%s" % name.encode())) for name, node in members.nodes.items()]
    assert results == [1, 2, 3]
    for name, node in members.nodes.items():
        for lease in (True, False):
            await node.read(lease=lease)
            assert members.machines[name].writes == [b"xn1", b"xn2", b"xn3"]
    first = members.nodes["n1"]
    watched = asyncio.create_task(first.changed(first.version))
    await members.nodes["n2"].propose(b"y")
    async with asyncio.timeout(60):
        assert await watched == first.version
    assert members.machines["n1"].writes[-1] == b"y"


async def test_proposals_at_once_are_each_made_once(members: Members[Journal]) -> None:
    await members.leader()
    work = [members.nodes[THREE[number % 3]].propose(b"%d" % number) for number in range(30)]
    results = await asyncio.gather(*work)
    assert sorted(map(int, results)) == list(range(1, 31))
    for name, node in members.nodes.items():
        await node.read()
        assert sorted(map(int, members.machines[name].writes)) == list(range(30))
    assert len({tuple(machine.writes) for machine in members.machines.values()}) == 1


async def test_a_term_is_its_leaders_alone(members: Members[Journal]) -> None:
    first = await members.leader()
    known = members.nodes[first].leadership
    await members.nodes[first].propose(b"1", term=known.term)
    follower = next(name for name in THREE if name != first)
    with pytest.raises(PgError) as caught:  # it would be another's
        await members.nodes[follower].propose(b"2", term=known.term)
    assert caught.value.sqlstate == "57P03"
    waiting = asyncio.create_task(members.nodes[follower].leadership_changed(members.nodes[follower].leadership))
    await members.stop(first)
    async with asyncio.timeout(60):
        await waiting
    second = await members.leader()
    later = members.nodes[second].leadership
    assert (later.leader, later.leads) == (second, True) and later.term > known.term
    assert members.machines[second].writes == [b"1"]
    with pytest.raises(PgError):
        await members.nodes[second].propose(b"3", term=known.term)
    await members.start(first)
    await members.nodes[first].read()
    assert members.machines[first].writes == [b"1"] and members.nodes[first].leadership.term >= later.term


async def test_all_is_there_after_a_restart(members: Members[Journal]) -> None:
    for number in range(50):  # with a snapshot in between
        await members.nodes["n1"].propose(b"%d" % number)
    await members.stop(*THREE)
    await members.start(*THREE)
    await members.leader()
    assert await members.nodes["n3"].propose(b"more") == b"51"
    await members.nodes["n2"].read()
    assert members.machines["n2"].writes == [b"%d" % number for number in range(50)] + [b"more"]
    await until(lambda: members.nodes["n1"].version == members.nodes["n3"].version)
    assert members.machines["n1"].writes == members.machines["n3"].writes


async def test_a_node_that_stops_tells_whoever_waits(members: Members[Journal]) -> None:
    await members.leader()
    node = members.nodes["n1"]
    waiting = [
        asyncio.create_task(node.changed(node.version + 100)),
        asyncio.create_task(node.leadership_changed(node.leadership)),
    ]
    await asyncio.sleep(0)
    await members.stop("n1")
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(outcomes[0], PgError) and outcomes[0].sqlstate == "57P03"
    for attempt in (node.propose(b"x"), node.read()):
        with pytest.raises(PgError) as caught:
            await attempt
        assert caught.value.sqlstate == "57P03"
