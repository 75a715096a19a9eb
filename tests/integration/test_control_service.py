"""The control service and its clients over real sockets: versions, the lock, freezes, leases, reconnection."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from hanse.catalog import protocol as p
from hanse.catalog.client import ControlClient
from hanse.catalog.commands import CommitDdl, SetTopology
from hanse.catalog.model import Group, Instance, Kind, Relation, Snapshot
from hanse.catalog.service import ControlService
from hanse.core.errors import PgError, UserMistake

TOKEN = "a secret of the cluster"
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
    """A service, its clients, and their end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clients: list[ControlClient] = []
        self.port = 0

    async def start(self, **more: float) -> ControlService:
        self.service = ControlService(self.directory, TOKEN, INITIAL, **{"lease_s": 0.6, "ack_wait_s": 0.3, **more})
        await self.service.start("127.0.0.1", self.port)
        self.port = self.service.port
        return self.service

    async def client(self, name: str = "n1", token: str = TOKEN, **more: object) -> ControlClient:
        times = {"lease_s": 0.6, "ping_s": 0.1}
        client = ControlClient("127.0.0.1", self.port, token, name, **{**times, **more})  # type: ignore[arg-type]
        self.clients.append(client)
        await client.connect(5)
        return client


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    control = Control(tmp_path)
    await control.start()
    yield control
    for client in control.clients:
        await client.close()
    await control.service.stop()


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


async def test_next_change_and_wait_version(control: Control) -> None:
    a, b = await control.client("a"), await control.client("b")
    waiting = asyncio.create_task(b.next_change())
    later = asyncio.create_task(b.wait_version(2, 5))
    await asyncio.sleep(0)
    await a.propose(TOPOLOGY)
    assert (await waiting).version == 1
    await a.propose(TOPOLOGY)
    assert (await later).version == 2
    with pytest.raises(PgError) as caught:
        await b.wait_version(3, 0.01)
    assert caught.value.sqlstate == "57P03"


async def test_wrong_token(control: Control) -> None:
    with pytest.raises(PgError) as caught:
        await control.client(token="guess")
    assert caught.value.sqlstate == "28P01"


