"""Nodes whose log an etcd keeps: what becomes of proposals when it dies, of leaders that were replaced, of long commands."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hanse.consensus.etcd import address, reach, requests
from hanse.consensus.etcd.client import Client
from hanse.consensus.etcd.keys import Keys, office
from hanse.consensus.etcd.node import LogLost, Node
from hanse.consensus.etcd.seen import SEEN_FILE, read_seen
from hanse.core.errors import PgError, UserMistake
from hanse.core.limits import ETCD_INLINE_BYTES_MAX, ETCD_PART_BYTES
from support.certificates import make_certificate
from support.consensus import Members, by_etcd
from support.etcd import Etcd, needs_etcd, running_etcd
from support.raft_nodes import THREE, Journal, until

pytestmark = needs_etcd


@pytest.fixture(scope="module")
def etcd(run_directory: Path) -> Iterator[Etcd]:
    with running_etcd(run_directory, servers=3) as etcd:
        yield etcd


def members_of(etcd: Etcd, directory: Path, *, snapshot_entries: int = 1000, lease_s: float = 5.0) -> Members[Journal]:
    return Members(by_etcd(directory, etcd.url, snapshot_entries=snapshot_entries, lease_s=lease_s), Journal)


async def test_each_proposal_is_made_once_or_never_while_etcd_is_killed(etcd: Etcd, tmp_path: Path) -> None:
    done: dict[bytes, int] = {}
    refused: list[bytes] = []
    unknown: list[bytes] = []
    ending = asyncio.Event()

    async def work(name: str) -> None:
        number = 0
        while not ending.is_set():
            number += 1
            command = b"%s.%d" % (name.encode(), number)
            try:
                done[command] = int(await members.nodes[name].propose(command))
            except PgError as error:
                assert error.sqlstate in ("57P03", "08007")
                (refused if error.sqlstate == "57P03" else unknown).append(command)

    async with members_of(etcd, tmp_path, snapshot_entries=15) as members:
        await members.start(*THREE)
        async with asyncio.TaskGroup() as group:
            for name in THREE:
                group.create_task(work(name))
            for way in ("killed", "without its leader", "without two", "suspended"):
                reached = len(done) + 10
                await until(lambda reached=reached: len(done) >= reached)  # type: ignore[misc]
                if way == "killed":
                    etcd.kill()
                    await asyncio.to_thread(etcd.start)
                elif way == "without its leader":
                    lost = await asyncio.to_thread(etcd.leader)
                    etcd.kill(lost)
                    reached += 10
                    await until(lambda reached=reached: len(done) >= reached)  # type: ignore[misc]
                    await asyncio.to_thread(etcd.start, lost)
                elif way == "without two":
                    etcd.kill(0, 1)
                    await asyncio.to_thread(etcd.start, 0, 1)
                else:
                    with etcd.suspended():
                        await asyncio.sleep(2.5)  # longer than a request waits
            reached = len(done) + 10
            await until(lambda: len(done) >= reached)
            ending.set()
        for node in members.nodes.values():
            await node.read()
        logs = {tuple(machine.writes) for machine in members.machines.values()}
    assert len(logs) == 1
    writes = logs.pop()
    assert len(set(writes)) == len(writes), "a proposal was made twice"
    assert {command: writes.index(command) + 1 for command in done} == done
    assert not set(refused) & set(writes)
    assert set(writes) <= set(done) | set(unknown)


async def test_who_was_replaced_knows_it_after_a_read_and_proposes_nothing(etcd: Etcd, tmp_path: Path) -> None:
    """The other leads without the first having been told, as after a long sleep of the first's machine."""
    client, keys = Client(address.parse(etcd.url)), Keys(tmp_path.name)
    async with members_of(etcd, tmp_path) as members:
        await members.start("n1")
        await members.leader()
        node = members.nodes["n1"]
        known = node.leadership
        await node.propose(b"1", term=known.term)
        lease, _ = await client.grant(60)
        seen = keys.seen(await client.transaction(keys.look(0)))
        assert requests.was_done(await client.transaction(keys.campaign(seen, "n9", lease)))
        assert not requests.was_done(await client.transaction(keys.campaign(seen, "n8", lease)))
        with pytest.raises(PgError) as caught:
            await node.propose(b"2", term=known.term)
        assert caught.value.sqlstate == "57P03"
        await node.read()
        assert (node.leadership.leads, node.leadership.leader, node.leadership.term) == (False, "n9", known.term + 1)
        # What the former leader sent before, and what comes only now:
        _, late = keys.append(node.version, b"late", b"3", leader=office(known.term, "n1"))
        assert not requests.was_done(await client.transaction(late))
        await client.revoke(lease)
        await until(lambda: node.leadership.leads)
        assert node.leadership.term == known.term + 2
        assert members.machines["n1"].writes == [b"1"]
    client.close()


async def test_who_lost_etcd_for_a_lease_leads_no_more_and_comes_back_in_a_later_term(
    etcd: Etcd, tmp_path: Path
) -> None:
    async with members_of(etcd, tmp_path, lease_s=2.0) as members:
        await members.start("n1")
        await members.leader()
        node = members.nodes["n1"]
        known = node.leadership
        etcd.kill()
        try:
            await until(lambda: not node.leadership.leads)
            with pytest.raises(PgError) as caught:
                await node.propose(b"1", term=known.term)
            assert caught.value.sqlstate == "57P03"
        finally:
            await asyncio.to_thread(etcd.start)  # the lease in it is good again for its whole time
        await until(lambda: node.leadership.leads)
        assert node.leadership.term > known.term
        assert await node.propose(b"2") == b"1"


