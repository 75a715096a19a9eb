"""The control service and its clients over real sockets: versions, the lock, freezes, leases, reconnection.

Who leads is what the test says (`support/local_consensus.py`); `tests/e2e/test_control_plane.py` has real Raft.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from hanse.catalog import protocol as p
from hanse.catalog.client import ControlClient
from hanse.catalog.client_link import NotLeading, open_link
from hanse.catalog.commands import CommitDdl, DdlEntry, SetTopology
from hanse.catalog.known_log import KnownLog
from hanse.catalog.machine import encode
from hanse.catalog.model import Group, Instance, Kind, Node, Relation, Snapshot
from hanse.catalog.service import ControlService
from hanse.catalog.service_session import ServiceSession
from hanse.catalog.tenure import Tenure
from hanse.core.clock import clock
from hanse.core.errors import PgError, UserMistake
from hanse.core.node_tls import NodeTls, node_tls
from support.certificates import make_node_certificates
from support.local_consensus import LocalLog, LocalNode

NODES = ("n1", "n2", "n3")
G1 = Group(name="g1", instances=(Instance(name="g1.1", node="n1", host="h", port=1),))
INITIAL = Snapshot(version=0, groups=(G1,))
TOPOLOGY = SetTopology(nodes=(), groups=(G1,))
T = (("public", "t"),)


def ddl(version: int, name: str | None = None) -> CommitDdl:
    relation = Relation(schema="public", name=f"t{version}", kind=Kind.SINGLE, group="g1")
    return CommitDdl(
        transaction_id=name or f"x{version}",
        expected_version=version,
        role="hanse",
        statements=(f"CREATE TABLE t{version} ()",),
        relations=(relation,),
    )


class Control:
    """Services of one control plane, their clients, and their end. The first leads."""

    def __init__(self, tls: Tls, initial: Snapshot = INITIAL) -> None:
        self.tls = tls
        self.log = LocalLog(initial)
        self.nodes: list[LocalNode] = []
        self.services: list[ControlService] = []
        self.ports: list[int] = []
        self.clients: list[ControlClient] = []

    @property
    def service(self) -> ControlService:
        return self.services[0]

    @property
    def tenure(self) -> Tenure:
        tenure = self.service.tenure
        assert tenure is not None
        return tenure

    async def start(self, nodes: int = 1, **more: float) -> None:
        """New services on the addresses of the former ones."""
        self.nodes, self.services = [], []
        self.log.nodes.clear()
        for number in range(nodes):
            node = self.log.node(f"n{number + 1}")
            service = ControlService(
                node, node.machine, self.tls[node.name], **{"lease_s": 0.6, "ack_wait_s": 0.3, **more}
            )
            await service.start("127.0.0.1", self.ports[number] if self.ports else 0)
            self.nodes.append(node)
            self.services.append(service)
        self.ports = [service.port for service in self.services]
        await self.elect(0)

    async def elect(self, number: int) -> None:
        self.log.elect(self.nodes[number])
        await eventually(lambda: self.services[number].tenure)

    async def elect_for(self, number: int, client: ControlClient) -> None:
        """Until `client` follows it."""
        link = client._link
        await self.elect(number)
        await eventually(lambda: client._link not in (None, link) and client._in_force)

    async def stop(self) -> None:
        for service in self.services:
            await service.stop()

    async def client(self, name: str = "n1", tls: NodeTls | None = None, **more: object) -> ControlClient:
        times = {"lease_s": 0.6, "ping_s": 0.1}
        patience_s = more.pop("connect_s", 5)
        addresses = [(f"n{number}", "127.0.0.1", port) for number, port in enumerate(self.ports, start=1)]
        client = ControlClient(addresses, tls or self.tls["n1"], name, **{**times, **more})  # type: ignore[arg-type]
        self.clients.append(client)
        await client.connect(patience_s)  # type: ignore[arg-type]
        return client

    def session(self, name: str) -> ServiceSession:
        return next(session for session in self.tenure._sessions if session.watcher.name == name)


Tls = dict[str, NodeTls]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Of three nodes, and of n1 as another cluster's authority would have it."""
    ours, others = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("others")
    make_node_certificates(ours, *NODES)
    make_node_certificates(others, "n1")
    return {name: _load(ours, name) for name in NODES} | {"stranger": _load(others, "n1")}


