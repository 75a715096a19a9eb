"""One node of a control plane whose log is kept by an etcd: a `Consensus`. `keys.py` shows what is there.

**The log.** Command n + 1 is written by a transaction of etcd on the condition that there are n. So of several that want the same
place one gets it, and the others find their place taken. Each proposal carries an id of its own: a request that was not answered
is repeated for the same place, and can be carried out once only; when the place is taken, the log says by whom. So what became of
a proposal is known as soon as etcd answers again. Every node reads the log and applies it.

**Reading.** One transaction reads how long the log is, what is new in it, and who leads. It is linearizable, so what was answered
anywhere before it began is in it. Who calls `read` gets one that began later; calls that wait together share one.

**Leading** is a key with a lease. It holds a term that grows with each leader, which is written on the condition that nobody
was faster. What is proposed under a term has the condition that the key still says so. Hence, with R the revision of etcd in
which a leader was replaced: what he proposed is in the log before R, or will never be; and every node's read after R knows that
he leads no more. No clock takes part. The lease only says when somebody may take the place of one that is silent. Who could
not renew his in its time gives up, for good: though his key may still be there when etcd comes back, he takes a later term. So
does a node that was started anew and finds its own name: it need not wait.

**What is not there.** Losing etcd's data is losing the catalog: nobody begins a second one. Each node notes how far it has seen
the log in a file of its own, and a log that is shorter stops it, until somebody who restores a backup removes the file. Nobody
watches (etcd's word): only the leader's node must know what is new at once, and what is new comes from him, except for the first
topology and for nodes that join, which he sees within ETCD_POLL_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable
from pathlib import Path

from ...core.clock import clock
from ...core.errors import PgError
from ...core.limits import (
    ETCD_ANSWER_S_MAX,
    ETCD_LAST_WORD_S,
    ETCD_LEASE_S,
    ETCD_POLL_S,
    ETCD_SNAPSHOT_ENTRIES,
    ETCD_SNAPSHOT_LOG_BYTES,
    RAFT_COMMAND_BYTES_MAX,
    RAFT_RETRY_PAUSE_S,
)
from ..contract import Leadership, StateMachine, unavailable, unknown_outcome
from ..watched import Watched
from .address import Servers
from .client import Client, Unanswered
from .keys import Entry, Keys, Seen, office
from .requests import Json, found, was_done
from .seen import SEEN_FILE, read_seen, write_seen

log = logging.getLogger(__name__)


class LogLost(Exception):
    """etcd has less of the log than this node has seen."""


class Node(Watched):
    """`servers` has `machine`'s commands under `cluster`; nothing of them is in `directory`."""

    def __init__(
        self,
        name: str,
        directory: Path,
        servers: Servers,
        machine: StateMachine,
        *,
        cluster: str,
        lease_s: float = ETCD_LEASE_S,
        snapshot_entries: int = ETCD_SNAPSHOT_ENTRIES,
    ) -> None:
        self.name = name
        self._directory = directory
        self._client = Client(servers)
        self._keys = Keys(cluster)
        self._machine = machine
        self._lease_s = lease_s
        self._snapshot_entries = snapshot_entries
        self._leadership = Leadership(term=0, leader=None, leads=False)
        self._office = ""  # the leader's key when it was last read
        self._lease = 0  # ours while we lead, or would
        self._lease_until = self._renew_at = 0.0
        self._applied_bytes = 0  # since the last snapshot
        self._snapshot_version = 0
        self._proposed: dict[bytes, asyncio.Future[bytes]] = {}
        self._own_turn = asyncio.Lock()  # of proposals here, which would only take each other's places
        self._turn = asyncio.Lock()  # of reading and applying
        self._next_look: asyncio.Task[Seen] | None = None  # which has not begun
        self._looks: set[asyncio.Task[Seen]] = set()

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._begin()
        self._known = await asyncio.to_thread(read_seen, self._directory)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        healthy = not self.failed.done()
        if healthy:
            self.failed.set_result(None)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._lease and healthy:
            with contextlib.suppress(Unanswered):  # then the others wait for its end
                await self._client.revoke(self._lease)
        self._client.close()  # whoever waits for it is told
        await asyncio.gather(*self._looks, return_exceptions=True)
        self._tell_end()

    async def _run(self) -> None:
        trouble = ""
        while not self.failed.done():
            try:
                await self._hold_office(await self._look())
                trouble = ""
            except Unanswered as error:
                if not trouble:
                    log.warning("etcd does not answer: %s", error)
                trouble = str(error)
            except Exception as error:
                self._fail(error)
                return
            if self._lease and clock() > self._lease_until:
                self._resign()
            await asyncio.sleep(ETCD_POLL_S)

    # --- the contract ------------------------------------------------------------------------------------------------

    @property
    def leadership(self) -> Leadership:
        known = self._leadership
        return Leadership(term=known.term, leader=known.leader, leads=known.leads and not self.failed.done())

    async def read(self, *, lease: bool = True) -> None:
        """Always asks etcd, whatever `lease` is."""
        deadline, reason = clock() + ETCD_ANSWER_S_MAX, ""
        while clock() < deadline and not self.failed.done():
            try:
                await self._look()
                return
            except Unanswered as error:
                reason = str(error)
                await asyncio.sleep(RAFT_RETRY_PAUSE_S)
        raise unavailable(_etcd(reason))

    async def propose(self, command: bytes, *, term: int | None = None) -> bytes:
        if len(command) > RAFT_COMMAND_BYTES_MAX:
            raise PgError("54000", f"a change of the control plane is too large ({len(command)} bytes)")
        deadline = clock() + ETCD_ANSWER_S_MAX
        try:
            async with asyncio.timeout(ETCD_ANSWER_S_MAX):
                await self._own_turn.acquire()
        except TimeoutError:
            raise unavailable() from None
        id, answer = secrets.token_bytes(16), asyncio.get_running_loop().create_future()
        self._proposed[id] = answer
        try:
            return await self._place(id, command, term, answer, deadline)
        finally:
            del self._proposed[id]
            answer.cancel()
            self._own_turn.release()

    # --- proposals ---------------------------------------------------------------------------------------------------

    async def _place(
        self, id: bytes, command: bytes, term: int | None, answer: asyncio.Future[bytes], deadline: float
    ) -> bytes:
        leader = None if term is None else office(term, self.name)
        reason = ""
        wanted = -1  # the length of the log on which a request without an answer may still be carried out
        while clock() < deadline and not self.failed.done():
            if wanted < 0 and leader is not None and not (self._leadership.leads and self._leadership.term == term):
                raise unavailable(f"{self.name} does not lead it any more.")
            try:
                if leader in (None, self._office) and wanted in (-1, self.version):
                    wanted = await self._append(id, command, leader, wanted)
                await self._look()
                if answer.done():
                    return answer.result()
                if self.version > wanted or leader not in (None, self._office):
                    wanted = -1  # its condition will not be true again
            except Unanswered as error:
                reason = str(error)
                if wanted < 0 and term is not None and clock() > self._lease_until - ETCD_LAST_WORD_S:
                    break  # it can be said yet that nothing was done: who no longer leads answers nobody
                await asyncio.sleep(RAFT_RETRY_PAUSE_S)
        if wanted >= 0:
            raise unknown_outcome()
        raise unavailable(_etcd(reason))

    async def _append(self, id: bytes, command: bytes, leader: str | None, wanted: int) -> int:
        """The new `wanted`. Raises Unanswered, where nothing was sent."""
        version = self.version
        before, append = self._keys.append(version, id, command, leader=leader)
        await self._do_all(before)
        try:
            done = was_done(await self._client.transaction(append))
        except Unanswered as error:
            if not error.sent:
                raise
            done = True  # for all we know
        return version if done else wanted

    async def _do_all(self, steps: list[Json]) -> None:
        for step in steps:
            await self._client.transaction(step)

    # --- the log -----------------------------------------------------------------------------------------------------

    async def _look(self) -> Seen:
        """What is there after this call began, which is applied then. Raises Unanswered, or PgError where this node fails."""
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look_in_turn())
            self._looks.add(self._next_look)
            self._next_look.add_done_callback(self._looked)
        return await asyncio.shield(self._next_look)

    def _looked(self, look: asyncio.Task[Seen]) -> None:
        self._looks.discard(look)
        if not look.cancelled():
            look.exception()  # whoever waited has it, or is gone

    async def _look_in_turn(self) -> Seen:
        async with self._turn:
            self._next_look = None  # who comes from now on needs a later one
            try:
                while True:
                    seen = self._keys.seen(await self._client.transaction(self._keys.look(self.version)))
                    if seen.head < max(self.version, self._known) or seen.term < self._leadership.term:
                        raise LogLost(
                            f"etcd's log ends at {seen.head}, and {self._known} was seen; see {self._directory / SEEN_FILE}"
                        )
                    self._note(seen)
                    if await self._take_in(seen):
                        return seen
            except Unanswered:
                raise
            except Exception as error:
                self._fail(error)
                raise unavailable() from error

    async def _take_in(self, seen: Seen) -> bool:
        """Whether all that there was is applied."""
        snapshot = seen.snapshot
        if snapshot is not None and snapshot.version > self._snapshot_version:
            if snapshot.version > self.version:
                state = await self._parts("snapshot-part", snapshot.version, snapshot.id, snapshot.parts)
                if state is None:
                    return False
                self._restore(snapshot.version, state)
            self._snapshot_version = snapshot.version
        for version, entry in seen.entries:
            if version <= self.version:
                continue
            assert version == self.version + 1, f"command {self.version + 1} is not there"
            command = entry.command
            if entry.parts:
                long = await self._parts("log-part", version, entry.id, entry.parts)
                if long is None:
                    return False
                command = long
            self._apply(version, entry, command)
        if self.version > self._known:
            self._known = self.version
            await asyncio.to_thread(write_seen, self._directory, self._known)
        return self.version >= seen.head

    async def _parts(self, kind: str, version: int, id: bytes, count: int) -> bytes | None:
        """None: a newer snapshot has taken its place."""
        body = bytearray()
        for number in range(count):
            answer = await self._client.transaction(self._keys.look_at_part(kind, version, id, number))
            ((*part,),) = found(answer)
            if not part:
                return None
            body += part[0].value
        return bytes(body)

    def _apply(self, version: int, entry: Entry, command: bytes) -> None:
        result = self._machine.apply(version, command)
        self.version = version
        self._applied_bytes += len(command)
        answer = self._proposed.get(entry.id)
        if answer is not None and not answer.done():
            answer.set_result(result)
        self._tell_version()

    def _restore(self, version: int, state: bytes) -> None:
        self._machine.restore(version, state)
        self.version = version
        self._applied_bytes = 0
        for answer in self._proposed.values():  # it may have been among what the snapshot replaces
            if not answer.done():
                answer.set_exception(unknown_outcome())
        self._tell_version()

    async def _compact(self, seen: Seen) -> None:
        entries = self.version - self._snapshot_version
        if not entries or (entries < self._snapshot_entries and self._applied_bytes < ETCD_SNAPSHOT_LOG_BYTES):
            return
        version = self.version
        before, compact = self._keys.compact(seen, version, secrets.token_bytes(8), self._machine.snapshot())
        self._applied_bytes = 0
        await self._do_all(before)
        await self._client.transaction(compact)

    # --- leading -----------------------------------------------------------------------------------------------------

    def _note(self, seen: Seen) -> None:
        """Who leads. Whoever has our name and not our lease is who we were once."""
        self._office = seen.leader
        leads = bool(self._lease) and seen.lease == self._lease
        leader = seen.leader_name or None
        if self._leadership.leads and not leads:
            self._lease = 0
        if leader == self.name and not leads:
            leader = None
        self._become(Leadership(term=seen.term, leader=leader, leads=leads))

    def _become(self, leadership: Leadership) -> None:
        if leadership != self._leadership:
            self._leadership = leadership
            self._tell_leadership()

    def _resign(self) -> None:
        self._lease = 0
        self._become(Leadership(term=self._leadership.term, leader=None, leads=False))

    async def _hold_office(self, seen: Seen) -> None:
        if self._leadership.leads:
            if clock() >= self._renew_at and not await self._good_for(self._client.renew(self._lease)):
                self._resign()
            else:
                await self._compact(seen)
        elif seen.leader_name in ("", self.name):
            await self._campaign(seen)

    async def _campaign(self, seen: Seen) -> None:
        self._lease = 0

        async def granted() -> float:
            self._lease, seconds = await self._client.grant(self._lease_s)
            return seconds

        await self._good_for(granted())
        await self._client.transaction(self._keys.campaign(seen, self.name, self._lease))
        if not (await self._look()).lease == self._lease:
            self._lease = 0

    async def _good_for(self, asking: Awaitable[float]) -> bool:
        """A lease counts from before it was asked for."""
        asked = clock()
        seconds = await asking
        self._lease_until, self._renew_at = asked + seconds, asked + seconds / 4
        return seconds > 0

    # --- failing -----------------------------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            log.error("%s takes part in the control plane no more: %s", self.name, error, exc_info=error)
            self.failed.set_exception(error)
            self.failed.exception()  # nobody need watch it
            self._tell_end()


def _etcd(reason: str) -> str | None:
    return f"etcd does not answer: {reason}" if reason else None