async def test_long_commands_and_snapshots_lie_in_parts(etcd: Etcd, tmp_path: Path) -> None:
    sizes = (1, ETCD_INLINE_BYTES_MAX + 1, 2 * ETCD_PART_BYTES + 1)
    commands = [b"%d" % number * size for number, size in enumerate(sizes)]
    async with members_of(etcd, tmp_path, snapshot_entries=4) as members:
        await members.start("n1", "n2")
        await members.leader()
        for command in commands:
            await members.nodes["n1"].propose(command)
        await members.nodes["n2"].read()
        assert members.machines["n2"].writes == commands
        assert await keys_of(etcd, tmp_path, "log-part") == 1 + 3
        await members.nodes["n1"].propose(b"last")
        await until_no_log(etcd, tmp_path)
        assert await keys_of(etcd, tmp_path, "log-part") == 0
        assert await keys_of(etcd, tmp_path, "snapshot-part") == 3
        await members.start("n3")
        await members.nodes["n3"].read()
        assert members.machines["n3"].restored == 1
        assert members.machines["n3"].writes == [*commands, b"last"]
        with pytest.raises(PgError) as caught:
            await members.nodes["n1"].propose(bytes((64 << 20) + 1))
        assert caught.value.sqlstate == "54000"


async def keys_of(etcd: Etcd, directory: Path, kind: str) -> int:
    client = Client(address.parse(etcd.url))
    root = f"/hanse/{directory.name}/{kind}"
    question = requests.transaction([], [requests.get_range(f"{root}/", f"{root}0", limit=0)])
    ((*pairs,),) = requests.found(await client.transaction(question))
    client.close()
    return len(pairs)


async def until_no_log(etcd: Etcd, directory: Path) -> None:
    async with asyncio.timeout(60):
        while await keys_of(etcd, directory, "log"):
            await asyncio.sleep(0.05)


async def test_a_log_that_is_shorter_than_it_was_is_not_followed(run_directory: Path, tmp_path: Path) -> None:
    """A new catalog in the place of one that was lost would have no tables."""
    with running_etcd(run_directory) as etcd:
        members = members_of(etcd, tmp_path)
        await members.start("n1")
        await members.leader()
        await members.nodes["n1"].propose(b"1")
        etcd.kill()
        shutil.rmtree(etcd.directory / "etcd-0")
        await asyncio.to_thread(etcd.start)
        with pytest.raises(UserMistake, match="has 0 changes of this cluster's catalog, and it had 1"):
            known = read_seen(tmp_path / "n1")
            await asyncio.to_thread(reach.check, address.parse(etcd.url), cluster=tmp_path.name, seen=known)
        for _ in range(2):  # a start does not help
            with pytest.raises(LogLost):
                async with asyncio.timeout(60):
                    await members.nodes["n1"].failed
            with pytest.raises(PgError) as caught:
                await members.nodes["n1"].propose(b"2")
            assert caught.value.sqlstate == "57P03"
            await members.stop("n1")
            await members.start("n1")
        await members.stop("n1")
        (tmp_path / "n1" / SEEN_FILE).unlink()  # somebody has restored what there was
        await members.start("n1")
        assert await members.nodes["n1"].propose(b"3") == b"1"
        await members.stop("n1")


async def test_users_and_tls(run_directory: Path, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with running_etcd(run_directory, certificate=certificate) as etcd:
        plain = f"etcds://127.0.0.1:{etcd.port}?ca={certificate[0]}"
        await turn_on_users(plain)
        right = plain.replace("//", "//hanse:s%40cret@")
        async with Members(by_etcd(tmp_path, right, snapshot_entries=10), Journal) as members:
            await members.start("n1")
            node = members.nodes["n1"]
            assert await node.propose(b"1") == b"1"
            etcd.kill()
            await asyncio.to_thread(etcd.start)  # it knows no token any more
            assert await node.propose(b"2") == b"2"
        strangers = (plain, plain.replace("//", "//hanse:wrong@"), right.partition("?")[0])
        for stranger in strangers:  # nobody, not he, and one who does not know the authority
            unheard = Client(address.parse(stranger))
            with pytest.raises(Exception, match=str(etcd.port)) as caught:
                await unheard.transaction(Keys(tmp_path.name).look(0))
            assert not caught.value.sent and "wrong" not in str(caught.value)  # type: ignore[attr-defined]
            unheard.close()


async def turn_on_users(url: str) -> None:
    """`hanse` may use the keys of Hanse and no others."""
    client = Client(address.parse(url))
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("auth/role/add", {"name": "hanse"}),
        ("auth/role/grant", {"name": "hanse", "perm": {"permType": "READWRITE", **_everything_under("/hanse/")}}),
        ("auth/user/add", {"name": "hanse", "password": "s@cret"}),
        ("auth/user/grant", {"user": "hanse", "role": "hanse"}),
        ("auth/user/add", {"name": "root", "password": "r"}),
        ("auth/user/grant", {"user": "root", "role": "root"}),
        ("auth/enable", {}),
    )
    for what, question in steps:
        await client._ask(what, question)
    client.close()


def _everything_under(prefix: str) -> dict[str, str]:
    step = requests.get_range(prefix, prefix[:-1] + "0", limit=0)["request_range"]
    return {"key": step["key"], "range_end": step["range_end"]}


async def test_a_node_says_which_files_cannot_be_used(tmp_path: Path) -> None:
    url = f"etcds://127.0.0.1:1?ca={tmp_path}/none.crt"
    with pytest.raises(UserMistake, match="TLS"):
        Node("n1", tmp_path, address.parse(url), Journal(), cluster="c")