def _load(directory: Path, name: str) -> NodeTls:
    return node_tls(directory / "ca.crt", directory / f"{name}.crt", directory / f"{name}.key")


async def _running(tls: Tls, nodes: int) -> AsyncIterator[Control]:
    control = Control(tls)
    await control.start(nodes)
    yield control
    for client in control.clients:
        await client.close()
    await control.stop()


@pytest.fixture
async def control(tls: Tls) -> AsyncIterator[Control]:
    async for control in _running(tls, 1):
        yield control


@pytest.fixture
async def three(tls: Tls) -> AsyncIterator[Control]:
    async for control in _running(tls, 3):
        yield control


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_change_reaches_everybody_before_it_is_answered(control: Control) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}

    def follow(name: str) -> Callable[[Snapshot], Awaitable[None]]:
        async def on_change(snapshot: Snapshot) -> None:
            await asyncio.sleep(0.02)  # taking over takes time; the change must wait for it
            seen[name].append(snapshot.version)

        return on_change

    a = await control.client("a", on_change=follow("a"))
    await control.client("b", on_change=follow("b"))
    async with a.ddl_lock():
        assert await a.propose(ddl(0)) == 1
        assert seen == {"a": [0, 1], "b": [0, 1]}
    assert a.live
    assert a.snapshot.relations[0].name == "t0"
    assert [entry.version for entry in await a.ddl_log(0)] == [1]
    assert await a.outcome("x0")
    assert (await a.wait_version(1)).version == 1


async def test_wait_version(control: Control) -> None:
    a, b = await control.client("a"), await control.client("b")
    later = asyncio.create_task(b.wait_version(2, 5))
    await asyncio.sleep(0)
    await a.propose(TOPOLOGY)
    await a.propose(TOPOLOGY)
    assert (await later).version == 2
    with pytest.raises(PgError) as caught:
        await b.wait_version(3, 0.01)
    assert caught.value.sqlstate == "57P03"


async def test_nobody_without_a_certificate_of_the_cluster_is_heard(control: Control) -> None:
    with pytest.raises(PgError, match="not reachable"):
        await control.client(tls=control.tls["stranger"], connect_s=0.3)
    address = ("n1", "127.0.0.1", control.ports[0])
    with pytest.raises(ssl.SSLError):
        await open_link(address, control.tls["stranger"], "a")
    with pytest.raises(ssl.SSLError):  # it is called, and another answers
        await open_link(("n2", *address[1:]), control.tls["n1"], "a")
    reader, writer = await asyncio.open_connection(*address[1:])  # without TLS
    writer.write(p.encode(p.Hello(format=p.FORMAT, name="x"), 100))
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    bare = ssl.create_default_context()
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, EOFError)):
        await open_link(address, NodeTls(bare, bare, bare), "a")


async def test_a_node_that_was_removed_is_told_so(control: Control) -> None:
    nodes = tuple(Node(name=name, host="h", gateway_port=1) for name in ("n1", "n3"))
    await (await control.client()).propose(SetTopology(nodes=nodes, groups=(G1,)))
    with pytest.raises(PgError, match="removed") as caught:
        await control.client("n2", control.tls["n2"])
    assert caught.value.sqlstate == "28000"
    assert (await control.client("n3", control.tls["n3"])).live


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("!I", 1 << 30),  # too large for a greeting
        struct.pack("!I", 3) + b"\xc1\xc1\xc1",
        p.LENGTH.pack(2) + msgspec.msgpack.encode([1]),
        p.encode(p.Ping(number=1), 100),
        p.encode(p.Hello(format=p.FORMAT - 1, name="x"), 100),
    ],
)
async def test_rubbish_before_the_greeting_ends_the_connection(control: Control, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", control.ports[0], ssl=control.tls["n2"].client, server_hostname="n1"
    )
    writer.write(sent)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert (await control.client()).live  # the service goes on


