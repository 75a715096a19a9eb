"""The fast way of a statement: from the client's bytes to a backend and back without a task, a future or a copy of a row.

Taken when everything is known: the text's plan is cached and is a Forward, its values are at hand, the session is in no
special state, and a backend that is already in the session's state is idle (or the transaction has its branch there, or
can open one by a BEGIN in front). Everything else answers False and goes the thorough way, which must give the same
answer; nothing here may be the only place that does something.
"""

from __future__ import annotations

import asyncio
import random
import struct
from typing import TYPE_CHECKING

from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..core.limits import CONFLICT_PAUSE_S, CONFLICT_RETRIES_MAX
from ..engines.postgres.backend import FIRST, LAST, Backend, close_statement, lost_connection
from ..pgwire import backend as server_messages
from ..pgwire import frontend
from ..pgwire.diagnostics import error_response, parse_error
from ..pgwire.framing import Framer
from ..planner.plan import Forward, Planned, SessionVerb
from ..planner.plan import Session as SessionPlan
from ..planner.values import NO_PARAMETERS, Parameters
from ..transactions.lost_commit import Mark
from . import drawing, gating, intake, quick_commit
from .autoprepare import USES_BEFORE, Prepared, consider, parameterised
from .ending import answer_commit, finish
from .holding import is_farewell, may_read_again
from .interruption import check
from .plans import LONG_TEXT_BYTES, Plans
from .retrying import CONFLICTS
from .route import Route
from .shown import as_one_table, moved_back
from .transaction import Branch, Transaction

if TYPE_CHECKING:
    from ..planner.cache import Hit
    from .prepared import Statement
    from .session import Session

HELD_BYTES_MAX = 1 << 14  # of the answer of a statement that may be repeated

_LENGTH = struct.Struct("!I").unpack_from


