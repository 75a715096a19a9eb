# ruff: noqa: E501
"""What a client sends up to Sync, or in one Query message, is one transaction over all groups: message for message as PostgreSQL.

Scripts of raw protocol messages run on both servers; every answer is compared: kinds in their order, tags, SQLSTATEs,
rows, transaction status; then the rows of all tables. Keys 1 to 8 lie in both groups.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from psycopg import pq

from hanse.pgwire import frontend
from support.schemas import on_both
from support.servers import Cluster, Server

DEADLINE_S = 60.0
_DROPPED = frozenset(b"NSAK")  # notices and parameters come when they come


class Raw:
    """A logged-in connection whose bytes are ours."""

    def __init__(self, server: Server, schema: str) -> None:
        dsn = server.dsn_for(options=f"-c search_path={schema}", sslmode="disable")
        self._libpq = pq.PGconn.connect(dsn.encode())  # kept: it owns the socket
        assert self._libpq.status == pq.ConnStatus.OK, self._libpq.get_error_message()
        self._socket = socket.socket(fileno=os.dup(self._libpq.socket))
        self._socket.setblocking(True)

    def close(self) -> None:
        self._socket.close()
        self._libpq.finish()

    def play(self, data: bytes, syncs: int) -> list[tuple[str, object]]:
        """Sends everything, and reads up to so many ReadyForQuery."""
        self._socket.sendall(data)
        found: list[tuple[str, object]] = []
        pending = b""
        deadline = time.monotonic() + DEADLINE_S
        while syncs:
            if not select.select([self._socket], [], [], max(0, deadline - time.monotonic()))[0]:
                return [*found, ("nothing more came", None)]
            received = self._socket.recv(1 << 16)
            if not received:
                return [*found, ("closed", None)]
            pending += received
            while len(pending) >= 5 and len(pending) > (length := struct.unpack_from("!I", pending, 1)[0]):
                kind, body, pending = pending[0], pending[5 : length + 1], pending[length + 1 :]
                if kind not in _DROPPED:
                    found.append((chr(kind), _shown(kind, body)))
                syncs -= kind == ord("Z")
        return found


def _shown(kind: int, body: bytes) -> object:
    if kind == ord("E"):
        fields = {part[:1]: part[1:] for part in body.split(b"\0") if part}
        return fields[b"C"]
    if kind == ord("T"):  # names and types; the tables' oids differ
        count, rest, names = struct.unpack_from("!H", body)[0], body[2:], []
        for _ in range(count):
            name, _, rest = rest.partition(b"\0")
            _, _, oid, size, modifier, form = struct.unpack_from("!IhIhih", rest)
            names.append((name, oid, size, modifier, form))
            rest = rest[18:]
        return names
    return body


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return frontend.parse(name.encode(), sql.encode(), types)


def bind(name: str = "", *values: str, portal: str = "") -> bytes:
    return frontend.bind(portal.encode(), name.encode(), [value.encode() for value in values])


def execute(portal: str = "", rows: int = 0) -> bytes:
    return frontend.execute(portal.encode(), rows)


def describe(portal: str = "") -> bytes:
    return frontend.describe_portal(portal.encode())


def run(sql: str, *values: str) -> bytes:
    return parse(sql) + bind("", *values) + execute()


def query(sql: str) -> bytes:
    return frontend.query(sql.encode())


SYNC = frontend.sync()
FLUSH = b"H\0\0\0\4"


def ins(key: int) -> bytes:
    return run(f"INSERT INTO t VALUES ({key + 100}, {key})")


ALL = b"".join(ins(key) for key in range(1, 9))
FAIL = run("INSERT INTO t VALUES (1, 1)")  # found when it is executed
COUNT = run("SELECT count(*) FROM t WHERE id > 100")
SCRIPTS: dict[str, tuple[bytes, ...]] = {
    "several_groups": (ALL + SYNC, COUNT + SYNC),
    "fails_in_the_middle": (ALL + FAIL + ins(20) + SYNC, COUNT + SYNC),
    "fails_at_first": (FAIL + ALL + SYNC, COUNT + SYNC),
    "fails_at_last": (ALL + FAIL + SYNC, COUNT + SYNC),
    "duplicate_in_the_middle": (ins(1) + ins(2) + run("INSERT INTO t VALUES (1, 1)") + ins(3) + SYNC, COUNT + SYNC),
    "error_in_parse": (ins(1) + parse("SELEC") + ins(2) + SYNC, COUNT + SYNC),
    "error_in_bind": (ins(1) + parse("SELECT $1::int") + bind("", "1", "2") + execute() + SYNC, COUNT + SYNC),
    "error_in_value": (ins(1) + ins(2) + run("INSERT INTO t VALUES ($1, 1)", "x") + SYNC, COUNT + SYNC),
    "unknown_statement": (ins(1) + bind("nobody") + execute() + ins(2) + SYNC, COUNT + SYNC),
    "unknown_portal": (ins(1) + ins(2) + execute("nobody") + SYNC, COUNT + SYNC),
    "describe_unknown": (ins(1) + describe("nobody") + ins(2) + SYNC, COUNT + SYNC),
    "two_transactions": (ins(1) + ins(2) + SYNC + ins(3) + FAIL + SYNC + ins(4) + ins(5) + SYNC, COUNT + SYNC),
    "sync_only": (SYNC + SYNC, COUNT + SYNC),
    "flush_between": (ins(1) + FLUSH + ins(2) + FLUSH + ins(3) + SYNC, COUNT + SYNC),
    "flush_then_error": (ins(1) + FLUSH + ins(2) + FLUSH + FAIL + FLUSH + ins(3) + SYNC, COUNT + SYNC),
    "flush_at_end": (ins(1) + ins(2) + FLUSH + SYNC, COUNT + SYNC),
    "flush_alone": (parse("INSERT INTO t VALUES (101, 1)") + FLUSH + bind() + FLUSH + execute() + FLUSH + SYNC, COUNT + SYNC),
    "reads_own_writes": (ins(1) + ins(2) + COUNT + ins(3) + COUNT + SYNC, COUNT + SYNC),
    "begin_in_front": (run("BEGIN") + ins(1) + ins(2) + SYNC, COUNT + SYNC, run("ROLLBACK") + SYNC, COUNT + SYNC),
    "begin_in_the_middle": (ins(1) + run("BEGIN") + ins(2) + SYNC, COUNT + SYNC, run("ROLLBACK") + SYNC, COUNT + SYNC),
    "begin_in_the_middle_kept": (ins(1) + run("BEGIN") + ins(2) + SYNC, run("COMMIT") + SYNC, COUNT + SYNC),
    "begin_isolation_late": (ins(1) + run("BEGIN ISOLATION LEVEL SERIALIZABLE") + ins(2) + SYNC, run("ROLLBACK") + SYNC, COUNT + SYNC),
    "commit_in_the_middle": (ins(1) + ins(2) + run("COMMIT") + ins(3) + FAIL + SYNC, COUNT + SYNC),
    "rollback_in_the_middle": (ins(1) + ins(2) + run("ROLLBACK") + ins(3) + SYNC, COUNT + SYNC),
    "whole_transaction": (run("BEGIN") + ins(1) + ins(2) + run("COMMIT") + SYNC, COUNT + SYNC),
    "whole_then_error": (run("BEGIN") + ins(1) + ins(2) + run("COMMIT") + ins(3) + ins(4) + FAIL + SYNC, COUNT + SYNC),
    "error_then_commit": (run("BEGIN") + ins(1) + FAIL + run("COMMIT") + ins(2) + SYNC, run("COMMIT") + SYNC, COUNT + SYNC),
    "failed_block": (run("BEGIN") + ins(1) + FAIL + SYNC, ins(2) + SYNC, run("ROLLBACK") + SYNC, COUNT + SYNC),
    "savepoints": (run("BEGIN") + ins(1) + run("SAVEPOINT a") + ins(2) + ins(3) + run("ROLLBACK TO a") + ins(4) + run("COMMIT") + SYNC, COUNT + SYNC),
    "savepoint_without_begin": (ins(1) + run("SAVEPOINT a") + ins(2) + SYNC, COUNT + SYNC),
    "prepare_with_begin": (
        run("BEGIN") + ins(1) + ins(2) + ins(3) + run("PREPARE TRANSACTION 'g{n}'") + SYNC,
        COUNT + SYNC,
        run("COMMIT PREPARED 'g{n}'") + SYNC,
        COUNT + SYNC,
    ),
    "prepare_and_roll_back": (
        run("BEGIN") + ins(1) + ins(2) + ins(3) + run("PREPARE TRANSACTION 'g{n}'") + SYNC,
        run("ROLLBACK PREPARED 'g{n}'") + SYNC,
        run("ROLLBACK PREPARED 'g{n}'") + SYNC,
        COUNT + SYNC,
    ),
    "prepare_failed": (run("BEGIN") + ins(1) + FAIL + SYNC, run("PREPARE TRANSACTION 'g{n}'") + SYNC, COUNT + SYNC),
    "commit_prepared_in_pipeline": (ins(1) + run("COMMIT PREPARED 'nobody'") + SYNC, COUNT + SYNC),
    "deferred": (run("INSERT INTO child VALUES (1, 999)") + ins(1) + ins(2) + SYNC, COUNT + SYNC, run("SELECT count(*) FROM child") + SYNC),
    "all_at_once": (run("UPDATE t SET v = v + 1") + run("DELETE FROM t WHERE id < 3") + FAIL + SYNC, run("SELECT sum(v), count(*) FROM t") + SYNC),
    "ddl_in_pipeline": (run("CREATE TABLE made{n} (x int)") + ins(1) + FAIL + SYNC, run("SELECT * FROM made{n}") + SYNC, COUNT + SYNC),
    "ddl_kept": (run("CREATE TABLE made{n} (x int)") + run("INSERT INTO made{n} VALUES (1)") + ins(1) + SYNC, run("SELECT * FROM made{n}") + SYNC),
    "vacuum_alone": (run("VACUUM t") + SYNC,),
    "set_in_pipeline": (run("SET work_mem = '5MB'") + FAIL + SYNC, run("SHOW work_mem") + SYNC),
    "set_local_in_pipeline": (run("SET LOCAL work_mem = '5MB'") + run("SHOW work_mem") + SYNC, run("SHOW work_mem") + SYNC),
    "named": (parse("INSERT INTO t VALUES ($1, $2)", "i", (23, 23)) + SYNC,)
    + (b"".join(bind("i", str(100 + k), "1") + execute() for k in range(1, 9)) + bind("i", "101", "1") + execute() + SYNC, COUNT + SYNC)
    + (b"".join(bind("i", str(100 + k), "1") + execute() for k in range(1, 9)) + SYNC, COUNT + SYNC, run("DEALLOCATE i") + SYNC),
    "portals": (
        parse("SELECT id FROM t ORDER BY id") + bind(portal="p") + describe("p") + execute("p", 2) + execute("p", 3) + FLUSH + execute("p", 0) + SYNC,
        execute("p", 1) + SYNC,
    ),
    "portal_in_transaction": (
        query("BEGIN") + parse("SELECT id FROM t ORDER BY id", "s") + bind("s", portal="p") + execute("p", 2) + SYNC,
        execute("p", 2) + SYNC + query("FETCH 2 FROM p") + execute("p", 0) + SYNC,
        query("COMMIT") + execute("p", 1) + SYNC + query("DEALLOCATE s"),
    ),
    "portal_twice": (parse("SELECT 1") + bind(portal="p") + bind(portal="p") + SYNC, parse("SELECT 1") + bind() + execute() + execute() + SYNC),
    "write_portal_twice": (parse("INSERT INTO t VALUES (101, 1)") + bind() + execute() + execute() + SYNC, COUNT + SYNC),
    "statement_name_twice": (parse("SELECT 1", "s") + parse("SELECT 2", "s") + SYNC, bind("s") + execute() + SYNC, query("DEALLOCATE ALL")),
    "empty": (run("") + SYNC, run(";") + ins(1) + SYNC, COUNT + SYNC),
    "two_statements_in_parse": (run("SELECT 1; SELECT 2") + SYNC, ins(1) + SYNC),
    "query_closes_pipeline": (ins(1) + ins(2) + query("SELECT 1"), SYNC + COUNT + SYNC),
    "query_after_error": (FAIL + SYNC + query("SELECT 1"), COUNT + SYNC),
    "returning": (run("INSERT INTO t SELECT g + 200, g FROM generate_series(1, 3) g RETURNING v") + FAIL + SYNC, run("SELECT count(*) FROM t") + SYNC),
    # --- Query messages of several statements
    "message": (query("INSERT INTO t VALUES (101, 1); INSERT INTO t VALUES (102, 2); INSERT INTO t VALUES (103, 3)"), COUNT + SYNC),
    "message_fails": (query("INSERT INTO t VALUES (101, 1); INSERT INTO t VALUES (102, 2); SELECT 1 / 0; SELECT 2"), COUNT + SYNC),
    "message_begin_inside": (query("INSERT INTO t VALUES (101, 1); BEGIN; INSERT INTO t VALUES (102, 2)"), COUNT + SYNC, query("ROLLBACK"), COUNT + SYNC),
    "message_commit_inside": (query("INSERT INTO t VALUES (101, 1); COMMIT; INSERT INTO t VALUES (102, 2); SELECT 1 / 0"), COUNT + SYNC),
    "message_begin_commit": (query("BEGIN; INSERT INTO t VALUES (101, 1); INSERT INTO t VALUES (102, 2); COMMIT; INSERT INTO t VALUES (103, 1); SELECT 1/0"), COUNT + SYNC),
    "message_rollback_inside": (query("INSERT INTO t VALUES (101, 1); ROLLBACK; INSERT INTO t VALUES (102, 2)"), COUNT + SYNC),
    "message_error_in_block": (query("BEGIN; INSERT INTO t VALUES (101, 1); SELECT 1 / 0; COMMIT"), query("SELECT 1"), query("COMMIT"), COUNT + SYNC),
    "message_syntax_error_late": (query("INSERT INTO t VALUES (101, 1); SELEC"), COUNT + SYNC),
    "message_prepare": (query("INSERT INTO t VALUES (101, 1); INSERT INTO t VALUES (102, 1); PREPARE TRANSACTION 'g{n}'"), COUNT + SYNC, query("COMMIT PREPARED 'g{n}'"), COUNT + SYNC),
    "message_vacuum": (query("SELECT 1; VACUUM t"), query("VACUUM t; SELECT 1")),
    "message_deferred": (
        query("INSERT INTO t VALUES (101, 1); INSERT INTO child VALUES (1, 999)"),
        query("INSERT INTO child VALUES (1, 999); INSERT INTO t VALUES (101, 1), (102, 1); SELECT 1"),
        COUNT + SYNC,
    ),
    "message_savepoint": (query("INSERT INTO t VALUES (101, 1); SAVEPOINT a"), query("BEGIN; SAVEPOINT a; INSERT INTO t VALUES (101, 1); ROLLBACK TO a; COMMIT"), COUNT + SYNC),
    "message_chain": (query("BEGIN; INSERT INTO t VALUES (101, 1); COMMIT AND CHAIN; INSERT INTO t VALUES (102, 1)"), query("ROLLBACK"), COUNT + SYNC),
    "message_set": (query("SET work_mem = '5MB'; SELECT 1 / 0"), query("SHOW work_mem"), query("SET LOCAL work_mem = '6MB'; SHOW work_mem"), query("SHOW work_mem")),
    "message_in_failed": (query("BEGIN; SELECT 1 / 0"), query("SELECT 1; SELECT 2"), query("ROLLBACK; SELECT 3"), COUNT + SYNC),
    "message_transaction_started": (query("SELECT 1; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), query("BEGIN; SET TRANSACTION READ ONLY; INSERT INTO t VALUES (101, 1)"), query("END")),
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(plain_postgres: Server, cluster: Cluster) -> Iterator[list[Raw]]:
    setup = (
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (id int, p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO t SELECT g, g FROM generate_series(1, 8) g",
    )
    with on_both(plain_postgres, cluster, "pipes", setup) as schema:
        found = [Raw(server, schema) for server in (plain_postgres, cluster.server)]
        yield found
        for raw in found:
            raw.close()


_RESTORE = query("DELETE FROM t; DELETE FROM child; INSERT INTO t SELECT g, g FROM generate_series(1, 8) g")


def _readies(part: bytes) -> int:
    """How many messages of a part are answered by ReadyForQuery."""
    count, position = 0, 0
    while position < len(part):
        count += part[position] in b"SQ"
        position += 1 + struct.unpack_from("!I", part, position + 1)[0]
    return count


def _normal(answers: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """Without a BindComplete before an error: PostgreSQL reads parameters at Bind, a gateway when it knows the place."""
    following = [*answers[1:], ("", None)]
    return [answer for answer, after in zip(answers, following, strict=True) if (answer[0], after[0]) != ("2", "E")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_postgres(pairs: list[Raw], name: str) -> None:
    number = b"%03d" % list(SCRIPTS).index(name)  # as long as its place in the scripts
    answers = []
    for raw in pairs:
        script = [part.replace(b"{n}", number) for part in SCRIPTS[name]]
        answers.append([_normal(raw.play(part, _readies(part))) for part in script])
        raw.play(query("ROLLBACK"), 1)
        raw.play(query("RESET ALL"), 1)
        restored = raw.play(_RESTORE, 1)
        assert restored[-1] == ("Z", b"I"), restored
    for number_of, (expected, got) in enumerate(zip(*answers, strict=True), start=1):
        assert expected == got, f"part {number_of}\nplain {expected}\nhanse {got}"


def test_prepare_without_begin_prepares_nothing(pairs: list[Raw]) -> None:
    """PostgreSQL says ROLLBACK here and commits (findings-gateway 7); we say what is wrong, and undo all of the pipeline."""
    raw = pairs[1]
    answers = raw.play(ins(1) + ins(2) + ins(3) + run("PREPARE TRANSACTION 'never'") + SYNC, 1)
    assert [answer for answer in answers if answer[0] in "EZ"] == [("E", b"25P01"), ("Z", b"I")]
    assert ("D", b"\0\1\0\0\0\1" + b"0") in raw.play(COUNT + SYNC, 1)
    assert ("D", b"\0\1\0\0\0\1" + b"0") in raw.play(
        query("SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'never'"), 1
    )


def test_a_long_pipeline_is_one_transaction(pairs: list[Raw]) -> None:
    """It is run while it comes, and still undone as a whole."""
    plain, hanse = (raw.play(b"".join(ins(key) for key in range(1, 450)) + FAIL + SYNC, 1)[-2:] for raw in pairs)
    assert plain == hanse == [("E", b"23505"), ("Z", b"I")]
    assert ("D", b"\0\1\0\0\0\1" + b"0") in pairs[1].play(COUNT + SYNC, 1)