async def test_the_lock_is_fair_and_waits(control: Control) -> None:
    a, b, c = [await control.client(name) for name in "abc"]
    order: list[str] = []

    async def take(client: ControlClient, name: str) -> None:
        async with client.ddl_lock(5):
            order.append(name)
            await asyncio.sleep(0.01)

    async with a.ddl_lock():
        first = asyncio.create_task(take(b, "b"))
        await eventually(lambda: len(control.tenure.ddl_lock._waiting) == 1)
        second = asyncio.create_task(take(c, "c"))
        await eventually(lambda: len(control.tenure.ddl_lock._waiting) == 2)
        with pytest.raises(PgError) as caught:
            async with (await control.client("d")).ddl_lock(0.05):
                pass
        assert caught.value.sqlstate == "55P03"
        assert order == []
    await asyncio.gather(first, second)
    assert order == ["b", "c"]


async def test_the_lock_ends_with_its_holder(control: Control) -> None:
    a, b = await control.client("a"), await control.client("b")
    held = a.ddl_lock()
    await held.__aenter__()
    waiting = b.ddl_lock(5)
    entering = asyncio.create_task(waiting.__aenter__())
    await eventually(lambda: control.tenure.ddl_lock._waiting)
    await a.close()
    await entering
    assert await b.propose(ddl(0)) == 1
    await waiting.__aexit__(None, None, None)
    await held.__aexit__(None, None, None)
    assert control.tenure.ddl_lock.holder is None


async def test_the_lock_comes_back_from_who_was_cancelled_while_it_asked(control: Control) -> None:
    a, b = await control.client("a"), await control.client("b")
    async with b.ddl_lock():
        asking = asyncio.create_task(a.ddl_lock(5).__aenter__())
        await eventually(lambda: control.tenure.ddl_lock._waiting)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await eventually(lambda: control.tenure.ddl_lock.holder is None)
    async with a.ddl_lock(5):
        pass


async def test_a_freeze_comes_back_from_who_was_cancelled_while_it_asked(control: Control) -> None:
    drained = asyncio.Event()
    a, b = await control.client("a"), await control.client("b", on_freeze=lambda _: drained.wait())
    asking = asyncio.create_task(a.freeze((("public", "t"),), 5))
    await eventually(lambda: control.tenure._freezes)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    drained.set()
    await eventually(lambda: not control.tenure._freezes)
    assert not b._freezes


async def test_a_schema_change_needs_the_lock_and_the_newest_version(control: Control) -> None:
    a, b = await control.client("a"), await control.client("b")
    with pytest.raises(PgError, match="the catalog changed meanwhile") as caught:
        await a.propose(ddl(0))
    assert caught.value.sqlstate == "40001"
    async with a.ddl_lock():
        assert await a.propose(ddl(0)) == 1
        await b.propose(TOPOLOGY)
        with pytest.raises(PgError) as caught:
            await a.propose(ddl(1))
    assert caught.value.sqlstate == "40001"
    assert await b.propose(ddl(0)) == 1  # repeated, also by another: the first answer


async def test_an_outcome_that_was_told_stays(control: Control) -> None:
    a = await control.client("a")
    assert not await a.outcome("x0")
    async with a.ddl_lock():
        with pytest.raises(PgError) as caught:
            await a.propose(ddl(0))
    assert caught.value.sqlstate == "40000"


async def test_to_look_up_settles_nothing(control: Control) -> None:
    a = await control.client("a")
    assert await a.look_up("x0") == ""
    async with a.ddl_lock():
        await a.propose(ddl(0))
    assert await a.look_up("x0") == "c"
    assert not await a.outcome("x1")
    assert await a.look_up("x1") == "a"


