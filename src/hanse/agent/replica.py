"""One member of a group, as its agent drives it: answers for its pledge, leads or follows, and repairs.

    replica = Replica("n1", member, PledgeFile.load(…), peers)
    server = PeerServer(replica.handle, key)            # other agents' questions
    await replica.run()                                 # until cancelled; the PostgreSQL server goes on

Three loops: a leader asks for its lease, and stops its server when the lease has run out; a member that is pledged to
another's lead comes to it (`replication/rejoin.py`); a member that suspects its leader (`replication/suspicion.py`), or whose own
leading server has ended, begins a failover. Those who suspect first are told apart by their place among the names; that
two begin at once costs a term, nothing else. A leader also asks its own server to write something now and then, and kills it
if it cannot.

What changes the server takes `_work`, one at a time; a recruit cancels a way back that is under way, because base backups
take long. Whatever goes wrong while leading ends in a server that is a follower of nobody, which the next failover recruits.

A leader hands over on request: its server is stopped in order, which leaves its followers with all that it had, and the failover
that follows prefers the one that was asked for.

A leader also brings the rule to what is wanted (`want`), when those who are to come stream and lack little.

Not here: gateways (they ask `serving`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from ..core.clock import to_tick
from ..core.errors import PgError, UserMistake
from ..core.limits import (
    CLOCK_DRIFT_MAX,
    HEARTBEAT_S,
    LEASE_S,
    PREFERRED_S_MAX,
    PROBE_S,
    STREAMLESS_S_MAX,
)
from ..engines.postgres.group_files import (
    configure_member,
    rewind_mark,
    settle,
    start_as_follower,
)
from ..engines.postgres.instance import StopMode
from ..engines.postgres.postmaster import PortTaken
from ..engines.postgres.promotion import (
    establish,
    history,
    local_timeline,
    promote,
    promotions,
    until_promoted,
    write_record,
)
from ..engines.postgres.streaming import Data, Member, has_wal, make_slot, slot_is_lost, source_of, system_identifier
from ..replication.asking import HandOver, Heard, Renewed, Reply
from ..replication.failover import Attempt, Established, Refusal, Report
from ..replication.lease import Grants, Lease
from ..replication.membership import Use, finish
from ..replication.pledge import Act, Heartbeat, Message, Promote, Recruit, judge
from ..replication.record import RuleRecord
from ..replication.rejoin import LeaderHistory, LocalData, Rejoin, rejoin
from ..replication.rule import Policy
from ..replication.suspicion import Detector
from .attempts import fail_over
from .canvass import canvass
from .group_records import record_of, reigns, row_of
from .peers import Peers
from .pledges import PledgeFile
from .rejoining import copied, rewound
from .resumption import begin_again
from .rule_change import change_rule, next_rule
from .tasks import end, in_thread
from .trial import cannot_write

log = logging.getLogger(__name__)

T = TypeVar("T")

WATCH_S = 0.05
SERVER_WATCH_S = 0.02  # writes pause from the end of a leading server on
CHANGE_POLL_S = 0.2
STREAM_LOOK_S = 2.0
LATE_S = 1.0  # of a loop that pauses for WATCH_S: others on this machine were in the way
TROUBLE = (PgError, UserMistake, OSError, EOFError, ValueError, TimeoutError)


@dataclass(slots=True, eq=False)
class Leading:
    record: RuleRecord
    attempt: str
    serve_at: float
    recorded: bool = False  # in its own WAL
    established: bool = False
    lease: Lease = field(default_factory=Lease)


class Replica:
    """See the module's docstring."""

    def __init__(
        self,
        name: str,
        member: Member,
        pledges: PledgeFile,
        peers: Peers,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._member = member
        self._pledges = pledges
        self._peers = peers
        self._now = now
        self._grants = Grants.after_start(now())
        self._leading: Leading | None = None
        self._known: RuleRecord | None = None  # the newest rule it has seen
        self._know(pledges.pledge.record)
        self._know(pledges.pledge.alone)
        self._following: tuple[int, str] | None = None
        self._heard = asyncio.Event()  # of a leader that it does not follow yet
        self._streamed_at = self._look_at = 0.0
        self._trouble = ""  # the last of its way back; said once
        self._quiet = False  # fenced, and nothing was done since
        self._data: Data | None = None  # that it has, being quiet
        self._detector = Detector(now())
        self._highest_term = pledges.pledge.term
        self._judging = asyncio.Lock()
        self._work = asyncio.Lock()
        self._recruits_itself = False  # its report, that its server has ended, goes before the server's next start
        self._job: asyncio.Task[None] | None = None
        self._promotion: asyncio.Task[None] | None = None
        self._handover: asyncio.Task[None] | None = None
        self._wanted: tuple[frozenset[str], Policy] | None = None  # members; None: nobody has said
        self._beats: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected

    @property
    def term(self) -> int:
        return self._pledges.pledge.term

    @property
    def serving(self) -> bool:
        """Whether a result of this leader that arrives now may be used."""
        leading = self._leading
        if leading is None or not leading.established or leading.record.term != self.term:
            return False
        now = self._now()
        return now >= leading.serve_at and leading.lease.covers(now, leading.record.lease_clauses())

    @property
    def begins(self) -> bool:
        """It leads in its term, from the rule's record on; what it commits may be shown when it serves."""
        leading = self._leading
        return leading is not None and leading.recorded and leading.record.term == self.term

    @property
    def lease_left_s(self) -> float | None:
        """For how long it will serve, if it does. None: for ever."""
        leading = self._leading
        if leading is None:
            return 0.0
        until = leading.lease.until(leading.record.lease_clauses())
        return None if until == math.inf else max(0.0, until - self._now())

    @property
    def hears(self) -> bool:
        """Of a leader, or it is one: another is not needed."""
        return self.serving or (self._leading is None and self._detector.hears(self._now()))

    @property
    def follows(self) -> bool:
        """It streams from the leader that it is pledged to, or tries to again."""
        return self._following == (self.term, self._pledges.pledge.leader) and self._member.instance.is_alive()

    @property
    def record(self) -> RuleRecord | None:
        """The group's rule, as this leader goes by it."""
        return None if self._leading is None else self._leading.record

    def want(self, members: frozenset[str], policy: Policy) -> None:
        """What the group's rule is to become, if this member leads. A change to something else may wait for ever, and ends."""
        if self._wanted not in (None, (members, policy)) and self._leading is not None and self._job is not None:
            self._job.cancel()
        self._wanted = (members, policy)

    async def run(self) -> None:
        await self._resume()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lead_on())
                tasks.create_task(self._probe_on())
                tasks.create_task(self._beat())
                tasks.create_task(self._follow_on())
                tasks.create_task(self._repair_on())
                tasks.create_task(self._change_on())
        finally:
            await end(self._handover)
            await end(self._promotion)
            await end(self._job)
            for task in tuple(self._beats):
                await end(task)
            self._member.hang_up()

    # --- questions

    async def handle(self, message: Message) -> Reply:
        """The answer to another agent. Its pledge is on disk when this returns."""
        async with self._judging:
            verdict = judge(self.name, self._pledges.pledge, message)
            if verdict.pledge != self._pledges.pledge:
                self._detector.excuse(self._now())  # somebody is at work, also when the disk is full
                await in_thread(self._pledges.store, verdict.pledge)
        act, term = verdict.act, verdict.pledge.term
        if act is Act.REFUSE:
            return Refusal(self.name, term)
        if act is Act.REPORT:
            assert isinstance(message, Recruit)
            return await self._report(message)
        if act is Act.LEAD:
            assert isinstance(message, Promote)
            self._promotion = asyncio.create_task(self._lead(message))
        if act is Act.FOLLOW and isinstance(message, Heartbeat):
            self._detector.heard(message.leader, self._now())
            if not self.follows:
                self._heard.set()
            if message.sent_at is not None:
                self._grants.grant(message.leader, self._now())
                return Renewed(self.name, term)
        if isinstance(message, Promote) and self._leading is not None and self._leading.established:
            return Established(self.name, message.term, message.attempt)
        return Heard(self.name, term)

    async def _report(self, message: Recruit) -> Report:
        """A server that has ended reports that it has stopped, without data: it would have to replay first."""
        self._detector.excuse(self._now())
        self._following = None
        await end(self._promotion)
        await end(self._job)
        report = Report(name=self.name, term=message.term, attempt=message.attempt, record=None, lsn=0)
        report = replace(report, alone=self._pledges.pledge.alone)
        async with self._work:
            instance = self._member.instance
            mark = rewind_mark(instance)
            if mark is not None or not instance.is_alive():
                self._leading = None
            else:
                report = await self._fenced(report)
        now = self._now()
        superseded = mark or None  # a mark that cannot be read tells nothing
        left_s, to = self._grants.left_s(now), self._grants.to(now)
        return replace(report, superseded=superseded, lease_left_s=left_s, lease_to=to)

    async def _fenced(self, report: Report) -> Report:
        try:
            data = await self._quiet_data()
        except TROUBLE as error:
            log.warning("%s has no data to report: %s", self.name, error)
            return report
        self._know(None if data.row is None else record_of(data.row))
        return replace(report, record=None if data.row is None else record_of(data.row), lsn=data.lsn)

    # --- the server

    def _know(self, record: RuleRecord | None) -> None:
        if record is not None and (self._known is None or record.order > self._known.order):
            self._known = record

    def _names(self) -> str:
        """What commits would wait for if this member led."""
        return "" if self._known is None else replace(self._known, leader=self.name).clause().text

    async def _quiet_data(self) -> Data:
        """What the quiet server has: it is read once, because nothing changes it any more. `_work` is held."""
        await self._quieten()
        if self._data is None:
            self._data = await self._member.data()
        return self._data

    async def _quieten(self) -> None:
        """The server leads nobody and streams from nobody, and has replayed what it has. `_work` is held."""
        if self._leading is not None or not self._member.instance.is_alive():
            await self._alone()
        elif not self._quiet:
            try:
                self._data = None
                self._data = await self._member.fence()
                self._quiet = True
            except (PgError, TimeoutError):
                await self._alone()

    async def _alone(self) -> None:
        """The server, whatever it was, runs as a follower of nobody. `_work` is held."""
        self._leading = None
        self._following = None
        self._data = None
        instance = self._member.instance
        await in_thread(instance.stop, StopMode.IMMEDIATE)
        await in_thread(settle, instance)
        configure_member(instance, source=None, synchronous_standby_names=self._names())
        start_as_follower(instance)
        await in_thread(instance.bring_up)
        self._quiet = True

    async def _resume(self) -> None:
        """An agent that comes back finds the server as a leader still, or as something that the loops see to. One that led
        when it ended in order begins again."""
        instance = self._member.instance
        await in_thread(settle, instance)
        async with self._work:
            if not instance.exists or not (
                await in_thread(instance.adopt)
                or await begin_again(self.name, instance, self._pledges.pledge, self._peers)
            ):
                return
            async with self._member.access.connected() as connection:
                recovers = await connection.fetchval("SELECT pg_is_in_recovery()")
            data = None if recovers else await self._member.data()
            if data is None or data.row is None:
                return
            record, pledge, lsn = record_of(data.row), self._pledges.pledge, data.lsn
            self._know(record)
            if (pledge.leader, pledge.term) != (self.name, record.term) or record.leader != self.name:
                await self._alone()
                return
            if pledge.alone is not None and pledge.alone.order > record.order:  # it was cut off before it wrote that
                record = pledge.alone
                lsn = await write_record(self._member, row_of(record))
            leading = Leading(record, pledge.attempt, self._now())
            self._leading = leading
            self._promotion = asyncio.create_task(self._guarded(self._lead_again(leading, lsn)))

    # --- leading

    async def _lead(self, message: Promote) -> None:
        await self._guarded(self._begin_to_lead(message))

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except TROUBLE as error:
            log.warning("%s does not lead: %s", self.name, error)
            async with self._work:
                with contextlib.suppress(*TROUBLE):
                    await self._alone()

    async def _begin_to_lead(self, message: Promote) -> None:
        record = message.record
        leading = Leading(record, message.attempt, self._now() + message.wait_s * (1 + 2 * CLOCK_DRIFT_MAX))
        async with contextlib.AsyncExitStack() as kept:
            async with self._work:
                self._know(record)
                self._quiet = False
                await self._member.follow(None, record.clause().text)
                access = await kept.enter_async_context(self._member.access.kept())
                member = Member(self._member.instance, access)
                await promote(member, record.term)
                self._leading = leading
                self._beat_all(leading)
                lsn = await write_record(member, row_of(record))
                leading.recorded = True
            await self._establish(leading, lsn, member)

    async def _lead_again(self, leading: Leading, lsn: int) -> None:
        """A change of the rule that was cut off may have left commits waiting for what its record does not say."""
        await self._member.require(leading.record.clause().text)
        await self._establish(leading, lsn, self._member)

    async def _establish(self, leading: Leading, lsn: int, member: Member) -> None:
        record = leading.record
        clause = record.establishing()
        await establish(member, lsn, clause.names, clause.count)
        if record.previous is not None:
            for step in finish(record):
                if isinstance(step, Use):
                    await self._member.require(step.clause.text)
                else:
                    lsn = await write_record(self._member, row_of(step.record))
                    await establish(self._member, lsn, clause.names, clause.count)
                    leading.record = step.record
        leading.established = True
        wait_s = max(0.0, leading.serve_at - self._now())  # for an earlier leader's lease
        log.info("%s leads in term %d, and serves in %.1f s", self.name, record.term, wait_s)

    def hand_over(self, message: HandOver) -> Heard | Refusal:
        """A planned switchover, if this member leads in that term. It goes on after the answer."""
        leading = self._leading
        if leading is None or not self.serving or leading.record.term != message.term:
            return Refusal(self.name, self.term)
        if leading.record.previous is not None or message.to not in leading.record.rule.members:
            return Refusal(self.name, self.term)
        if not self._working(self._handover):
            self._handover = asyncio.create_task(self._guarded(self._hand_over(leading.record, message)))
        return Heard(self.name, self.term)

    async def _hand_over(self, record: RuleRecord, message: HandOver) -> None:
        """A server that is stopped in order sends its followers all that it has, and then ends."""
        log.info("%s hands over to %s", self.name, message.to)
        streaming = set(message.streaming)
        async with self._work:
            await in_thread(self._member.instance.stop)
            self._leading = None
            self._detector.excuse(self._now())
            if not record.recruited(streaming | {self.name}, streaming):
                await self._alone()  # what it has is needed for the choice
        await self._attempt(prefer=message.to)
        if self._known is None or self._known.term <= record.term:  # the others are not enough without what it has
            async with self._work:
                if not self._member.instance.is_alive():
                    await self._alone()

    async def _beat(self) -> None:
        """A leader's questions. Each follower is asked by itself: one that hangs delays nobody else's answer."""
        while True:
            leading = self._leading
            if leading is not None:
                self._beat_all(leading)
            await asyncio.sleep(to_tick(HEARTBEAT_S))

    def _beat_all(self, leading: Leading) -> None:
        for name in sorted(self._peers.names - {self.name}):
            task = asyncio.create_task(self._beat_one(leading, name))
            self._beats.add(task)
            task.add_done_callback(self._beats.discard)

    async def _beat_one(self, leading: Leading, name: str) -> None:
        sent_at = self._now()
        message = Heartbeat(leading.record.term, leading.attempt, self.name, sent_at)
        with contextlib.suppress(*TROUBLE):
            reply = await self._peers.ask(name, message, 2 * HEARTBEAT_S)
            if isinstance(reply, Renewed) and reply.term == leading.record.term:
                leading.lease.renewed(name, sent_at)
            elif isinstance(reply, Refusal):
                self._highest_term = max(self._highest_term, reply.term)

    async def _lead_on(self) -> None:
        """Watch the own server and the own lease."""
        while True:
            await asyncio.sleep(to_tick(WATCH_S if self._leading is None else SERVER_WATCH_S))
            leading = self._leading
            if leading is None or self._working(self._handover):
                continue
            if not self._member.instance.is_alive():
                log.warning("the leading server of %s has ended", self.name)
                await end(self._promotion)
                self._detector.excuse(self._now())
                self._leading, self._recruits_itself = None, True
                await self._attempt()
            elif leading.record.term < self.term or (leading.established and self._expired(leading)):
                log.warning("%s leads no more: its lease of term %d is over", self.name, leading.record.term)
                await end(self._promotion)
                async with self._work:
                    with contextlib.suppress(*TROUBLE):
                        await self._alone()
                self._detector.excuse(self._now())

    async def _probe_on(self) -> None:
        """A leading server that is there and cannot write (it is stopped, its disk hangs or is full) counts as lost."""
        while True:
            await asyncio.sleep(PROBE_S)
            leading = self._leading
            if leading is None or not leading.established:
                continue
            reason = await cannot_write(self._member, partial(self._leads_as, leading), self._now)
            if reason is not None:
                log.warning("the leading server of %s cannot write: %s", self.name, reason)
                await in_thread(self._member.instance.kill)

    def _leads_as(self, leading: Leading) -> bool:
        return self._leading is leading

    def _expired(self, leading: Leading) -> bool:
        """A new leader is given time for its first lease."""
        now = self._now()
        return now > leading.serve_at + LEASE_S and not leading.lease.covers(now, leading.record.lease_clauses())

    # --- changes of the rule

    async def _change_on(self) -> None:
        """A leader brings the group's rule to what is wanted, one change at a time: first who is to come, then who is to go."""
        while True:
            await asyncio.sleep(to_tick(CHANGE_POLL_S))
            leading = self._leading
            if leading is None or self._wanted is None or not self.serving or self._working(self._handover):
                continue
            self._job = asyncio.create_task(self._change(leading))
            await asyncio.wait((self._job,))
            if not self._job.cancelled() and (error := self._job.exception()) is not None:
                if not isinstance(error, TROUBLE):
                    raise error
                log.warning("the rule of %s's group is not changed yet: %s", self.name, error)

    async def _change(self, leading: Leading) -> None:
        assert self._wanted is not None
        target = await next_rule(self._member, leading.record.rule, self.name, *self._wanted)
        if target == leading.record.rule and leading.record.previous is None:
            return

        def go_by(record: RuleRecord) -> None:
            leading.record = record
            self._know(record)

        await change_rule(self._member, target, go_by, self._keep)

    async def _keep(self, record: RuleRecord) -> None:
        async with self._judging:
            if self.term != record.term:
                raise PgError("55000", "it leads no more")
            await in_thread(self._pledges.store, replace(self._pledges.pledge, alone=record))

    # --- following

    async def _follow_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(to_tick(WATCH_S)):
                    await self._heard.wait()
            self._heard.clear()
            pledge = self._pledges.pledge
            if self._leading is not None or self._recruits_itself or self._working(self._promotion):
                continue
            if self._working(self._handover) and pledge.leader in (None, self.name):
                continue
            if pledge.leader not in (None, self.name):
                if self._following == (pledge.term, pledge.leader) and self._member.instance.is_alive():
                    await self._look_at_stream()
                    continue
                assert pledge.leader is not None
                self._job = asyncio.create_task(self._come_to(pledge.leader, pledge.term))
            elif self._member.instance.is_alive() or not self._member.instance.exists:
                continue
            elif rewind_mark(self._member.instance) is None:
                self._job = asyncio.create_task(self._start_alone())
            await self._settled(self._job)

    async def _look_at_stream(self) -> None:
        """One that has had no stream for STREAMLESS_S_MAX, or whose slot is lost, comes to its leader again, and finds out what
        it lacks."""
        now, leader, lost = self._now(), self._pledges.pledge.leader, False
        if now < self._look_at:
            return
        self._look_at = now + STREAM_LOOK_S
        with contextlib.suppress(*TROUBLE):
            if await self._member.streams():
                self._streamed_at = now
            elif leader is not None:
                lost = await slot_is_lost(self._peers.access(leader), self.name)
        if lost or now - self._streamed_at > STREAMLESS_S_MAX:
            log.warning("%s has no stream from its leader%s", self.name, ", which keeps no WAL for it" * lost)
            self._streamed_at, self._following = now, None

    def _working(self, task: asyncio.Task[None] | None) -> bool:
        return task is not None and not task.done()

    async def _settled(self, job: asyncio.Task[None] | None) -> None:
        if job is None:
            return
        await asyncio.wait((job,))
        if not job.cancelled() and (error := job.exception()) is not None:
            if not isinstance(error, TROUBLE):
                raise error
            if str(error) != self._trouble:
                log.info("%s does not follow yet: %s", self.name, error)
            self._trouble = str(error)

    async def _start_alone(self) -> None:
        async with self._work:
            await self._alone()

    async def _come_to(self, leader: str, term: int) -> None:
        async with self._work:
            ended = not self._member.instance.is_alive()
            local = await self._local() if ended else None  # it starts beside its leader
            async with self._peers.access(leader).kept() as access:
                await until_promoted(access)
                branches, ids = await history(access), await promotions(access)
                identifier = await system_identifier(access)
                slot = await make_slot(access, self.name)
                if not ended:
                    local = await self._local()
                way = rejoin(local, LeaderHistory(system_identifier=identifier, reigns=reigns(branches, ids)))
                if way is Rejoin.STREAM and local is not None and not await has_wal(access, local.lsn):
                    log.info("%s was away for too long: %s does not have the WAL any more", self.name, leader)
                    way = Rejoin.CLONE
            log.info("%s comes to %s of term %d: %s", self.name, leader, term, way.value)
            self._quiet = False
            source = source_of(access, self.name, slot)
            if way is Rejoin.REWIND and not await rewound(self._member, source, term, self._names()):
                way = Rejoin.CLONE
            if way is Rejoin.CLONE:
                await copied(self._member.instance, source, self._names())
            elif way is Rejoin.STREAM:
                await self._member.follow(source, self._names())
            self._following = (term, leader)
            self._streamed_at = self._now()

    async def _local(self) -> LocalData | None:
        """What the own directory has, the server being alone; None: nothing that can be used."""
        instance = self._member.instance
        if not instance.exists or rewind_mark(instance) is not None:
            return None
        try:
            data = await self._quiet_data()
        except PortTaken:  # which says nothing of the data
            raise
        except (PgError, UserMistake) as error:
            log.warning("%s has no data of its own: %s", self.name, error)
            return None
        record = None if data.row is None else record_of(data.row)
        self._know(record)
        timeline = local_timeline(self._member)
        of_timeline = record is not None and record.term == timeline
        return LocalData(
            system_identifier=data.system_identifier,
            marked=False,
            timeline=timeline,
            promotion_id=record.promotion_id if record is not None and of_timeline else None,
            lsn=data.lsn,
        )

    # --- repairing

    async def _repair_on(self) -> None:
        if self._leading is None and self._pledges.pledge.leader == self.name and await self._is_member():
            await self._attempt()  # it led when it ended; if others have gone on, they say so
        while True:
            began = self._now()
            await asyncio.sleep(to_tick(WATCH_S))
            now = self._now()
            if now - began > LATE_S:  # this process did not run: silence means nothing
                self._detector.excuse(now)
            if self._leading is None and not self._working(self._handover) and self._suspects():
                if not await self._is_member():
                    self._detector.excuse(self._now())
                elif not await canvass(self.name, self._peers, self._known):
                    await asyncio.sleep(HEARTBEAT_S)
                elif self._suspects():  # still
                    log.warning(
                        "%s has not heard of a leader for %.1f s", self.name, self._now() - self._detector.since
                    )
                    await self._attempt()

    def _suspects(self) -> bool:
        others = sorted(self._peers.names - {self._pledges.pledge.leader} | {self.name})
        return self._detector.suspects(self._now(), others.index(self.name))

    async def _is_member(self) -> bool:
        """Who is being copied, or was let go, leaves failovers to the others. One that cannot know does not."""
        if not self._member.instance.exists:
            return False
        if self._member.instance.is_alive():
            with contextlib.suppress(*TROUBLE):
                row = await self._member.newest()
                self._know(None if row is None else record_of(row))
        return self._known is None or self.name in self._known.members

    async def _attempt(self, *, prefer: str | None = None) -> None:
        """One failover, as far as it comes."""
        self._highest_term = max(self._highest_term, self.term) + 1
        until = 0.0 if prefer is None else self._now() + PREFERRED_S_MAX
        attempt = Attempt(id=uuid.uuid4().hex, term=self._highest_term, prefer=prefer, prefer_until=until)
        try:
            lost_to = await fail_over(attempt, self._peers, self.name, self._handle_own, self._know, self._now)
            self._highest_term = max(self._highest_term, lost_to)
        finally:
            self._detector.excuse(self._now())
            self._recruits_itself = False

    async def _handle_own(self, message: Message) -> Reply:
        reply = await self.handle(message)
        self._recruits_itself = False
        return reply
