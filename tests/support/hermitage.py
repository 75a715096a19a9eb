"""The cases of Hermitage (Kleppmann, github.com/ept/hermitage): schedules that tell isolation levels apart, and who runs them.

A case is a script: each line a session's number, perhaps a name for what the statement gives, and the statement. A session begins
with its first line, at the level that is tried. A line that waits for a lock lets the script go on; the session's later
lines wait behind it. `happened` then says whether the anomaly is in what was seen.

Table `test` has the rows (1, 10) and (11, 20). Which groups they lie in is the matter of the table, not of the script.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
ROWS = "INSERT INTO test VALUES (1, 10), (11, 20)"
STEP_S_MAX = 60.0
WAITING = """
    SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND locktype IN ('transactionid', 'tuple')
"""

Found = list[tuple[Any, ...]] | int  # rows, or how many were changed


@dataclass
class Seen:
    """What a script saw."""

    found: dict[str, Found] = field(default_factory=dict)  # by the line's name; not there if the line failed
    errors: list[str] = field(default_factory=list)  # SQLSTATEs, in the order of the script, the first of each session
    waited: bool = False
    committed: set[int] = field(default_factory=set)
    final: dict[int, int] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """Of a line that gives one row, or none."""
        rows = self.found.get(name)
        return rows[0][0] if isinstance(rows, list) and rows else None

    def values(self, name: str) -> list[Any]:
        rows = self.found.get(name)
        return [row[0] for row in rows] if isinstance(rows, list) else []


@dataclass(frozen=True, slots=True)
class Case:
    code: str
    title: str
    script: str
    happened: Callable[[Seen], bool]
    halves: bool = False  # session 0 is a transaction over two groups between its commits: no other server has that

    def lines(self) -> list[tuple[int, str, str]]:
        """(session, name, statement)"""
        found = re.findall(r"^\s*(\d) (?:(\w+): )?(.+?)\s*$", self.script, re.MULTILINE)
        return [(int(session), name, sql) for session, name, sql in found]


def outcome(case: Case, seen: Seen) -> str:
    """As the table shows it."""
    if case.happened(seen):
        return "**possible**"
    means = ["waits"] * seen.waited + [f"error {state}" for state in dict.fromkeys(seen.errors)]
    return f"prevented: {', then '.join(means)}" if means else "prevented"


CASES = (
    Case(
        "G0",
        "two transactions overwrite each other's writes, each in one row",
        """
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 12 WHERE id = 1
        1 UPDATE test SET value = 21 WHERE id = 11
        1 COMMIT
        2 UPDATE test SET value = 22 WHERE id = 11
        2 COMMIT
        """,
        lambda seen: (seen.final[1], seen.final[11]) not in ((11, 21), (12, 22)),
    ),
    Case(
        "G1a",
        "what is rolled back later is read",
        """
        1 UPDATE test SET value = 101 WHERE id = 1
        2 before: SELECT value FROM test
        1 ROLLBACK
        2 after: SELECT value FROM test
        2 COMMIT
        """,
        lambda seen: 101 in seen.values("before") + seen.values("after"),
    ),
    Case(
        "G1b",
        "what its writer replaces is read",
        """
        1 UPDATE test SET value = 101 WHERE id = 1
        2 before: SELECT value FROM test
        1 UPDATE test SET value = 11 WHERE id = 1
        1 COMMIT
        2 after: SELECT value FROM test
        2 COMMIT
        """,
        lambda seen: 101 in seen.values("before") + seen.values("after"),
    ),
    Case(
        "G1c",
        "each of two transactions reads what the other writes",
        """
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 22 WHERE id = 11
        1 one: SELECT value FROM test WHERE id = 11
        2 two: SELECT value FROM test WHERE id = 1
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.value("one") == 22 and seen.value("two") == 11,
    ),
    Case(
        "OTV",
        "a transaction was seen, then no longer",
        """
        1 UPDATE test SET value = 11 WHERE id = 1
        1 UPDATE test SET value = 19 WHERE id = 11
        2 UPDATE test SET value = 12 WHERE id = 1
        1 COMMIT
        3 first: SELECT value FROM test WHERE id = 1
        2 UPDATE test SET value = 18 WHERE id = 11
        3 second: SELECT value FROM test WHERE id = 11
        2 COMMIT
        3 third: SELECT value FROM test WHERE id = 11
        3 fourth: SELECT value FROM test WHERE id = 1
        3 COMMIT
        """,
        lambda seen: (
            (seen.value("first") == 11 and seen.value("second") == 20)
            or (seen.value("third") == 18 and seen.value("fourth") != 12)
        ),
    ),
    Case(
        "PMP",
        "a condition read twice finds rows that came in between",
        """
        1 before: SELECT id FROM test WHERE value = 30
        2 INSERT INTO test VALUES (2, 30), (12, 30)
        2 COMMIT
        1 after: SELECT id FROM test WHERE value % 3 = 0
        1 COMMIT
        """,
        lambda seen: seen.values("after") != [],
    ),
    Case(
        "PMP-write",
        "a DELETE leaves a row that fits its condition before and after",
        """
        1 UPDATE test SET value = value + 10
        2 DELETE FROM test WHERE value = 20
        1 COMMIT
        2 left: SELECT value FROM test WHERE value = 20
        2 COMMIT
        """,
        lambda seen: seen.values("left") == [20] and 2 in seen.committed,
    ),
    Case(
        "P4",
        "lost update: both read, then both write",
        """
        1 SELECT value FROM test WHERE id = 1
        2 SELECT value FROM test WHERE id = 1
        1 UPDATE test SET value = 11 WHERE id = 1
        1 UPDATE test SET value = 21 WHERE id = 11
        2 UPDATE test SET value = 12 WHERE id = 1
        1 COMMIT
        2 UPDATE test SET value = 22 WHERE id = 11
        2 COMMIT
        """,
        lambda seen: seen.committed == {1, 2},
    ),
    Case(
        "G-single",
        "read skew: one row from before a transaction, the other from after it",
        """
        1 first: SELECT value FROM test WHERE id = 1
        2 SELECT value FROM test WHERE id = 1
        2 SELECT value FROM test WHERE id = 11
        2 UPDATE test SET value = 12 WHERE id = 1
        2 UPDATE test SET value = 18 WHERE id = 11
        2 COMMIT
        1 second: SELECT value FROM test WHERE id = 11
        1 COMMIT
        """,
        lambda seen: (seen.value("first"), seen.value("second")) == (10, 18),
    ),
    Case(
        "G-single, conditions",
        "the same, seen by two conditions over all rows",
        """
        1 first: SELECT id FROM test WHERE value % 5 = 0
        2 UPDATE test SET value = 12 WHERE value = 10
        2 COMMIT
        1 second: SELECT id FROM test WHERE value % 3 = 0
        1 COMMIT
        """,
        lambda seen: len(seen.values("first")) == 2 and seen.values("second") == [1],
    ),
    Case(
        "G-single, writes",
        "the same, the second time seen by a DELETE",
        """
        1 first: SELECT value FROM test WHERE id = 1
        2 SELECT * FROM test
        2 UPDATE test SET value = 12 WHERE id = 1
        2 UPDATE test SET value = 18 WHERE id = 11
        2 COMMIT
        1 second: DELETE FROM test WHERE value = 20
        1 COMMIT
        """,
        lambda seen: seen.value("first") == 10 and seen.found.get("second") == 0 and 1 in seen.committed,
    ),
    Case(
        "G2-item",
        "write skew: both read both rows, each writes another",
        """
        1 SELECT value FROM test WHERE id IN (1, 11)
        2 SELECT value FROM test WHERE id IN (1, 11)
        1 UPDATE test SET value = 11 WHERE id = 1
        2 UPDATE test SET value = 21 WHERE id = 11
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.committed == {1, 2},
    ),
    Case(
        "G2-item, crosswise",
        "write skew: each reads the one row that the other writes",
        """
        1 SELECT value FROM test WHERE id = 1
        2 SELECT value FROM test WHERE id = 11
        1 UPDATE test SET value = 21 WHERE id = 11
        2 UPDATE test SET value = 11 WHERE id = 1
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.committed == {1, 2},
    ),
    Case(
        "G2",
        "write skew over a condition: both find nothing, both insert",
        """
        1 SELECT value FROM test WHERE value % 3 = 0
        2 SELECT value FROM test WHERE value % 3 = 0
        1 INSERT INTO test VALUES (2, 30)
        2 INSERT INTO test VALUES (12, 42)
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.committed == {1, 2},
    ),
    Case(
        "G2, keys",
        "the same, by keys that are not there yet",
        """
        1 SELECT value FROM test WHERE id = 2
        2 SELECT value FROM test WHERE id = 12
        1 INSERT INTO test VALUES (12, 30)
        2 INSERT INTO test VALUES (2, 42)
        1 COMMIT
        2 COMMIT
        """,
        lambda seen: seen.committed == {1, 2},
    ),
    Case(
        "G2, two edges",
        "a reader in between proves an order that the others contradict",
        """
        1 first: SELECT value FROM test ORDER BY id
        2 UPDATE test SET value = value + 5 WHERE id = 11
        2 COMMIT
        3 third: SELECT value FROM test ORDER BY id
        3 COMMIT
        1 UPDATE test SET value = 0 WHERE id = 1
        1 COMMIT
        """,
        lambda seen: seen.values("first") == [10, 20] and seen.values("third") == [10, 25] and 1 in seen.committed,
    ),
    Case(
        "half, one statement",
        "one statement reads both rows while a transaction is between its two commits",
        """
        0 HALF
        1 both: SELECT value FROM test ORDER BY id
        0 REST
        1 COMMIT
        """,
        lambda seen: seen.values("both") == [10, 21],
        halves=True,
    ),
    Case(
        "half, own writes",
        "the same, after a write of its own",
        """
        1 INSERT INTO test VALUES (15, 1)
        0 HALF
        1 both: SELECT value FROM test WHERE id IN (1, 11) ORDER BY id
        0 REST
        1 COMMIT
        """,
        lambda seen: seen.values("both") == [10, 21],
        halves=True,
    ),
    Case(
        "half, two statements",
        "one statement reads the row that is committed, the next one the row that is not yet",
        """
        0 HALF
        1 first: SELECT value FROM test WHERE id = 11
        1 second: SELECT value FROM test WHERE id = 1
        0 REST
        1 COMMIT
        """,
        lambda seen: (seen.value("first"), seen.value("second")) == (21, 10),
        halves=True,
    ),
)


class Stage:
    """Three sessions of one server, and a look at who waits."""

    def __init__(
        self, dsn: str, watch: Sequence[str], *, name: str, halves: Mapping[str, Callable[[], None]] | None = None
    ) -> None:
        """`watch`: how to reach the servers with the rows. `halves`: what session 0's lines do."""
        self.halves = halves or {}
        self.stack = ExitStack()
        self.names = [f"{name} {number}" for number in range(4)]
        connect = [psycopg.connect(dsn, autocommit=True, application_name=each) for each in self.names]
        self.connections = [self.stack.enter_context(connection) for connection in connect]
        self.watchers = [self.stack.enter_context(psycopg.connect(each, autocommit=True)) for each in watch]
        self.pools = [self.stack.enter_context(ThreadPoolExecutor(1)) for _ in self.names]

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def play(self, case: Case, level: str) -> Seen:
        """Runs the script on fresh rows; every session has ended afterwards."""
        self.connections[0].execute("DELETE FROM test")
        self.connections[0].execute(ROWS)
        seen, failed = Seen(), set[int]()
        pending: dict[int, Future[None]] = {}
        begun: set[int] = set()
        for session, name, sql in case.lines():
            if session == 0:
                self.halves[sql]()
            else:
                if session not in begun:
                    begun.add(session)
                    self.connections[session].execute(f"BEGIN ISOLATION LEVEL {level}")  # type: ignore[call-overload]
                pending[session] = self.pools[session].submit(self._run, seen, failed, session, name, sql)
            if case.halves and seen.waited and sql != "REST":
                continue  # it stands at the gate, and its later lines behind it
            waiting = self._settle(pending, by_gate=case.halves)
            seen.waited = seen.waited or waiting
        for future in pending.values():
            future.result(STEP_S_MAX)
        seen.final = dict(self.connections[0].execute("SELECT id, value FROM test").fetchall())
        return seen

    def _run(self, seen: Seen, failed: set[int], session: int, name: str, sql: str) -> None:
        connection = self.connections[session]
        try:
            if session in failed and sql == "COMMIT":
                sql = "ROLLBACK"
            cursor = connection.execute(sql)  # type: ignore[call-overload]
        except psycopg.Error as error:
            if session not in failed:
                failed.add(session)
                seen.errors.append(error.sqlstate or "")
            return
        if sql == "COMMIT" and cursor.statusmessage == "COMMIT":
            seen.committed.add(session)
        if name:
            seen.found[name] = cursor.fetchall() if cursor.description else cursor.rowcount

    def _settle(self, pending: dict[int, Future[None]], *, by_gate: bool) -> bool:
        """Until each line has been answered or waits for another transaction; whether any waits.

        What waits for a gate (`by_gate`) waits in a session of the gateway's own: it is known by how long it takes.
        """
        deadline = time.monotonic() + (GATE_S if by_gate else STEP_S_MAX)
        while True:
            open_ = {session for session, future in pending.items() if not future.done()}
            if not open_:
                return False
            waiting = {name for each in self.watchers for (name,) in each.execute(WAITING).fetchall()}
            if all(self.names[session] in waiting for session in open_):
                return True
            if time.monotonic() > deadline:
                assert by_gate, f"sessions {open_} neither answer nor wait"
                return True
            time.sleep(POLL_S)


POLL_S = 0.003
GATE_S = 2.0  # nothing else than the gate takes so long