async def test_a_watcher_that_does_not_acknowledge_is_dropped(control: Control) -> None:
    stuck = asyncio.Event()

    async def on_change(snapshot: Snapshot) -> None:
        if snapshot.version == 1:
            await stuck.wait()

    a, b = await control.client("a"), await control.client("b", on_change=on_change)
    began = now()
    assert await a.propose(TOPOLOGY) == 1
    assert now() - began >= 0.3
    assert not b.live  # nothing is planned on version 0 after the answer
    stuck.set()
    await eventually(lambda: b.live)
    assert b.snapshot.version == 1


async def test_a_watcher_whose_network_broke_is_waited_for(control: Control) -> None:
    a, b = await control.client("a"), await control.client("b")
    session = control.session("b")
    pinged = session.watcher.pinged_at
    session.drop()  # to the service the connection is gone; b may not know
    await eventually(lambda: session not in control.tenure._sessions)
    await b.close()
    assert await a.propose(TOPOLOGY) == 1
    assert now() >= pinged + 0.6


async def test_a_watcher_that_said_goodbye_is_not_waited_for(tls: Tls) -> None:
    control = Control(tls)
    await control.start(lease_s=60)
    a, b = await control.client("a"), await control.client("b")
    await b.close()
    async with asyncio.timeout(5):
        assert await a.propose(TOPOLOGY) == 1
    await a.close()
    await control.stop()


async def test_a_failing_callback_is_no_acknowledgement(control: Control) -> None:
    failures = iter([True, False])

    def on_change(snapshot: Snapshot) -> None:
        if snapshot.version == 1 and next(failures):
            raise ValueError("the gateway could not")

    a, b = await control.client("a"), await control.client("b", on_change=on_change)
    await a.propose(TOPOLOGY)
    await eventually(lambda: b.live)
    assert b.snapshot.version == 1
    assert next(failures, None) is None  # it was called again after the failure


async def test_freeze_waits_until_all_have_drained(control: Control) -> None:
    open_transaction = asyncio.Event()
    events: list[str] = []

    async def on_freeze(identities: tuple[p.Identity, ...]) -> None:
        events.append(f"freeze {identities}")
        await open_transaction.wait()

    def on_thaw(identities: tuple[p.Identity, ...]) -> None:
        events.append(f"thaw {identities}")

    a = await control.client("a")
    b = await control.client("b", on_freeze=on_freeze, on_thaw=on_thaw)
    freezing = asyncio.create_task(a.freeze(T, 5))
    await eventually(lambda: events)
    assert not freezing.done()
    open_transaction.set()
    freeze_id = await freezing
    await a.thaw(freeze_id)
    await eventually(lambda: len(events) == 2)
    assert events == [f"freeze {T}", f"thaw {T}"]
    assert b.live


async def test_freeze_gives_up_and_thaws(control: Control) -> None:
    thawed = asyncio.Event()

    async def on_freeze(identities: tuple[p.Identity, ...]) -> None:
        await asyncio.Event().wait()

    a = await control.client("a")
    await control.client("b", on_freeze=on_freeze, on_thaw=lambda identities: thawed.set())
    with pytest.raises(PgError) as caught:
        await a.freeze(T, 0.05)
    assert caught.value.sqlstate == "55P03"
    assert caught.value.detail == "Transactions on the relation are still open at b."
    await asyncio.wait_for(thawed.wait(), 5)


async def test_a_freeze_ends_with_its_holder_and_is_told_to_newcomers(control: Control) -> None:
    frozen: list[str] = []
    a, b = await control.client("a"), await control.client("b")
    await a.freeze(T)
    c = await control.client(
        "c", on_freeze=lambda identities: frozen.append("freeze"), on_thaw=lambda identities: frozen.append("thaw")
    )
    await eventually(lambda: frozen == ["freeze"])
    await a.close()
    await eventually(lambda: frozen == ["freeze", "thaw"])
    assert b.live and c.live