class FastPath:
    """One session's fast path; it is also the `Relay` of the backend that serves it."""

    __slots__ = (
        "_again",
        "_chunk",
        "_long",
        "_mark",
        "_told",
        "_unit",
        "backend",
        "ending",
        "parts",
        "planned",
        "prepared",
        "preparing",
        "route",
        "session",
        "shard",
    )

    def __init__(self, session: Session) -> None:
        self.session = session
        self.backend: Backend | None = None  # the relay is on
        self.planned: Planned | None = None
        self.ending: bool | None = None  # the relayed message ends the transaction: True, by COMMIT
        self.preparing: bytes | None = None  # the backend statement that the running message prepares
        # Of the text that runs, for its errors: the shard that it names, and whether it has `$n` for literals.
        self.parts: list[bytes] = []
        self.route: Route | None = None
        self.shard: int | None = None
        self.prepared = False
        self._chunk: bytes | None = None  # what is being tried
        self._unit: bytes | None = None  # what the relay is on for, as long as nothing of its answer was sent
        self._mark: Mark | None = None  # of the COMMIT that runs
        self._told = False  # the running unit's error was that its server ends
        self._again: _Again | None = None  # the running statement is to be repeated if it meets another transaction
        self._long: tuple[bytes, Plans, Hit | None] | None = None  # the running unit's text, where it is long

    # --- from the client ---------------------------------------------------------------------------------------

    def try_chunk(self, data: bytes) -> bool:
        """A chunk that is exactly one unit of a well-known shape. False: nothing was done."""
        self._chunk = data
        try:
            return self._try_chunk(data)
        finally:
            self._chunk = None

    def _try_chunk(self, data: bytes) -> bool:
        size = len(data)
        if size < 6:
            return False
        kind = data[0]
        length = _LENGTH(data, 1)[0] + 1
        if kind == 81:  # Query
            return length == size and data.find(0, 5) == size - 1 and self.try_query(data[5:-1])
        try:
            if kind == 66 and length < size:  # Bind …
                return self._try_bind(data, length)
            if kind == 80 and length < size:  # Parse …
                return self._try_parse(data, length)
        except PgError:  # malformed: the thorough way says what is wrong, in its order
            return False
        return False

    def find(self, text: bytes) -> Hit | None:
        """The plan of a text and the text's parts. The thorough way finds what was cut here, whoever came between."""
        plans = self.session.plans
        if len(text) < LONG_TEXT_BYTES:
            return plans.find(text)
        last = self._long
        if last is None or last[1] is not plans or last[0] != text:
            last = self._long = (text, plans, plans.find(text))
        return last[2]

    def forget(self) -> None:
        """The unit has ended."""
        if self._long is not None:
            self._long[1].forget_large()
            self._long = None

    def try_query(self, text: bytes) -> bool:
        session = self.session
        plans = session.plans
        found = self.find(text)
        if found is None:
            return False
        planned, parts = found
        if type(planned.plan) is not Forward:
            return type(planned.plan) is SessionPlan and self._try_verb(planned.plan, text)
        if not self._allowed(planned):
            return False
        route = plans.route(planned)
        place, shard = route.resolve(parts[1::2], NO_PARAMETERS)
        if place is None:
            place = self._any_place(route)
        if (
            place is None or place == WORKSPACE_PLACE
        ):  # the workspace may end idle sessions: the thorough way tries again
            return False
        prepared = route.prepared
        self.parts, self.route, self.shard, self.prepared = parts, route, shard, False
        if prepared is not None:
            values = prepared.values(parts[1::2])
            if values is not None:
                self.prepared = True
                return self._send_as_prepared(place, route, shard, parts, prepared, values)
        elif route.uses < USES_BEFORE:
            route.uses += 1
            if route.uses == USES_BEFORE:
                session.gateway.spawn(consider(session, route, text, parts, place))
        sql = text if shard is None else render(route, shard, text, parts)
        return self._send(place, b"Q" + struct.pack("!I", len(sql) + 5) + sql + b"\x00", planned)

    def _send_as_prepared(
        self, place: str, route: Route, shard: int | None, parts: list[bytes], prepared: Prepared, values: bytes
    ) -> bool:
        """A simple query as Bind and Execute (`autoprepare.py`); its BindComplete is taken off the answer."""
        backend = self._peek(place, route.planned)
        if backend is None:
            return False
        name = b"a%d" % prepared.number if shard is None else b"a%d_%d" % (prepared.number, shard)
        message = prepared.message(name, values)
        if backend.knows(name):
            self._send_to(backend, place, message, route.planned, 0, strip=True)
            return True
        sql = parameterised(parts if shard is None else render_parts(route, shard, parts))
        evicted, closed = backend.remember(name, len(sql))
        parse = frontend.parse(name, sql, prepared.types)
        self.preparing = name
        swallow = 3 + closed
        self._send_to(backend, place, evicted + close_statement(name) + parse + message, route.planned, swallow)
        return True

    def _try_verb(self, plan: SessionPlan, text: bytes, acknowledged: bytes = b"") -> bool:
        """BEGIN, and the end of a transaction: of one in several places as a task, by COMMIT. `acknowledged` is answered first."""
        session = self.session
        transaction = session.transaction
        if plan.verb is SessionVerb.BEGIN:
            if transaction is not None or text[:5].upper() != b"BEGIN":
                return False
            session.transaction = Transaction(plan.argument, session.state)
            session.output.write(acknowledged + _BEGUN)
            return True
        commits = plan.verb is SessionVerb.COMMIT
        if not commits and plan.verb is not SessionVerb.ROLLBACK:
            return False
        if transaction is None or plan.argument or not self._ends_plainly(transaction, commits):
            return False
        if len(transaction.branches) > 1 or (commits and transaction.writers and not gating.commit_plainly(session)):
            if not commits or transaction.savepoints or session.reads is not None:
                return False
            if not quick_commit.start(session, transaction, acknowledged):
                session.start(answer_commit(session, acknowledged))
            return True
        self.ending = commits
        self.parts = []
        if not transaction.branches:
            self._end(transaction)
            session.output.write(acknowledged + (_COMMITTED if commits else _ROLLED_BACK))
            return True
        if acknowledged:
            session.output.write(acknowledged)
        ((place, branch),) = transaction.branches.items()
        if commits and branch.wrote and gating.due(session, place):
            self._commit(branch.backend)
        else:
            self._relay(branch.backend, _COMMIT_QUERY if commits else _ROLLBACK_QUERY, None)
        return True

    def _commit(self, backend: Backend) -> None:
        """Behind the group's gate; and behind a mark, where it is this commit's turn."""
        mark = self._mark = self.session.gateway.positions.mark_hasty(backend)
        if mark is None:
            self._relay(backend, gating.COMMIT, None, hidden=FIRST)
            return
        before, message = gating.commit_marked(backend, mark)
        expected = b"" if before else gating.MARKED
        self._relay(backend, before + message, None, 1 if before else 0, gating.MARKED_MESSAGES, expected=expected)

    def _ends_plainly(self, transaction: Transaction, commits: bool) -> bool:
        session = self.session
        return (
            transaction.explicit
            and transaction.change is None
            and not (commits and transaction.failed)
            and not session.cursors
            and not session.pinned
            and not transaction.left
        )

    def _end(self, transaction: Transaction) -> None:
        committed, self.ending, self._mark = bool(self.ending), None, None
        if not committed:
            self.session.set_state(transaction.state_before)
        finish(self.session, transaction, committed=committed)

    def _allowed(self, planned: Planned) -> bool:
        session = self.session
        transaction = session.transaction
        return (
            planned.neutral
            and planned.pins is None
            and not session.pinned
            and not session.gateway.frozen
            and session.gateway.control.assured
            and planned.verb != "COPY"
            and (
                not (planned.writes and gating.needs_transaction(session, planned))
                if transaction is None
                else (
                    transaction.explicit
                    and not transaction.failed
                    and not transaction.awaits_snapshot
                    and transaction.change is None
                )
            )
        )

    def _any_place(self, route: Route) -> str | None:
        """A statement that any group can answer: where the transaction already is, else the home group."""
        if not route.any_group:
            return None
        transaction = self.session.transaction
        if transaction is not None and transaction.branches:
            return next(iter(transaction.branches))
        return self.session.plans.snapshot.home_group

    def _send(self, place: str, message: bytes, planned: Planned) -> bool:
        backend = self._peek(place, planned)
        if backend is None:
            return False
        self._send_to(backend, place, message, planned)
        return True

    def _relay(
        self,
        backend: Backend,
        message: bytes,
        planned: Planned | None,
        skip: int = 0,
        swallow: int = 0,
        hidden: int = 0,
        expected: bytes = b"",
    ) -> None:
        session = self.session
        self.backend = backend
        self.planned = planned
        self._unit, self._told = self._chunk, False
        session.busy = True
        session.unit += 1
        session.sentence = None
        session.running[backend.place] = backend
        backend.relay_to(self, skip_ready=skip, swallow=swallow, expected=expected, hidden=hidden)
        try:
            backend.write(message)
        except PgError:
            self.lost(backend)

    # --- extended protocol -------------------------------------------------------------------------------------

    def _try_bind(self, data: bytes, end: int, statement: Statement | None = None, parse: bytes = b"") -> bool:
        """[Parse] Bind, Describe (of the portal) or not, Execute of all rows, Sync; all for the unnamed portal."""
        session = self.session
        rest = data[end:]
        if rest not in _TAILS or session.skip_to_sync:
            return False
        bind = frontend.parse_bind(data[:end])
        if bind.portal:
            return False
        if statement is None:
            statement = session.statements.get(bind.statement)
            if statement is None:
                return False
        plans = session.plans
        found = plans.find(statement.text)
        if found is None:
            return False
        planned, parts = found
        if type(planned.plan) is SessionPlan and not bind.values:
            acknowledged = (_PARSED if parse else b"") + (_BOUND if rest[0] == 69 else _BOUND_NO_DATA)
            return self._try_verb(planned.plan, statement.text, acknowledged)
        if type(planned.plan) is not Forward or not self._allowed(planned):
            return False
        route = plans.route(planned)
        types = statement.analysis.parameter_types if statement.analysis else statement.declared_types
        place, shard = route.resolve(parts[1::2], Parameters(bind.values, bind.parameter_formats, types))
        if place is None:
            place = self._any_place(route)
        if (
            place is None or place == WORKSPACE_PLACE
        ):  # the workspace may end idle sessions: the thorough way tries again
            return False
        self.parts, self.route, self.shard, self.prepared = parts, route, shard, False
        if parse:
            sql = statement.text if shard is None else render(route, shard, statement.text, parts)
            message = frontend.parse(b"", sql, statement.declared_types) + data[:end] + rest
            return self._send(place, message, planned)
        return self._send_prepared(place, route, shard, statement, parts, data[:end], rest)

    def _send_prepared(
        self,
        place: str,
        route: Route,
        shard: int | None,
        statement: Statement,
        parts: list[bytes],
        bind: bytes,
        rest: bytes,
    ) -> bool:
        """The backend may have to prepare the statement first, under a name that all sessions share.

        What it means may depend on settings ('01/02/2024'::date), so the name is that of the settings it is parsed under.
        """
        session = self.session
        if statement.state is not session.state:
            statement.number = session.gateway.statement_number(statement.text, statement.declared_types, session.state)
            statement.state = session.state
        if session.transaction is not None and session.transaction.parses_alone:
            return False
        name = (
            b"h%d" % statement.number if shard is None or not route.renames else b"h%d_%d" % (statement.number, shard)
        )
        backend = self._peek(place, route.planned)
        if backend is None:
            return False
        message = frontend.rebind(bind, name) + rest
        swallow = 0
        if not backend.knows(name):
            sql = statement.text if shard is None else render(route, shard, statement.text, parts)
            evicted, closed = backend.remember(name, len(sql))
            parse = frontend.parse(name, sql, statement.declared_types)
            message = evicted + close_statement(name) + parse + message  # closing what is not there is no error
            swallow = 2 + closed
            self.preparing = name
        self._send_to(backend, place, message, route.planned, swallow)
        return True

    def _peek(self, place: str, planned: Planned) -> Backend | None:
        """The backend that `_send_to` will use, unless something must be read from it before."""
        backend = self._next_backend(place)
        if backend is None or planned.draws is None or not drawing.must_save(self.session, backend):
            return backend
        if self.session.transaction is None or place not in self.session.transaction.branches:
            self.session.gateway.pool(place).release(backend)
        return None

    def _next_backend(self, place: str) -> Backend | None:
        """The transaction's branch, or one taken from the pool."""
        session = self.session
        transaction = session.transaction
        if transaction is not None:
            branch = transaction.branches.get(place)
            if branch is not None:
                return branch.backend
            if not transaction.plain:
                return None
        return session.gateway.pool(place).take(session.user, session.database, session.state)

    def _send_to(
        self, backend: Backend, place: str, message: bytes, planned: Planned, swallow: int = 0, *, strip: bool = False
    ) -> None:
        transaction = self.session.transaction
        skip, expected, usual = 0, b"", not swallow
        if transaction is not None:
            branch = transaction.branches.get(place)
            if branch is None:
                branch = transaction.branches[place] = Branch(backend)
                self.session.note_branch(transaction)
                begin = transaction.begin_sql.encode()
                if message[0] == 81:
                    message = frontend.query(begin) + message
                    skip = 1
                else:  # before the same Sync: one answer, one wake-up on either side
                    opening, count = _opening(backend, begin)
                    message = opening + message
                    swallow += count
                    expected, usual = _BEGIN_ANSWER, usual and count == 2
            branch.wrote |= planned.writes
            branch.used = True
            transaction.touched[id(planned)] = planned
        ahead = planned.draws is not None and drawing.begin(self.session, backend, planned.draws)
        if strip:
            swallow += 1
            expected += _BOUND
        hidden = 0
        if gating.due_alone(self.session, planned, place):
            before, message = gating.behind(backend, message)
            hidden = LAST
            self._again = _Again(message, swallow)
            message = before + message
            skip = 1 if before else 0
        usual = usual and not skip and not ahead
        self._relay(backend, message, planned, skip, swallow, hidden, expected if usual else b"")

    def _try_parse(self, data: bytes, end: int) -> bool:
        """Parse of the unnamed statement and its Bind … Sync in one chunk, as libpq's PQexecParams sends them."""
        if data[5] != 0 or data[end] != 66 or len(data) < end + 5:
            return False
        bind_end = end + 1 + _LENGTH(data, end + 1)[0]
        if bind_end >= len(data):
            return False
        session = self.session
        parsed = frontend.parse_parse(data[:end])
        statement = session.make_statement(parsed.sql, parsed.parameter_types)
        chunk = data[end:]
        if not self._try_bind(chunk, bind_end - end, statement, data[:end]):
            return False
        session.statements[b""] = statement
        return True

    # --- from the backend (Relay) ------------------------------------------------------------------------------

    def chunk(self, data: bytes) -> None:
        if self.ending is not None and data.endswith(_STILL_OPEN):  # COMMIT had no turn; the pool ends such a session
            data = data[:-1] + b"I"
        again = self._again
        if again is not None:
            again.held += data
            if len(again.held) <= HELD_BYTES_MAX:
                return
            data, self._again = again.held, None
        if self._unit is not None:
            if data[0] == 78 and is_farewell(data):  # a notice; `lost` comes next
                return
            self._unit = None
        self.session.output.write(data)

    def error(self, message: bytes) -> None:
        session = self.session
        again, self._again = self._again, None
        if again is not None:
            if again.wanted(session, message):
                self._again = again
                return
            session.output.write(again.held)
        self._told = is_farewell(message)
        if self._told and (self._may_ask_again() or self._mark is not None or self._rolls_back):
            self._told = False
            return  # `lost` comes next
        self._unit = None
        transaction = session.transaction
        if transaction is not None:
            transaction.failed = True
        if self._mark is not None and self.backend is not None:
            gating.forget_marked(self.backend)
        if self.ending:
            self.ending = False  # COMMIT found something wrong: the transaction is over, and rolled back
        if session.sentence is not None:
            message = error_response(session.judged(parse_error(message)))
        if self.preparing is not None and self.backend is not None:
            self.backend.forget(self.preparing)
        session.output.write(self._shown(message))

    def _shown(self, message: bytes) -> bytes:
        """The error as the client may see it (`shown.py`)."""
        error, plans = parse_error(message), self.session.plans
        if error.position is not None and self.planned is not None and self.route is not None:
            sent = self.parts if self.shard is None else render_parts(self.route, self.shard, self.parts)
            if self.prepared:
                sent = [part if at % 2 == 0 else b"$%d" % (at // 2 + 1) for at, part in enumerate(sent)]
            error.position = moved_back(error.position, sent, self.parts)
        return error_response(as_one_table(error, plans.snapshot, b"".join(self.parts)))

    def ready(self, backend: Backend, status: int) -> None:
        session = self.session
        again = self._again
        if again is not None:
            if again.met:
                again.met, again.held = False, b""
                del session.running[backend.place]  # it does not hear a cancel request now
                session.gateway.spawn(self._repeat(backend, again))
                return
            self._again = None
            session.output.write(again.held)
        self.backend = None
        self.preparing = None
        if session.blocked:  # its reading was paused for this client; the next owner must hear it
            backend.resume_reading()
        session.running.pop(backend.place, None)
        transaction = session.transaction
        if transaction is None:
            session.gateway.pool(backend.place).release(backend)
        elif self.ending is not None:
            self._end(transaction)
        elif status == 69:  # 'E'
            transaction.failed = True
        session.done()

    async def _repeat(self, backend: Backend, again: _Again) -> None:
        """Another transaction was in the way: the same messages to the same backend, where they have left nothing behind."""
        session = self.session
        await asyncio.sleep(again.pause())
        if self.backend is not backend:  # the client has gone meanwhile
            backend.close()
            return
        if backend.closed:
            self.lost(backend)
            return
        try:
            check(session)
        except PgError as error:
            self._again = None
            self.chunk(error_response(error) + _OUTSIDE)
            self.ready(backend, _IDLE)
            return
        session.running[backend.place] = backend
        backend.relay_to(self, swallow=again.swallow, hidden=LAST)
        backend.write(again.message)

    def lost(self, backend: Backend) -> None:
        """The backend died under the statement. What it had answered is already with the client."""
        session = self.session
        self._again = None
        self.backend = None
        session.running.pop(backend.place, None)
        transaction, rolled_back = session.transaction, self._rolls_back
        if transaction is not None and self.ending and self._mark is not None and not session.closed:
            transaction.lost, self.ending, self._mark = self._mark, None, None
            session.start(answer_commit(session, b""))
            return
        if transaction is not None:
            transaction.failed = True
            if self.ending is not None:
                self.ending = False
                self._end(transaction)
        if session.closed:
            return
        if self._may_ask_again():
            self._ask_again()
            return
        if rolled_back:
            session.write(server_messages.command_complete("ROLLBACK"))
        elif not self._told:
            session.write(error_response(lost_connection(backend.place)))
        session.write_ready()
        session.done()

    @property
    def _rolls_back(self) -> bool:  # ROLLBACK was sent, and nothing has come: losing the server process does the same
        return self.ending is False and self._unit is not None

    def _may_ask_again(self) -> bool:
        return self._unit is not None and self.planned is not None and may_read_again(self.session, self.planned)

    def _ask_again(self) -> None:
        """The thorough way, which waits for the group."""
        unit, self._unit = self._unit, None
        assert unit is not None
        framer = Framer()
        framer.feed(unit)
        intake.run(self.session, list(iter(framer.next, None)))

    # --- others ------------------------------------------------------------------------------------------------

    def uses(self, relations: frozenset[tuple[str, str]]) -> bool:
        return self.backend is not None and self.planned is not None and bool(self.planned.relations & relations)

    def abandon(self) -> None:
        """The client is gone while a relay is on: its answer goes nowhere, and nobody is told of its end."""
        if self.backend is not None:
            self.backend.relay_to(_Nowhere())
            self.backend = None


class _Again:
    """A write of its own, which `retrying.py` says more about: sent once more if it fails for another transaction's sake.

    Its answer is held back until then, or until it is too long.
    """

    __slots__ = ("_tries", "held", "message", "met", "swallow")

    def __init__(self, message: bytes, swallow: int) -> None:
        self.message = message
        self.swallow = swallow
        self.held = b""
        self.met = False
        self._tries = 0

    def wanted(self, session: Session, message: bytes) -> bool:
        sqlstate = parse_error(message).sqlstate
        self.met = sqlstate in CONFLICTS and self._tries < CONFLICT_RETRIES_MAX and session.sentence is None
        self._tries += self.met
        return self.met

    def pause(self) -> float:
        return CONFLICT_PAUSE_S * self._tries * random.uniform(0.5, 1.5)


class _Nowhere:
    def chunk(self, data: bytes) -> None:
        return

    def error(self, message: bytes) -> None:
        return

    def ready(self, backend: Backend, status: int) -> None:
        return

    def lost(self, backend: Backend) -> None:
        return


def _opening(backend: Backend, begin: bytes) -> tuple[bytes, int]:
    """BEGIN before a statement of the extended protocol, and how many messages answer it; two where it is prepared already."""
    if begin != b"BEGIN":
        return frontend.parse(b"", begin) + _RUN_UNNAMED, 3
    if backend.knows(_BEGIN_NAME):
        return _RUN_BEGIN, 2
    evicted, closed = backend.remember(_BEGIN_NAME, len(begin))
    parse = close_statement(_BEGIN_NAME) + frontend.parse(_BEGIN_NAME, begin)
    return evicted + parse + _RUN_BEGIN, 4 + closed


def render(route: Route, shard: int, text: bytes, parts: list[bytes]) -> bytes:
    """The text with the partition's name in it, where the plan and the partition allow; else the text."""
    changed = render_parts(route, shard, parts)
    return text if changed is parts else b"".join(changed)


def render_parts(route: Route, shard: int, parts: list[bytes]) -> list[bytes]:
    relation = route.relation
    if relation is None or not route.renames or not relation.shards[shard].nameable:
        return parts
    changed = list(parts)
    for segment, replacement in route.replacements(shard, parts[::2]):
        changed[2 * segment] = replacement
    return changed


_PARSED, _BOUND = server_messages.parse_complete(), server_messages.bind_complete()
_BOUND_NO_DATA = _BOUND + server_messages.no_data()
_BEGUN = server_messages.command_complete("BEGIN") + server_messages.ready_for_query(b"T")
_COMMITTED = server_messages.command_complete("COMMIT") + server_messages.ready_for_query(b"I")
_ROLLED_BACK = server_messages.command_complete("ROLLBACK") + server_messages.ready_for_query(b"I")
_COMMIT_QUERY, _ROLLBACK_QUERY = frontend.query(b"COMMIT"), frontend.query(b"ROLLBACK")
_IDLE = ord("I")
_OUTSIDE = server_messages.ready_for_query(b"I")
_STILL_OPEN = server_messages.ready_for_query(b"E")
_EXECUTE = frontend.execute(b"", 0)
_RUN_UNNAMED = frontend.bind(b"", b"", ()) + _EXECUTE
_BEGIN_NAME = b"hanse_begin"
_RUN_BEGIN = frontend.bind(b"", _BEGIN_NAME, ()) + _EXECUTE
_BEGIN_ANSWER = _BOUND + server_messages.command_complete("BEGIN")
_TAILS = frozenset(
    (
        _EXECUTE + frontend.sync(),
        frontend.describe_portal(b"") + _EXECUTE + frontend.sync(),
    )
)