async def test_the_token_never_travels(control: Control) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
    challenge = p.decode_from_service(await reader.readexactly(await p.read_length(reader, 65535)))
    assert isinstance(challenge, p.Challenge)
    proof = p.proof_of("client", TOKEN, challenge.nonce, b"n" * 32, "x")
    hello = p.encode(p.Hello(nonce=b"n" * 32, name="x", proof=proof), 65535)
    assert TOKEN.encode() not in hello
    assert proof != p.proof_of("service", TOKEN, challenge.nonce, b"n" * 32, "x")
    writer.write(hello)
    assert isinstance(p.decode_from_service(await reader.readexactly(await p.read_length(reader, 1 << 20))), p.Welcome)
    # The same Hello on another connection is worth nothing.
    reader2, writer2 = await asyncio.open_connection("127.0.0.1", control.port)
    await reader2.readexactly(await p.read_length(reader2, 65535))
    writer2.write(hello)
    refused = p.decode_from_service(await reader2.readexactly(await p.read_length(reader2, 65535)))
    assert isinstance(refused, p.Refused)
    writer.close()
    writer2.close()


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("!I", 1 << 30),  # too large before authentication
        struct.pack("!I", 3) + b"\xc1\xc1\xc1",
        p.LENGTH.pack(2) + msgspec.msgpack.encode([1]),
        p.encode(p.Ping(number=1), 100),
        p.encode(p.Hello(nonce=b"short", name="x", proof=b""), 100),
    ],
)
async def test_rubbish_before_authentication_ends_the_connection(control: Control, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
    await reader.readexactly(await p.read_length(reader, 65535))
    writer.write(sent)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert (await control.client()).live  # the service goes on


async def test_a_client_that_talks_to_an_impostor_notices(tmp_path: Path) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(p.encode(p.Challenge(format=1, nonce=b"n" * 32), 65535))
        await reader.readexactly(await p.read_length(reader, 65535))
        writer.write(p.encode(p.Welcome(proof=b"w" * 32, snapshot=INITIAL), 65535))
        await writer.drain()

    server = await asyncio.start_server(impostor, "127.0.0.1", 0)
    client = ControlClient("127.0.0.1", server.sockets[0].getsockname()[1], TOKEN, "n1")
    with pytest.raises(PgError) as caught:
        await client.connect(0.3)
    assert caught.value.sqlstate == "57P03"
    server.close()
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_the_lock_is_fair_and_waits(control: Control) -> None:
    a, b, c = [await control.client(name) for name in "abc"]
    order: list[str] = []

    async def take(client: ControlClient, name: str) -> None:
        async with client.ddl_lock(5):
            order.append(name)
            await asyncio.sleep(0.01)

    async with a.ddl_lock():
        first = asyncio.create_task(take(b, "b"))
        await eventually(lambda: len(control.service.ddl_lock._waiting) == 1)
        second = asyncio.create_task(take(c, "c"))
        await eventually(lambda: len(control.service.ddl_lock._waiting) == 2)
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
    await eventually(lambda: control.service.ddl_lock._waiting)
    await a.close()
    await entering
    assert await b.propose(ddl(0)) == 1
    await waiting.__aexit__(None, None, None)
    await held.__aexit__(None, None, None)
    assert control.service.ddl_lock.holder is None


async def test_the_lock_comes_back_from_who_was_cancelled_while_it_asked(control: Control) -> None:
    a, b = await control.client("a"), await control.client("b")
    async with b.ddl_lock():
        asking = asyncio.create_task(a.ddl_lock(5).__aenter__())
        await eventually(lambda: control.service.ddl_lock._waiting)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await eventually(lambda: control.service.ddl_lock.holder is None)
    async with a.ddl_lock(5):
        pass


async def test_a_freeze_comes_back_from_who_was_cancelled_while_it_asked(control: Control) -> None:
    drained = asyncio.Event()
    a, b = await control.client("a"), await control.client("b", on_freeze=lambda _: drained.wait())
    asking = asyncio.create_task(a.freeze((("public", "t"),), 5))
    await eventually(lambda: control.service._freezes)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    drained.set()
    await eventually(lambda: not control.service._freezes)
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
    session = next(s for s in control.service._sessions if s.watcher.name == "b")
    pinged = session.watcher.pinged_at
    session.drop()  # to the service the connection is gone; b may not know
    await eventually(lambda: session not in control.service._sessions)
    await b.close()
    assert await a.propose(TOPOLOGY) == 1
    assert now() >= pinged + 0.6


async def test_a_watcher_that_said_goodbye_is_not_waited_for(tmp_path: Path) -> None:
    control = Control(tmp_path)
    await control.start(lease_s=60)
    a, b = await control.client("a"), await control.client("b")
    await b.close()
    async with asyncio.timeout(5):
        assert await a.propose(TOPOLOGY) == 1
    await a.close()
    await control.service.stop()


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
    await control.service.stop()
    await eventually(lambda: not a.live)
    with pytest.raises(PgError, match="the control plane is not reachable") as caught:
        await a.ddl_log(0)
    assert caught.value.sqlstate == "57P03"
    await control.start()
    await eventually(lambda: a.live)
    began = now()
    assert await a.propose(TOPOLOGY) == 2
    assert now() - began < 0.6 + 0.3
    assert [entry.version for entry in await a.ddl_log(0)] == [1]


async def test_after_a_crash_the_first_change_waits_for_old_leases(control: Control) -> None:
    await control.service.stop()
    control.service._store.__init__(control.directory, INITIAL)  # type: ignore[misc]
    control.service._store._database.close()  # the mark of a clean end is gone, as after kill -9
    began = now()
    await control.start()
    a = await control.client("a")
    await a.propose(TOPOLOGY)
    assert now() - began >= 0.6


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
    await eventually(lambda: control.service.snapshot.version == 1)
    for session in tuple(control.service._sessions):
        if session.watcher.name == "a":
            session.drop()
    with pytest.raises(PgError) as caught:
        await proposing
    assert caught.value.sqlstate == "08007"
    await holding.__aexit__(None, None, None)
    release.set()
    assert await a.outcome("x0")
    assert b.snapshot.version == 1


async def test_the_catalog_never_goes_back(control: Control, tmp_path: Path) -> None:
    a = await control.client("a")
    await a.propose(TOPOLOGY)
    await control.service.stop()
    control.directory = tmp_path / "other"
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


async def test_a_taken_port_is_a_mistake(control: Control, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="cannot listen"):
        await ControlService(tmp_path / "second", TOKEN, INITIAL).start("127.0.0.1", control.port)