async def test_clients_return_after_a_restart(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanse.catalog.client.CONTROL_REQUEST_WAIT_S_MAX", 0.1)
    a = await control.client("a")
    async with a.ddl_lock():
        await a.propose(ddl(0))
    await control.stop()
    await eventually(lambda: not a.live)
    with pytest.raises(PgError, match="the control plane is not reachable") as caught:
        await a.outcome("x0")
    assert caught.value.sqlstate == "57P03"
    await control.start()
    await eventually(lambda: a._in_force)
    began = now()
    assert await a.propose(TOPOLOGY) == 2
    assert now() - began < 0.6 + 0.3
    assert [entry.version for entry in await a.ddl_log(0)] == [1]


async def test_a_new_leader_waits_for_leases_of_its_predecessor(three: Control) -> None:
    a, b = await three.client("a"), await three.client("b")
    three.nodes[0].cut_off = True  # and does not know that it is deposed
    until = a._lease_ends
    began = now()
    await three.elect(1)
    service = three.services[1]
    assert service.tenure is not None
    await service.tenure.propose(TOPOLOGY, holder=None)
    assert now() - began >= 0.5
    assert clock() >= until
    assert not (a.live or b.live)  # their leases were not renewed by a leader who could not read
    three.nodes[0].cut_off = False
    three.nodes[0].learn(three.nodes[2].leadership)
    await eventually(lambda: a.live and b.live)
    assert (a.snapshot.version, b.snapshot.version) == (1, 1)


async def test_clients_follow_the_leader_with_their_leases(three: Control) -> None:
    seen: list[bool] = []
    a = await three.client("a", lease_s=5.0)
    await a.propose(TOPOLOGY)
    link = a._link
    await three.elect(2)
    await eventually(lambda: seen.append(a.live) or a._link not in (None, link))  # type: ignore[func-returns-value]
    assert all(seen)  # it may plan all the time: the next leader waits for its lease
    assert await a.propose(TOPOLOGY) == 2


async def test_a_follower_says_who_leads(three: Control) -> None:
    with pytest.raises(NotLeading) as caught:
        await open_link(("n2", "127.0.0.1", three.ports[1]), three.tls["n1"], "a")
    assert (caught.value.leader, caught.value.term) == ("n1", 1)


async def test_a_leader_that_cannot_read_welcomes_nobody(three: Control) -> None:
    three.nodes[0].cut_off = True
    with pytest.raises(NotLeading) as caught:
        await open_link(("n1", "127.0.0.1", three.ports[0]), three.tls["n1"], "a")
    assert caught.value.leader is None


async def test_the_lock_is_lost_with_the_leader(three: Control) -> None:
    a = await three.client("a")
    async with a.ddl_lock():
        await three.elect_for(1, a)
        with pytest.raises(PgError) as caught:
            await a.propose(ddl(0))
        assert caught.value.sqlstate == "40001"
    async with a.ddl_lock():
        assert await a.propose(ddl(0)) == 1


async def test_who_waits_for_the_lock_gets_it_of_the_next_leader(three: Control) -> None:
    a, b = await three.client("a"), await three.client("b")
    held = a.ddl_lock()
    await held.__aenter__()
    waiting = b.ddl_lock(5)
    entering = asyncio.create_task(waiting.__aenter__())
    await eventually(lambda: three.tenure.ddl_lock._waiting)
    await three.elect(1)
    await entering
    assert await b.propose(ddl(0)) == 1
    await waiting.__aexit__(None, None, None)
    await held.__aexit__(None, None, None)


async def test_a_deposed_leader_that_does_not_know_it_changes_nothing(three: Control) -> None:
    a = await three.client("a")
    async with a.ddl_lock():
        three.log.elect(three.nodes[1], unknown_to=three.nodes[0])
        with pytest.raises(PgError) as caught:  # the lock of this tenure says nothing any more
            await a.propose(ddl(0))
        assert caught.value.sqlstate == "57P03"
    assert three.nodes[1].machine.look_up("x0") == ""


async def test_a_proposal_that_a_deposed_leader_did_not_place_is_never_made(three: Control) -> None:
    a = await three.client("a")
    async with a.ddl_lock():
        three.nodes[0].hung.clear()
        proposing = asyncio.create_task(a.propose(ddl(0)))
        await eventually(lambda: three.tenure._tasks)
        await three.elect(1)
        three.nodes[0].hung.set()
        with pytest.raises(PgError) as caught:
            await proposing
        assert caught.value.sqlstate == "08007"
    assert not await a.outcome("x0")
    assert three.log.entries  # what was settled
    assert three.nodes[0].machine.look_up("x0") == "a"


async def test_a_freeze_lasts_until_the_next_leader_has_spoken(three: Control) -> None:
    events: list[str] = []
    a = await three.client("a")
    await three.client(
        "b",
        on_change=lambda snapshot: events.append(f"version {snapshot.version}"),
        on_freeze=lambda identities: events.append("freeze"),
        on_thaw=lambda identities: events.append("thaw"),
    )
    await a.freeze(T)
    for node in three.nodes:  # a change that the deposed leader finished, and could tell nobody
        node.take_in()
    three.log.elect(None)
    await eventually(lambda: three.services[0].tenure is None)
    three.log.entries.append(encode(TOPOLOGY))
    for node in three.nodes:
        node.take_in()
    assert events == ["version 0", "freeze"]
    await three.elect(2)
    await eventually(lambda: len(events) == 4)
    assert events == ["version 0", "freeze", "version 1", "thaw"]


async def test_a_clean_end_leaves_nobody_to_be_waited_for(control: Control) -> None:
    a = await control.client("a")
    await a.close()
    await eventually(lambda: not control.tenure.watchers.any_lease)
    assert control.nodes[0].machine.attended
    await control.stop()
    assert not control.nodes[0].machine.attended
    await control.start(lease_s=60)
    b = await control.client("b")
    async with asyncio.timeout(5):
        await b.propose(TOPOLOGY)
    await b.close()


@pytest.mark.parametrize("elections", [1, 2])
async def test_a_clean_end_without_a_majority_counts_for_the_tenure_that_follows_directly(
    control: Control, elections: int
) -> None:
    """All nodes have ended together: nobody took the word that there are no clients."""
    a = await control.client("a")
    await a.close()
    await eventually(lambda: not control.tenure.watchers.any_lease)
    term = control.tenure.term
    control.nodes[0].cut_off = True
    await control.stop()
    assert control.nodes[0].machine.attended
    assert control.service.vacated == term
    for _ in range(elections - 1):
        control.log.elect(None)
    await control.start(lease_s=60, vacated=term)
    assert control.tenure.term == term + elections
    assert control.tenure.watchers.any_lease is (elections > 1)


async def test_a_catalog_without_a_topology_is_not_shown(tls: Tls) -> None:
    control = Control(tls, Snapshot())
    node = control.log.node()
    service = ControlService(node, node.machine, tls["n1"])
    await service.start("127.0.0.1", 0)
    control.log.elect(node)
    await eventually(lambda: node.machine.attended)
    with pytest.raises(NotLeading):
        await open_link(("n1", "127.0.0.1", service.port), tls["n1"], "a")
    await node.propose(encode(TOPOLOGY))
    await eventually(lambda: service.tenure)
    await service.stop()


async def test_what_led_to_a_version_is_known_without_the_control_plane(
    three: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanse.catalog.client.CONTROL_REQUEST_WAIT_S_MAX", 0.1)
    a = await three.client("a")
    async with a.ddl_lock():
        await a.propose(ddl(0))
    b = await three.client("b")
    async with a.ddl_lock():
        await a.propose(ddl(1))
    three.log.elect(None)
    await eventually(lambda: three.services[0].tenure is None)
    three.log.entries.append(encode(ddl(2)))  # while nobody leads: a deposed leader's
    for node in three.nodes:
        node.take_in()
    await three.elect(1)
    await a.wait_version(3)
    await b.wait_version(3)
    three.log.elect(None)
    await eventually(lambda: a._link is None and b._link is None)
    assert [entry.version for entry in await a.ddl_log(0)] == [1, 2, 3]
    assert [entry.version for entry in await a.ddl_log(2)] == [3]
    assert [entry.version for entry in await b.ddl_log(1)] == [2, 3]
    with pytest.raises(PgError, match="not reachable"):  # from before it came
        await b.ddl_log(0)


def test_a_known_log_has_an_end() -> None:
    log = KnownLog()
    assert log.after(0) is None
    entries = [DdlEntry(version=n, transaction_id="", role="", settings={}, statements=()) for n in range(5, 1205)]
    log.add(p.LogPart(since=4, entries=tuple(entries[:600])), 604)
    log.add(p.LogPart(since=604, entries=tuple(entries[600:])), 1300)
    assert (log.known, log.after(1204), log.after(1203)) == (1300, (), (entries[-1],))
    assert log.after(204) == tuple(entries[200:])
    assert log.after(203) is None
    log.add(p.LogPart(since=2000), 2000)  # too much had happened meanwhile
    assert (log.after(1999), log.after(2000)) == (None, ())


async def test_a_silent_leader_is_left(control: Control) -> None:
    silent = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Welcomes, and answers nothing more."""
        hello = p.decode_from_client(await reader.readexactly(await p.read_length(reader, 65535)))
        assert isinstance(hello, p.Hello)
        if not silent.is_set():
            writer.write(p.encode(p.Welcome(term=1, snapshot=INITIAL, log=p.LogPart(since=0)), 65535))
            silent.set()
        else:
            writer.write(p.encode(p.Elsewhere(term=2, leader="n1"), 65535))
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=control.tls["n2"].server)
    address = ("n2", "127.0.0.1", server.sockets[0].getsockname()[1])
    client = ControlClient([address], control.tls["n1"], "a", lease_s=0.6, ping_s=0.1)
    control.clients.append(client)
    await client.connect(5)
    client._addresses = (address, ("n1", "127.0.0.1", control.ports[0]))
    began = now()
    await eventually(lambda: control.tenure._sessions)
    assert now() - began >= 0.5
    server.close()


async def test_a_lost_answer_is_told_as_unknown(control: Control) -> None:
    release = asyncio.Event()

    async def on_change(snapshot: Snapshot) -> None:
        if snapshot.version:
            await release.wait()

    a = await control.client("a")
    b = await control.client("b", on_change=on_change)
    holding = a.ddl_lock()
    await holding.__aenter__()
    proposing = asyncio.create_task(a.propose(ddl(0)))
    await eventually(lambda: control.tenure.snapshot.version == 1)
    for session in tuple(control.tenure._sessions):
        if session.watcher.name == "a":
            session.drop()
    with pytest.raises(PgError) as caught:
        await proposing
    assert caught.value.sqlstate == "08007"
    await holding.__aexit__(None, None, None)
    release.set()
    assert await a.outcome("x0")
    assert b.snapshot.version == 1


async def test_the_catalog_never_goes_back(control: Control) -> None:
    a = await control.client("a")
    await a.propose(TOPOLOGY)
    await control.stop()
    control.log = LocalLog(INITIAL)
    await control.start()
    await eventually(lambda: a._refusal is not None)
    assert not a.live
    assert a._refusal is not None and "went back" in a._refusal.message


async def test_many_clients_and_many_changes(control: Control) -> None:
    clients = [await control.client(f"c{i}") for i in range(30)]
    versions = await asyncio.gather(*(client.propose(TOPOLOGY) for client in clients))
    assert sorted(versions) == list(range(1, 31))
    for client in clients:
        assert (await client.wait_version(30)).version == 30


async def test_a_taken_port_is_a_mistake(control: Control) -> None:
    node = control.log.node("second")
    with pytest.raises(UserMistake, match="cannot listen"):
        await ControlService(node, node.machine, control.tls["n2"]).start("127.0.0.1", control.ports[0])
