"""A replicated group in a world where everything goes wrong, from a seed.

Modelled is PostgreSQL: a WAL of entries with a timeline, what of it is flushed, streaming over connections that break with
acknowledgements still under way, walsenders that read synchronous_standby_names each at its own time, commits that wait,
promotion, pg_rewind, base backups. Real are the decisions of `hanse.replication`. One event happens at a time, chosen by the
seed: control messages are delivered in any order, lost, delivered twice; servers crash and come back; links are cut one way
or both; two repairers begin attempts for no reason and forget them; clocks drift; rules change.

Judged at every step: what was acknowledged, or shown to a reader, is in every later leader (k > 0); a reader sees all
that was acknowledged before; two leaders never serve at once. Afterwards nothing goes wrong any more: the group has to
serve soon, with equal followers. `Faults` breaks one part of the protocol; the judgement has to notice.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from hanse.core.limits import CLOCK_DRIFT_MAX, LEASE_S
from hanse.replication import membership
from hanse.replication.failover import (
    Answer,
    Attempt,
    Established,
    Observation,
    Refusal,
    Report,
    decide,
)
from hanse.replication.lease import Grants, Lease
from hanse.replication.pledge import Act, Heartbeat, Pledge, Promote, Recruit, judge
from hanse.replication.record import RuleRecord
from hanse.replication.rejoin import LeaderHistory, LocalData, Reign, Rejoin, rejoin
from hanse.replication.rule import Clause, Policy, Rule, commit_clause, rule_of

HEALING_EVENTS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Faults:
    """Parts of the protocol that lie with the instances; the others are broken in `hanse.replication` itself."""

    serves_unestablished: bool = False
    reports_before_fence: bool = False
    ignores_lease: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    timeline: int
    value: int | RuleRecord | None  # a commit, a record, or the first entry of a timeline


@dataclass(frozen=True, slots=True)
class Renewed:
    name: str
    term: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Result:
    """Of a commit or a read, on its way to a gateway."""

    leading: Leading
    executed_at: float  # real time
    began_at: float
    commit: int | None = None
    visible: frozenset[int] = frozenset()
    known: frozenset[int] = frozenset()  # acknowledged before a read began


@dataclass(frozen=True, slots=True)
class Wait:
    """A step of our own: until so many have all that was written that a failover finds it."""

    found_by: RuleRecord


@dataclass(slots=True, eq=False)
class Leading:
    """A server as leader, from its promotion to its stop."""

    name: str
    record: RuleRecord
    clause: Clause
    serve_at: float  # by its clock
    promotion: str
    established: bool = False
    lease: Lease = field(default_factory=Lease)
    waiting: list[tuple[int, int, float]] = field(default_factory=list)  # (lsn, commit, when it began)
    visible: set[int] = field(default_factory=set)
    senders: dict[str, tuple[int, Clause]] = field(default_factory=dict)  # by follower: connection, clause it goes by
    acked: dict[str, int] = field(default_factory=dict)
    steps: Iterator[membership.Step | Wait] | None = None
    step: membership.Step | Wait | None = None
    step_lsn: int = 0
    cut_off: bool = False  # a change of the rule was


@dataclass(slots=True, eq=False)
class Server:
    name: str
    pledge: Pledge
    rate: float
    offset: float
    grants: Grants
    up: bool = True
    wal: list[Entry] = field(default_factory=list)
    flushed: int = 0
    superseded: int | None = None  # a rewind to the leader of this term has begun, and replay is not consistent
    rewinding: bool = False  # the files are a mixture
    consistent_at: int = 0
    leading: Leading | None = None
    stream: tuple[str, int] | None = None  # (leader, connection)
    job: tuple[Rejoin, Leading] | None = None  # under way
    unfenced: tuple[str, int] | None = None  # a stream that a fault has left running
    ended: bool = False  # its agent is asked before it has started the server again
    led: Leading | None = None  # it served as this when it ended in order

    def record(self) -> RuleRecord | None:
        return next((each.value for each in reversed(self.wal) if isinstance(each.value, RuleRecord)), None)

    @property
    def usable(self) -> bool:
        return bool(self.wal) and not self.rewinding and self.flushed >= self.consistent_at

    def commits(self) -> set[int]:
        return {each.value for each in self.wal if isinstance(each.value, int)}


@dataclass(slots=True)
class Repairer:
    name: str
    number: int = 0
    attempt: Attempt | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    terms: dict[str, int] = field(default_factory=dict)


class World:
    def __init__(
        self,
        seed: int,
        faults: Faults = Faults(),
        *,
        shape: tuple[int, int] | None = None,
        policy: Policy = Policy.QUORUM,
        operators: bool = False,
    ) -> None:
        """`shape`: members and spares, with the policy `policy`."""
        self.draw = draw = random.Random(seed)
        self.faults = faults
        self.operators = operators
        self.now = 0.0
        self.pace = draw.choice((0.004, 0.015, 0.03)) * LEASE_S  # mean time between two events
        self.trouble = draw.choice((0.1, 0.4, 1.0))
        self.policy = draw.choice((Policy.QUORUM, Policy.QUORUM, Policy.ALL, Policy.ASYNC))
        n = draw.choice((1, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 7))
        spares = draw.choice((0, 0, 1, 2, 3))
        if shape is not None:
            (n, spares), self.policy = shape, policy
        names = [f"m{i}" for i in range(1, n + spares + 1)]
        self.rule = rule_of(self.policy, names[:n])
        self.durable = self.policy is not Policy.ASYNC
        if n > 2 and self.durable and shape is None and draw.random() < 0.4:
            self.rule = Rule(self.rule.members, draw.choice((1, 1, draw.randint(1, n - 1))))
        self.sessions = draw.choice((3, 8, 60))  # of users, each of which waits for its commit
        self.connections = 0
        self.commits = 0
        self.messages: list[tuple[str, str, object]] = []
        self.acks: list[tuple[str, str, int, int]] = []  # (follower, leader, connection, lsn)
        self.results: list[Result] = []
        self.cut: set[tuple[str, str]] = set()
        self.acknowledged: set[int] = set()
        self.shown: set[int] = set()
        self.inherited: dict[int, set[int]] = {}  # by term: the commits that its leader began with
        self.spans: dict[int, tuple[float, float]] = {}  # by term: first and last moment that it served at
        self.story: Counter[str] = Counter()
        self.servers = {name: self._server(name) for name in names}
        self.repairers = [Repairer("r1"), Repairer("r2")]
        self._found()

    def _server(self, name: str) -> Server:
        rate = 1 + self.draw.uniform(-1, 1) * CLOCK_DRIFT_MAX / 2.1
        pledge = Pledge(group="g1", term=1, attempt="founding", leader="m1")
        return Server(name, pledge, rate, self.draw.uniform(0, 1000), Grants(-math.inf))

    def _found(self) -> None:
        """Term 1, led by m1; all members are copies of it."""
        record = RuleRecord(term=1, serial=0, leader="m1", promotion_id="founding", rule=self.rule)
        wal = [Entry(1, None), Entry(1, record)]
        for name in sorted(self.rule.members):
            server = self.servers[name]
            server.wal, server.flushed = list(wal), len(wal)
        leading = Leading("m1", record, commit_clause(self.rule, "m1"), 0.0, "founding", established=True)
        self.servers["m1"].leading = leading
        self.inherited[1] = set()

    # --- clocks and links ------------------------------------------------------------------------------------------

    def clock(self, name: str) -> float:
        server = self.servers.get(name)
        return self.now if server is None else server.offset + server.rate * self.now

    def one(self) -> Server:
        return self.draw.choice(list(self.servers.values()))

    def leader(self) -> Server:
        """Mostly one that leads."""
        leading = [server for server in self.servers.values() if server.leading is not None]
        return self.draw.choice(leading) if leading else self.one()

    def send(self, source: str, target: str, message: object) -> None:
        self.messages.append((source, target, message))

    def linked(self, one: str, other: str) -> bool:
        return (one, other) not in self.cut and (other, one) not in self.cut

    def deliver(self) -> None:
        if not self.messages:
            return
        place = self.draw.randrange(len(self.messages))
        source, target, message = self.messages[place]
        if self.draw.random() >= 0.1 * self.trouble:  # else it comes again
            self.messages[place] = self.messages[-1]
            self.messages.pop()
        if (source, target) in self.cut or self.draw.random() < 0.1 * self.trouble:
            return
        if target in self.servers:
            server = self.servers[target]
            if server.up:
                self._receive(server, source, message)
        else:
            self._hear(next(each for each in self.repairers if each.name == target), message)

    # --- instances -------------------------------------------------------------------------------------------------

    def _receive(self, server: Server, source: str, message: object) -> None:
        if isinstance(message, Renewed):
            if server.leading is not None and server.leading.record.term == message.term:
                server.leading.lease.renewed(message.name, message.sent_at)
            return
        if isinstance(message, Refusal):
            if server.leading is not None and message.term > server.leading.record.term:
                self.story["leader hears of a higher term"] += 1
            return
        assert isinstance(message, Recruit | Promote | Heartbeat)
        verdict = judge(server.name, server.pledge, message)
        if verdict.pledge != server.pledge:
            server.pledge, server.job = verdict.pledge, None
            if self.draw.random() < 0.03 * self.trouble:
                self.crash(server)
                return
        self._act(server, source, message, verdict.act)

    def _act(self, server: Server, source: str, message: object, act: Act) -> None:
        if act is Act.REFUSE:
            self.send(server.name, source, Refusal(server.name, server.pledge.term))
        elif act is Act.REPORT:
            assert isinstance(message, Recruit)
            self._report(server, source, message)
        elif act is Act.LEAD:
            assert isinstance(message, Promote)
            self._lead(server, message)
        elif act is Act.FOLLOW:
            assert isinstance(message, Heartbeat)
            self._follow(server, source, message)
        elif isinstance(message, Promote) and server.leading is not None and server.leading.established:
            self.send(server.name, source, Established(server.name, message.term, message.attempt))

    def _report(self, server: Server, source: str, message: Recruit) -> None:
        if server.leading is not None:
            self.stop(server)
        if self.faults.reports_before_fence and server.stream is not None:
            server.unfenced = server.stream
        self._end_stream(server)
        now = self.clock(server.name)
        if self.operators and self.draw.random() < 0.1 * self.trouble:
            server.ended = True
        usable, server.ended = server.usable and not server.ended, False
        report = Report(
            name=server.name,
            term=message.term,
            attempt=message.attempt,
            record=server.record() if usable else None,
            lsn=server.flushed,
            alone=server.pledge.alone,
            superseded=None if usable else server.superseded,
            lease_left_s=server.grants.left_s(now),
            lease_to=server.grants.to(now),
        )
        self.send(server.name, source, report)

    def _end_stream(self, server: Server) -> None:
        """What was received is flushed, or is not there after the restart that a fence may be."""
        if self.draw.random() < 0.5:
            del server.wal[server.flushed :]
        server.flushed = len(server.wal)
        server.stream = None

    def _lead(self, server: Server, message: Promote) -> None:
        self._end_stream(server)
        server.unfenced = None
        server.job = None
        commits = server.commits()
        self._expect(commits, f"the leader of term {message.term}, {server.name},")
        self.inherited[message.term] = commits
        server.wal.append(Entry(message.term, None))
        server.flushed = len(server.wal)
        if self.draw.random() < 0.05 * self.trouble:
            self.crash(server)  # before its record
            return
        record = message.record
        server.wal.append(Entry(message.term, record))
        server.flushed = len(server.wal)
        # A second may pass on the slowest clock while the fastest counts less.
        wait_s = message.wait_s * (1 + 2 * CLOCK_DRIFT_MAX)
        serve_at = self.clock(server.name) + wait_s
        server.leading = Leading(server.name, record, record.establishing(), serve_at, message.attempt)
        server.leading.visible = set(commits)
        server.leading.step_lsn = len(server.wal)
        self.story["promotion"] += 1

    def _follow(self, server: Server, source: str, message: Heartbeat) -> None:
        if server.leading is not None:
            self.stop(server)
        if server.stream is not None and server.stream[0] != message.leader:
            self._end_stream(server)
        if message.sent_at is not None:
            server.grants.grant(message.leader, self.clock(server.name))
            self.send(server.name, source, Renewed(server.name, message.term, message.sent_at))

    def stop(self, server: Server) -> None:
        """The server ends as in a crash, and starts as a follower."""
        server.leading = None
        server.stream = server.job = server.unfenced = None

    def crash(self, server: Server) -> None:
        if server.up:
            self.story["crash"] += 1
            server.up = False
            del server.wal[server.flushed :]
            self.stop(server)

    def start(self, server: Server) -> None:
        if not server.up:
            server.up = True
            server.grants = Grants.after_start(self.clock(server.name))
            self._begin_again(server)

    def _begin_again(self, server: Server) -> None:
        """In the same term, if it has heard of no other; it may have been surpassed."""
        led, server.led = server.led, None
        if led is None or (server.pledge.term, server.pledge.leader) != (led.record.term, server.name):
            return
        server.leading = Leading(server.name, led.record, led.record.clause(), self.clock(server.name), led.promotion)
        server.leading.visible = server.commits()
        server.leading.step_lsn = len(server.wal)
        self.story["begun again"] += 1

    # --- streaming -------------------------------------------------------------------------------------------------

    def connect(self, server: Server) -> None:
        """A follower's next step towards its leader's WAL."""
        name = server.pledge.leader
        if not server.up or server.stream is not None or server.leading is not None or name in (None, server.name):
            return
        assert name is not None
        source = self.servers[name]
        leading = source.leading
        if leading is None or leading.record.term != server.pledge.term or not self.linked(name, server.name):
            return
        if server.job is not None:
            self._end_job(server, source, leading)
            return
        if server.unfenced is not None:
            server.unfenced = None
        way = rejoin(self._local(server), self._history(source))
        if way is Rejoin.STREAM:
            assert source.wal[: len(server.wal)] == server.wal, f"{server.name} streams on from other data"
            self.connections += 1
            server.stream = (name, self.connections)
            leading.senders[server.name] = (self.connections, leading.clause)
            leading.acked.pop(server.name, None)
            return
        server.job = (way, leading)
        if way is Rejoin.REWIND:
            server.superseded, server.rewinding = leading.record.term, True

    def _end_job(self, server: Server, source: Server, leading: Leading) -> None:
        assert server.job is not None
        way, begun = server.job
        server.job = None
        if begun is not leading:
            return  # it has failed; the mark stays
        self.story[way.value] += 1
        end = len(source.wal)
        if way is Rejoin.REWIND:
            pairs = enumerate(zip(server.wal, source.wal, strict=False))
            common = next((place for place, (own, other) in pairs if own != other), min(len(server.wal), end))
            end = self.draw.randint(common, end)  # the rest comes by streaming
        else:
            server.superseded = None
        server.wal = source.wal[:end]
        server.flushed = end
        server.consistent_at = len(source.wal)
        server.rewinding = False

    def _local(self, server: Server) -> LocalData | None:
        if not server.wal:
            return None
        last = server.wal[-1].timeline
        return LocalData(
            system_identifier=1,
            marked=server.rewinding,
            timeline=last,
            promotion_id=_promotion(server.wal, last),
            lsn=len(server.wal),
        )

    def _history(self, source: Server) -> LeaderHistory:
        ends: dict[int, int] = {}
        for place, entry in enumerate(source.wal, start=1):
            ends[entry.timeline] = place
        last = source.wal[-1].timeline
        return LeaderHistory(
            system_identifier=1,
            reigns=tuple(
                Reign(timeline, _promotion(source.wal, timeline), None if timeline == last else end)
                for timeline, end in ends.items()
            ),
        )

    def transmit(self, server: Server) -> None:
        stream = server.stream or server.unfenced
        if not server.up or stream is None:
            return
        leading = self.servers[stream[0]].leading
        if leading is None or leading.senders.get(server.name, (0,))[0] != stream[1]:
            server.stream = server.unfenced = None
            return
        if self.linked(stream[0], server.name):
            have = len(server.wal)
            server.wal += self.servers[stream[0]].wal[have : have + self.draw.choice((1, 2, 4, 40))]

    def flush(self, server: Server) -> None:
        stream = server.stream or server.unfenced
        if server.up and stream is not None:
            server.flushed = len(server.wal)
            if server.flushed < server.consistent_at:
                return  # it streams under another name until then
            self.acks.append((server.name, stream[0], stream[1], server.flushed))

    def acknowledge(self) -> None:
        """A flush position arrives; the walsender lets commits go by the setting that it has read."""
        if not self.acks:
            return
        name, leader, connection, lsn = self.acks.pop(self.draw.randrange(len(self.acks)))
        leading = self.servers[leader].leading
        if leading is None or leading.senders.get(name, (0,))[0] != connection or (name, leader) in self.cut:
            return
        leading.acked[name] = max(lsn, leading.acked.get(name, 0))
        clause = leading.senders[name][1]
        if name not in clause.names or clause.count == 0:
            return
        flushed = sorted((leading.acked.get(each, 0) for each in clause.names), reverse=True)
        self._release(leading, flushed[clause.count - 1])

    def _release(self, leading: Leading, lsn: int) -> None:
        for each in [each for each in leading.waiting if each[0] <= lsn]:
            leading.waiting.remove(each)
            leading.visible.add(each[1])
            self.results.append(Result(leading, self.now, each[2], commit=each[1]))

    def notice(self, server: Server) -> None:
        """A leader notices that a connection is at its end; its walsender goes."""
        if server.leading is None:
            return
        for name, (connection, _) in list(server.leading.senders.items()):
            if self.servers[name].stream != (server.name, connection):
                if self.servers[name].unfenced != (server.name, connection):
                    del server.leading.senders[name]
                    server.leading.acked.pop(name, None)

    def reload(self, server: Server) -> None:
        if server.leading is not None and server.leading.senders:
            name = self.draw.choice(sorted(server.leading.senders))
            server.leading.senders[name] = (server.leading.senders[name][0], server.leading.clause)

    # --- a leader's work -------------------------------------------------------------------------------------------

    def beat(self, server: Server) -> None:
        leading = server.leading
        if leading is None:
            return
        now = self.clock(server.name)
        for name in self.servers:
            if name != server.name:
                self.send(server.name, name, Heartbeat(leading.record.term, leading.promotion, server.name, now))

    def progress(self, server: Server) -> None:
        """Establish, then go on with a change of the rule."""
        leading = server.leading
        if leading is None:
            return
        if not leading.established:
            met = self._met(leading, leading.record.establishing(), leading.step_lsn)
            if met or self.faults.serves_unestablished:
                leading.established = True
                self.story["established"] += 1
                if leading.record.previous is None:
                    leading.clause = leading.record.clause()
                else:
                    leading.steps = membership.finish(leading.record)
                    self._next_step(server, leading)
        elif leading.cut_off:
            leading.cut_off = False
            self._go_on_with_change(server, leading)
        elif leading.step is not None and self._done(leading, leading.step):
            if isinstance(leading.step, membership.Write):
                leading.record = leading.step.record
            self._next_step(server, leading)

    def _met(self, leading: Leading, clause: Clause, lsn: int) -> bool:
        return clause.met_by([name for name, flushed in leading.acked.items() if flushed >= lsn])

    def _done(self, leading: Leading, step: membership.Step | Wait) -> bool:
        if isinstance(step, membership.Write | Wait):
            return self._met(leading, step.found_by.establishing(), leading.step_lsn)
        return all(clause == step.clause for _, clause in leading.senders.values())

    def _next_step(self, server: Server, leading: Leading) -> None:
        assert leading.steps is not None
        leading.step = next(leading.steps, None)
        if leading.step is None:
            leading.steps = None
            self.story["rule changed"] += 1
        elif isinstance(leading.step, membership.Keep):
            server.pledge = replace(server.pledge, alone=leading.step.record)
            self._next_step(server, leading)
        elif isinstance(leading.step, Wait):
            leading.step_lsn = len(server.wal)
        elif isinstance(leading.step, membership.Use):
            leading.clause = leading.step.clause
            if leading.clause.count == 0:
                self._release(leading, len(server.wal))
        else:
            record = leading.step.record
            server.wal.append(Entry(record.term, record))
            server.flushed = leading.step_lsn = len(server.wal)
            if record.previous is not None:
                leading.record = record

    def change(self, server: Server) -> None:
        leading = server.leading
        if leading is None or not self.serving(server) or leading.steps is not None or leading.cut_off:
            return
        rule = self._other_rule(leading.record.rule, server.name)
        streaming = {name for name in leading.senders if self.servers[name].stream is not None}
        if (
            server.name in rule.members
            and rule != leading.record.rule
            and rule.members - leading.record.rule.members <= streaming
        ):
            leading.steps = membership.change(leading.record, rule)
            self._next_step(server, leading)

    def _go_alone(self) -> None:
        """The other member is given up, and may be there all the same."""
        server = self.leader()
        leading = server.leading
        if leading is None or not self.serving(server) or leading.cut_off:
            return
        rule = Rule(frozenset((server.name,)), 0)
        if membership.may_go_alone(leading.record, rule):
            leading.steps = membership.alone(leading.record, rule)
            self._next_step(server, leading)
            self.story["alone"] += 1

    def _go_on_with_change(self, server: Server, leading: Leading) -> None:
        """The next agent goes by the newest record in the data."""
        newest, kept = server.record(), server.pledge.alone
        assert newest is not None
        if kept is not None and kept.order > newest.order:
            server.wal.append(Entry(kept.term, kept))
            server.flushed = len(server.wal)
            newest = kept
        leading.record = newest
        if newest.previous is not None:
            leading.steps = self._go_on(newest)
            self.story["change gone on with"] += 1
        else:
            leading.steps = iter((membership.Use(newest.clause()),))
        self._next_step(server, leading)

    def _go_on(self, both: RuleRecord) -> Iterator[membership.Step | Wait]:
        """As `agent/rule_change.py` does: the record with both rules may not be established yet."""
        yield membership.Use(both.clause())
        yield Wait(both)
        yield from membership.finish(both)

    def _other_rule(self, rule: Rule, leader: str) -> Rule:
        members = set(rule.members)
        for _ in range(self.draw.choice((1, 1, 1, 2, 3))):
            name = self.draw.choice(sorted(self.servers))
            if name in members and name != leader and len(members) > 2:
                members.remove(name)
            elif len(members) < 7:
                members.add(name)
        if self.durable and len(members) > 1 and self.draw.random() < 0.3:
            return Rule(frozenset(members), self.draw.randint(1, len(members) - 1))
        return rule_of(self.policy, members)

    def expire(self, server: Server) -> None:
        """The agent of a leader without a lease stops it."""
        leading = server.leading
        if leading is not None and leading.established and not self.leased(leading) and self.now > LEASE_S:
            if self.clock(server.name) > leading.serve_at + LEASE_S:
                self.story["lease ran out"] += 1
                self.stop(server)

    def leased(self, leading: Leading) -> bool:
        if self.faults.ignores_lease:
            return True
        return leading.lease.covers(self.clock(leading.name), leading.record.lease_clauses())

    def serving(self, server: Server) -> bool:
        leading = server.leading
        if leading is None or not leading.established:
            return False
        settled = leading.record.previous is None or leading.record.serial > 0
        return settled and self.clock(server.name) >= leading.serve_at and self.leased(leading)

    # --- clients ---------------------------------------------------------------------------------------------------

    def commit(self, server: Server) -> None:
        leading = server.leading
        if leading is not None and self.serving(server) and len(leading.waiting) < self.sessions:
            self.commits += 1
            server.wal.append(Entry(leading.record.term, self.commits))
            server.flushed = len(server.wal)
            leading.waiting.append((len(server.wal), self.commits, self.now))
            if leading.clause.count == 0:
                self._release(leading, len(server.wal))

    def read(self, server: Server) -> None:
        if self.serving(server):
            assert server.leading is not None
            visible, known = frozenset(server.leading.visible), frozenset(self.acknowledged)
            self.results.append(Result(server.leading, self.now, self.now, visible=visible, known=known))

    def answer(self) -> None:
        """A result reaches its gateway, which uses it under a lease only."""
        if not self.results:
            return
        result = self.results.pop(self.draw.randrange(len(self.results)))
        if not self.leased(result.leading):
            self.story["result refused"] += 1
            return
        self._judge_span(result)
        if result.commit is not None:
            self.acknowledged.add(result.commit)
            self.story["commit"] += 1
            if self.durable:
                for term, commits in self.inherited.items():
                    if term > result.leading.record.term:
                        assert result.commit in commits, f"commit {result.commit} is not in the leader of term {term}"
            return
        self.story["read"] += 1
        if self.durable:
            missing = result.known - result.visible
            assert not missing, f"a reader in term {result.leading.record.term} does not see {sorted(missing)}"
            self.shown |= result.visible

    def _judge_span(self, result: Result) -> None:
        term, at = result.leading.record.term, result.executed_at
        for other, (first, last) in self.spans.items():
            assert not (other > term and first < at), f"term {term} serves while term {other} does"
            assert not (other < term and last > at), f"term {other} serves while term {term} does"
        first, last = self.spans.get(term, (at, at))
        self.spans[term] = (min(first, at), max(last, at))

    def _expect(self, commits: set[int], who: str) -> None:
        if self.durable:
            lost = self.acknowledged - commits
            assert not lost, f"{who} lacks acknowledged commits {sorted(lost)}"
            lost = self.shown - commits
            assert not lost, f"{who} lacks commits {sorted(lost)} that were shown"

    # --- repairers -------------------------------------------------------------------------------------------------

    def begin(self, repairer: Repairer) -> None:
        repairer.number += 1
        term = max([1, *repairer.terms.values()]) + 1
        prefer = self.draw.choice([None, *self.servers])
        identity = f"{repairer.name}.{repairer.number}"
        repairer.attempt = Attempt(id=identity, term=term, prefer=prefer)
        repairer.answers = {}

    def _hear(self, repairer: Repairer, answer: object) -> None:
        assert isinstance(answer, Report | Refusal | Established | Renewed)
        if isinstance(answer, Renewed):
            return
        repairer.terms[answer.name] = max(answer.term, repairer.terms.get(answer.name, 0))
        attempt = repairer.attempt
        if attempt is None or (not isinstance(answer, Refusal) and answer.attempt != attempt.id):
            return
        if isinstance(answer, Refusal) and answer.term < attempt.term:
            return  # of an earlier attempt
        if isinstance(answer, Report):
            if answer.name in repairer.answers:
                return
            answer = Report(**{name: getattr(answer, name) for name in answer.__slots__} | {"received_at": self.now})
        repairer.answers[answer.name] = answer

    def repair(self, repairer: Repairer) -> None:
        if repairer.attempt is None:
            return
        seen = Observation(self.now, dict(repairer.answers), frozenset(self.servers))
        decision = decide(repairer.attempt, seen)
        repairer.attempt = decision.attempt
        for target, message in decision.send:
            self.send(repairer.name, target, message)
        if decision.done:
            self.story["repaired"] += 1
        if decision.done or decision.lost_to is not None:
            repairer.attempt = None

    # --- time ------------------------------------------------------------------------------------------------------

    def ordinary(self) -> list[tuple[Callable[[], None], float]]:
        each, leader = self.one, self.leader
        return [
            (self.deliver, 25),
            (lambda: self.connect(each()), 4),
            (lambda: self.transmit(each()), 7),
            (lambda: self.flush(each()), 7),
            (self.acknowledge, 6),
            (lambda: self.notice(leader()), 2),
            (lambda: self.reload(leader()), 3),
            (lambda: self.beat(leader()), 5),
            (lambda: self.progress(leader()), 4),
            (lambda: self.expire(leader()), 1),
            (lambda: self.commit(leader()), 2),
            (lambda: self.read(leader()), 2),
            (self.answer, 5),
            (lambda: self.repair(self.draw.choice(self.repairers)), 6),
        ]

    def harmful(self) -> list[tuple[Callable[[], None], float]]:
        return [
            (lambda: self.crash(self.one()), 0.4),
            (self._lose_leader, 0.5),
            (self._cut, 0.3),
            (self._suspect, 0.5),
            (self._turn, 0.3),
            (self._break_stream, 0.3),
            (self._begin_for_no_reason, 0.2),
            (lambda: self.change(self.leader()), 2.0),
            (self._forget, 0.1),
            *(self._operations() if self.operators else ()),
        ]

    def _operations(self) -> list[tuple[Callable[[], None], float]]:
        return [
            (self._switch_over, 0.3),
            (self._kill_agent, 1.0),
            (self._remove, 0.3),
            (self._end_in_order, 0.3),
            (self._go_alone, 1.0),
        ]

    def _switch_over(self) -> None:
        """The leader is stopped in order: those that are linked get all that it has. Another is asked for."""
        server = self.leader()
        leading = server.leading
        if leading is None or not self.serving(server) or leading.steps is not None or not leading.senders:
            return
        successor = self.draw.choice(sorted(leading.senders))
        self._send_all(server, leading)
        self.stop(server)
        server.up = self.draw.random() < 0.5  # else it reports when it runs again
        repairer = self.draw.choice(self.repairers)
        until = self.now + self.draw.uniform(0, LEASE_S)
        self.begin(repairer)
        assert repairer.attempt is not None
        repairer.attempt = replace(repairer.attempt, prefer=successor, prefer_until=until)
        self.story["switchover"] += 1

    def _send_all(self, server: Server, leading: Leading) -> None:
        """What a server does that is stopped in order."""
        for name, (connection, _) in leading.senders.items():
            follower = self.servers[name]
            if follower.up and follower.stream == (server.name, connection) and self.linked(name, server.name):
                follower.wal += server.wal[len(follower.wal) :]
                follower.flushed = len(follower.wal)

    def _end_in_order(self) -> None:
        """The leader's server and its agent; its followers may end before it."""
        server = self.leader()
        leading = server.leading
        if leading is None or not self.serving(server):
            return
        for other in self.servers.values():
            if other is not server and self.draw.random() < 0.5:
                self.crash(other)
        self._send_all(server, leading)
        server.led = leading
        self.stop(server)
        server.up = False
        self.story["end in order"] += 1

    def _kill_agent(self) -> None:
        """Of a leader that changes the rule; its server goes on, and the next agent finds it."""
        leading = self.leader().leading
        if leading is not None and leading.established and leading.steps is not None:
            leading.steps = leading.step = None
            leading.cut_off = True
            self.story["change cut off"] += 1

    def _remove(self) -> None:
        """One that the newest rule of a leader that serves does not count is deleted, as it was never there."""
        for server in self.servers.values():
            leading = server.leading
            if leading is None or not self.serving(server) or leading.record.previous is not None or leading.cut_off:
                continue
            if leading.steps is not None or any(
                each.leading is not None and each.leading.record.term > leading.record.term
                for each in self.servers.values()
            ):
                continue
            for other in self.servers.values():
                if other.name not in leading.record.rule.members and other.leading is None and other.wal:
                    other.wal, other.flushed, other.consistent_at = [], 0, 0
                    other.stream = other.job = other.unfenced = other.superseded = other.led = None
                    other.rewinding = False
                    self.story["removal"] += 1

    def helpful(self) -> list[tuple[Callable[[], None], float]]:
        return [
            (lambda: self.start(self.one()), 2.0),
            (self._heal_links, self.draw.choice((0.05, 0.2, 0.5))),
            (self._repair_if_needed, 4.0),
        ]

    def _lose_leader(self) -> None:
        for server in self.servers.values():
            if server.leading is not None and self.draw.random() < 0.5:
                self.crash(server)

    def _cut(self) -> None:
        """Between two sides, one way or both."""
        ends = [*self.servers, "r1", "r2"]
        side = set(self.draw.sample(ends, self.draw.randint(1, len(ends) - 1)))
        way = self.draw.choice(("out", "in", "both"))
        for one in ends:
            for other in ends:
                if (one in side) != (other in side) and (way == "both" or (one in side) == (way == "out")):
                    self.cut.add((one, other))

    def _suspect(self) -> None:
        """A repairer does not reach a leader that is well, nor those on the leader's side of a partition."""
        repairer, leader = self.draw.choice(self.repairers), self.leader()
        side = {leader.name, *self.draw.sample(list(self.servers), self.draw.randint(0, len(self.servers) // 2))}
        for one in side:
            for other in [repairer.name, *(self.servers.keys() - side)]:
                self.cut |= {(one, other), (other, one)}
        self.begin(repairer)

    def _turn(self) -> None:
        """The newest leader is lost at the moment at which everybody reaches everybody again."""
        leading = [server for server in self.servers.values() if server.leading is not None]
        if leading:
            self.crash(max(leading, key=lambda server: server.pledge.term))
        self.cut.clear()
        self.begin(self.draw.choice(self.repairers))

    def _heal_links(self) -> None:
        self.cut.clear()

    def _break_stream(self) -> None:
        server = self.one()
        if server.stream is not None:
            self._end_stream(server)

    def _begin_for_no_reason(self) -> None:
        self.begin(self.draw.choice(self.repairers))

    def _forget(self) -> None:
        """A repairer crashes; what it knew of terms is gone as well."""
        repairer = self.draw.choice(self.repairers)
        repairer.attempt, repairer.terms = None, {}

    def run(self) -> None:
        kinds = [(event, weight * self.trouble * self.draw.choice((0, 1, 1, 4))) for event, weight in self.harmful()]
        events = self.ordinary() + self.helpful() + kinds
        self._some(events, self.draw.randint(500, 4000))
        self._heal()

    def rival(self) -> None:
        """In place of chance: a leader that is cut off goes on writing, its successor is lost when it comes back."""
        self.trouble, self.sessions = 0.0, 60
        events = self.ordinary()
        self._some(events, 400)
        old = self.servers["m1"]
        others = [*(self.servers.keys() - {"m1"}), "r1"]
        self.cut = {pair for other in others for pair in (("m1", other), (other, "m1"))}
        for _ in range(40):
            self.commit(old)
        self.begin(self.repairers[0])
        known = len(self.acknowledged)
        for _ in range(200):
            self._some(events, 20)
            successors = [each for each in self.servers.values() if each is not old and self.serving(each)]
            if successors and len(self.acknowledged) > known:
                self.story["rival"] += 1
                self.crash(successors[0])
                break
        self.cut.clear()
        self.begin(self.repairers[0])
        self._some(events, 300)
        self._heal()

    def lag(self) -> None:
        """In place of chance: one that lags reports, and what it is sent after that must count for nothing."""
        self.trouble = 0.0
        self._some(self.ordinary(), 400)
        old, ahead, behind = (self.servers[name] for name in ("m1", "m2", "m3"))
        if not self.serving(old) or ahead.stream is None or behind.stream is None:
            return
        for _ in range(10):
            self.commit(old)
            self.transmit(ahead)
            self.flush(ahead)
        repairer = self.repairers[0]
        self.cut = {("m1", "r1"), ("r1", "m1")}
        self.begin(repairer)
        for _ in range(2000):
            self.repair(repairer)
            if repairer.attempt is not None and repairer.attempt.record is not None:
                break
            self.deliver()
            self.now += 0.001 * LEASE_S
        else:
            return
        self.story["lag"] += 1
        for _ in range(50):
            self.commit(old)
            self.transmit(behind)
            self.flush(behind)
            self.acknowledge()
            self.answer()
        self._some(self.ordinary(), 300)
        self._heal()

    def loss(self) -> None:
        """In place of chance: of two the leader goes on alone, and its server has just ended when the other is back."""
        self.trouble = 0.0
        self._some(self.ordinary(), 400)
        old = self.servers["m1"]
        if not self.serving(old):
            return
        self.cut = {("m1", "m2"), ("m2", "m1")}
        self._go_alone()
        for _ in range(20):
            self.commit(old)
            self.answer()
        self.crash(old)
        self.cut.clear()
        self.start(old)
        old.ended = True
        self.story["loss"] += 1
        self.begin(self.repairers[0])
        self._some(self.ordinary(), 300)
        self._heal()

    def relief(self) -> None:
        """In place of chance: of some under `all` one is lost for good, the leader perhaps, and the rule has to do without it."""
        self.trouble, self.pace = 0.0, 0.002 * LEASE_S
        self._some(self.ordinary(), 1000)
        lost = self.one()
        self.crash(lost)
        for other in (*self.servers.keys() - {lost.name}, "r1", "r2"):
            self.cut |= {(lost.name, other), (other, lost.name)}
        self._some(self.ordinary(), 300)
        others, first = self.servers.keys() - {lost.name}, self.commits
        rule = self.draw.choice((Rule(frozenset(others), len(others) - 1), rule_of(Policy.QUORUM, self.servers)))

        def relieved() -> bool:
            leading = next((each.leading for each in self.servers.values() if self.serving(each)), None)
            if leading is not None and leading.steps is None and leading.record.rule != rule:
                leading.steps = membership.change(leading.record, rule)
                self._next_step(self.servers[leading.name], leading)
            return self.acknowledged_since(first)

        self._until(relieved)
        self.story["relief"] += 1
        self.cut.clear()
        self.start(lost)
        if self.draw.random() < 0.5:
            self._turn()
        self._some(self.ordinary(), 300)
        self._heal()

    def retreat(self) -> None:
        """In place of chance: five under `all` become two, and the three who go are on the other side meanwhile."""
        self.trouble, self.pace = 0.0, 0.002 * LEASE_S
        events = self.ordinary()
        self._some(events, 1000)
        server = self.servers["m1"]
        if not self.serving(server) or "m2" not in server.leading.senders:  # type: ignore[union-attr]
            return
        assert server.leading is not None
        for one in ("m3", "m4", "m5", "r1"):
            for other in ("m1", "m2"):
                self.cut |= {(one, other), (other, one)}
        server.leading.steps = membership.change(server.leading.record, Rule(frozenset(("m1", "m2")), 1))
        self._next_step(server, server.leading)
        self._some(events, self.draw.randint(100, 400))
        self.story["retreat"] += 1
        self.begin(self.repairers[0])
        self._some(events, 600)
        self._heal()

    def growth(self) -> None:
        """In place of chance: three become five, and the two old followers are cut off while that is under way."""
        self.trouble, self.pace = 0.0, 0.002 * LEASE_S
        events = self.ordinary()
        self._some(events, 1500)
        server = self.servers["m1"]
        new = Rule(self.rule.members | {"m4", "m5"}, 2)
        if not self.serving(server) or not {"m4", "m5"} <= server.leading.senders.keys():  # type: ignore[union-attr]
            return
        assert server.leading is not None
        server.leading.steps = membership.change(server.leading.record, new)
        self._next_step(server, server.leading)
        self._some(events, self.draw.randint(0, 300))
        self.story["growth"] += 1
        for one in ("m2", "m3", "r1"):
            for other in self.servers.keys() - {"m2", "m3"}:
                self.cut |= {(one, other), (other, one)}
        self._some(events, 300)
        self.begin(self.repairers[0])
        self._some(events, 600)
        self._heal()

    def _some(self, events: list[tuple[Callable[[], None], float]], count: int) -> None:
        actions, weights = [event for event, _ in events], [weight for _, weight in events]
        for action in self.draw.choices(actions, weights, k=count):
            self.now += self.draw.expovariate(1 / self.pace)
            action()

    def _heal(self) -> None:
        """Nothing goes wrong any more: the group has to serve, and its members to become equal."""
        self.trouble = 0.0
        self.cut.clear()
        for server in self.servers.values():
            self.start(server)
        first = self.commits

        def recovered() -> bool:
            serves = any(self.serving(server) for server in self.servers.values())
            return serves and self.acknowledged_since(first) and self._equal()

        self._until(recovered)

    def _until(self, condition: Callable[[], bool]) -> None:
        self.pace = 0.0005 * LEASE_S
        events = [*self.ordinary(), (self.deliver, 60)]
        for _ in range(HEALING_EVENTS_MAX // 50):
            self._some(events, 50)
            self._repair_if_needed()
            if condition():
                return
        raise AssertionError(f"the group does not recover: {self.picture()}")

    def acknowledged_since(self, first: int) -> bool:
        return any(commit > first for commit in self.acknowledged)

    def _repair_if_needed(self) -> None:
        """As an agent would: no leader, or a member that has pledged itself beyond the leader's term."""
        if any(repairer.attempt is not None for repairer in self.repairers):
            if self.draw.random() < 0.05:
                self.repairers[0].attempt = self.repairers[1].attempt = None
            return
        terms = [server.leading.record.term for server in self.servers.values() if server.leading is not None]
        if max(terms, default=0) < max(server.pledge.term for server in self.servers.values()):
            self.begin(self.draw.choice(self.repairers))

    def _equal(self) -> bool:
        leader = next(server for server in self.servers.values() if self.serving(server))
        assert leader.leading is not None
        if leader.leading.steps is not None:
            return False
        for name in leader.leading.record.rule.members - {leader.name}:
            server = self.servers[name]
            if (
                server.stream is None
                or server.wal != leader.wal[: len(server.wal)]
                or len(leader.wal) - len(server.wal) > 20
            ):
                return False
        self._expect(leader.commits(), f"the leader in the end, {leader.name},")
        return True

    def picture(self) -> str:
        return "; ".join(
            f"{server.name} {'up' if server.up else 'down'} term {server.pledge.term} of {server.pledge.attempt} "
            f"led by {server.pledge.leader}, {len(server.wal)} entries, rewinding {server.rewinding}, "
            f"stream {server.stream}, leading {server.leading and (server.leading.record, server.leading.established)}"
            for server in self.servers.values()
        )


def _promotion(wal: list[Entry], timeline: int) -> str | None:
    records = (entry.value for entry in wal if isinstance(entry.value, RuleRecord))
    return next((record.promotion_id for record in records if record.term == timeline), None)
