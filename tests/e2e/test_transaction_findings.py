"""What breaks distributed transactions on PostgreSQL, case by case, and what proves here that it does not.

==== ============================================================ =============================================================
case what goes wrong                                              proof
==== ============================================================ =============================================================
A1   readers of a subset of groups tear, or wait in a circle      `unit/transactions/test_snapshot_simulation.py` (three groups,
                                                                  random subsets); `e2e/test_isolation_bank.py`
A2   FOR SHARE alone does not make SERIALIZABLE                   `e2e/test_serializable.py`: absent keys (a), sums (b), circles
                                                                  through transactions of one group (c, d); e: D21 below
A3   Bind fixes a SELECT's snapshot only                          `e2e/test_snapshots.py`: a write reads at one moment
A4   deferred constraints at COMMIT wait while a gate is held     `test_constraints_wait_without_the_gate`
A5   a stuck gate stops healthy groups                            `e2e/test_snapshots.py`: a reader waits and nobody else
A6   Parse and Bind wait for a schema change under the gate       `test_a_locked_table_is_waited_for_without_the_gate`
A7   DEFERRABLE waits for a safe snapshot under the gate          `test_nobody_waits_for_a_safe_snapshot`;
                                                                  `integration/test_default_modes.py`
A8   in doubt before serving is circular between leaders          recovery runs beside everything else: `e2e/test_recovery.py`
                                                                  (rows are free, a snapshot waits for the other half)
B9   a decision is read before it is durable                      `agent/recovery.py` reads it with a record in the WAL; a group
                                                                  of one server has made it durable when it can be read
B10  a cancel while a commit waits for standbys is silent         groups of one server do not wait; what stops a commit
                                                                  afterwards is refused: `unit/gateway/test_cancelling.py`
B11  a server restarts by itself as primary                       groups of one server are to: `e2e/test_kill_rounds.py`
B12  participants of different durability                         all groups have one; 42704 is told, not counted as done
B13  a record goes too early                                      `unit/transactions/test_commit_simulation.py`: each part of the
                                                                  rule is needed; `e2e/test_recovery.py`
B14  gids are public                                              `integration/test_rights_everywhere.py`;
                                                                  `e2e/test_recovery.py`: users do not end what is the cluster's
D21  share locks as the user change what he may and sees          `test_a_user_who_may_only_read_takes_part`
D22  the gate's privileges                                        `test_users_only_take_the_gate_as_writers`
D23  a gate before each COMMIT breaks CALL, DO and VACUUM         `e2e/test_session_leaks.py`, `integration/test_maintenance.py`
D24  REPEATABLE READ may touch any group                          `e2e/test_snapshots.py`: the snapshot is of the first statement
D25  gates cannot be taken on standbys                            nothing is read from standbys
D26  gates over long distances                                    `hanse.read_consistency`: `e2e/test_snapshots.py`
==== ============================================================ =============================================================
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import errors

from support.processes import wait_until
from support.schemas import Schema
from support.servers import PASSWORD, Cluster

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 AND query LIKE %s"
SUM = "SELECT sum(v) FROM t"


@pytest.fixture
def pair(cluster_schema: Schema) -> Schema:
    """Tables t and u: keys 0 to 9 in g1, 10 to 19 in g2."""
    with cluster_schema.connect() as connection:
        for table in ("t", "u"):
            connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v int NOT NULL) PARTITION BY RANGE (id)")
            for group, low in (("g1", 0), ("g2", 10)):
                bounds = f"FROM ({low}) TO ({low + 10})"
                connection.execute(
                    f"CREATE TABLE {table}_{group} PARTITION OF {table} FOR VALUES {bounds} TABLESPACE {group}"
                )
            connection.execute(f"INSERT INTO {table} SELECT i, 1 FROM generate_series(0, 19) i")
    return cluster_schema


@pytest.fixture
def role(pair: Schema) -> Iterator[str]:
    """May read t, of which policies let him change one row, and may do everything with u."""
    name = f"role_{uuid.uuid4().hex[:10]}"
    with pair.connect() as connection:
        for statement in (
            f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'",
            f"GRANT USAGE ON SCHEMA {pair.name} TO {name}",
            f"GRANT SELECT ON t TO {name}",
            f"GRANT ALL ON u TO {name}",
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY seen ON t FOR SELECT TO {name} USING (id % 2 = 0)",
            f"CREATE POLICY changed ON t FOR UPDATE TO {name} USING (id = 0)",
        ):
            connection.execute(statement)  # type: ignore[call-overload]
        yield name
        connection.execute("DROP TABLE t, u")
        connection.execute(f"REVOKE ALL ON SCHEMA {pair.name} FROM {name}")
        connection.execute(f"DROP ROLE {name}")


def is_blocked(cluster: Cluster, schema: Schema, what: str, waiting: Future[Any]) -> None:
    """Until a server has something like `what` waiting for a lock."""

    def blocked() -> bool:
        assert not waiting.done(), waiting.result()
        for dsn in cluster.group_dsns().values():
            with psycopg.connect(dsn, autocommit=True) as group:
                if group.execute(BLOCKED, (what,)).fetchone() != (0,):
                    return True
        return False

    wait_until(f"{what} waits", blocked, timeout_s=30)


def both_are_free(connection: psycopg.Connection) -> None:
    """A commit over both groups and a snapshot of both need not wait for anybody."""
    connection.execute("SET statement_timeout = '30s'")
    connection.execute("UPDATE u SET v = v + 1 WHERE id IN (5, 15)")
    assert connection.execute("SELECT sum(v) FROM u").fetchone() == (22,)


@pytest.fixture
def child(pair: Schema) -> Schema:
    with pair.connect() as admin:
        admin.execute(
            "CREATE TABLE child (id int PRIMARY KEY REFERENCES t DEFERRABLE INITIALLY DEFERRED) PARTITION BY RANGE (id)"
        )
        for group, low in (("g1", 0), ("g2", 10)):
            admin.execute(
                f"CREATE TABLE child_{group} PARTITION OF child FOR VALUES FROM ({low}) TO ({low + 10}) TABLESPACE {group}"
            )
    return pair


@pytest.mark.parametrize("rows", ["(2), (12)", "(12)"], ids=["two groups", "one group"])
@pytest.mark.parametrize("begin", ["BEGIN", ""], ids=["transaction", "statement"])
def test_constraints_wait_without_the_gate(cluster: Cluster, child: Schema, begin: str, rows: str) -> None:
    """A4: the writer's COMMIT waits for a row that somebody has locked, who then waits for a snapshot of both groups."""
    with child.connect() as admin, child.connect() as writer, child.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("BEGIN")
        holder.execute("SELECT v FROM t WHERE id = 12 FOR UPDATE")
        last = insert = f"INSERT INTO child VALUES {rows}"
        if begin:
            writer.execute("BEGIN")
            writer.execute(insert)  # type: ignore[call-overload]
            last = "COMMIT"
        waiting = pool.submit(writer.execute, last)
        is_blocked(cluster, child, "SET CONSTRAINTS%", waiting)
        both_are_free(admin)
        assert holder.execute(SUM).fetchone() == (20,)
        holder.execute("COMMIT")
        assert waiting.result(60).statusmessage in ("COMMIT", "INSERT 0 1", "INSERT 0 2")
        assert admin.execute("SELECT count(*) FROM child").fetchone() == (len(rows.split(",")),)


@pytest.mark.parametrize("prepare", [False, True])
def test_a_row_is_waited_for_without_the_gate(cluster: Cluster, pair: Schema, role: str, prepare: bool) -> None:
    """In a group where the role has no backend yet, so that the gate's own statement is prepared with the first one."""
    with pair.connect() as admin, pair.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("BEGIN")
        holder.execute("UPDATE u SET v = v WHERE id = 12")
        with pair.connect(user=role, password=PASSWORD) as writer:
            waiting = pool.submit(writer.execute, "UPDATE u SET v = v + %s WHERE id = 12", (1,), prepare=prepare)
            is_blocked(cluster, pair, "%UPDATE%", waiting)
            admin.execute("SET statement_timeout = '15s'")
            assert admin.execute("SELECT sum(v) FROM u").fetchone() == (20,)
            assert holder.execute("SELECT sum(v) FROM u").fetchone() == (20,)
            holder.execute("COMMIT")
            assert waiting.result(60).rowcount == 1
            writer.execute("UPDATE u SET v = v + %s WHERE id = 12", (1,), prepare=prepare)
        assert admin.execute("SELECT sum(v) FROM u").fetchone() == (22,)


@pytest.mark.parametrize("begin", ["", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"])
def test_a_locked_table_is_waited_for_without_the_gate(cluster: Cluster, pair: Schema, begin: str) -> None:
    """A6: who has locked the table commits in both groups, which needs their gates."""
    with pair.connect() as reader, pair.connect() as changer, pair.connect() as other, ThreadPoolExecutor(1) as pool:
        changer.execute("BEGIN")
        changer.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        changer.execute("UPDATE t SET v = 2")
        if begin:
            reader.execute(begin)  # type: ignore[call-overload]
        waiting = pool.submit(reader.execute, SUM)
        is_blocked(cluster, pair, "%sum%", waiting)
        both_are_free(other)
        changer.execute("COMMIT")
        assert waiting.result(60).fetchone() in ([(40,)] if begin == "BEGIN" else [(20,), (40,)])


def test_nobody_waits_for_a_safe_snapshot(pair: Schema) -> None:
    """A7: it would come when the writer has ended, whose commit needs the gates."""
    with pair.connect() as writer, pair.connect() as reader:
        writer.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        writer.execute("UPDATE t SET v = v + 1 WHERE id IN (1, 11)")
        reader.execute("SET statement_timeout = '30s'")
        for settings in ("", "SET LOCAL work_mem = '5MB'", "SAVEPOINT a"):
            reader.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE")
            reader.execute(settings)  # type: ignore[call-overload]
            assert reader.execute(SUM).fetchone() == (20,)
            reader.execute("COMMIT")
        writer.execute("COMMIT")
        assert reader.execute(SUM).fetchone() == (22,)


def test_a_user_who_may_only_read_takes_part(pair: Schema, role: str) -> None:
    """D21: at SERIALIZABLE he sees what he may see, and what he has read is part of the order."""
    dsn = pair.server.dsn_for(user=role, password=PASSWORD, options=f"-c search_path={pair.name}")
    with psycopg.connect(dsn, autocommit=True) as user, pair.connect() as owner:
        for connection in (user, owner):
            connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        assert user.execute(SUM).fetchone() == (10,)
        user.execute("UPDATE u SET v = 5 WHERE id IN (1, 11)")
        assert owner.execute("SELECT sum(v) FROM u").fetchone() == (20,)
        owner.execute("UPDATE t SET v = 5 WHERE id IN (2, 12)")
        user.execute("COMMIT")
        with pytest.raises(errors.SerializationFailure):
            owner.execute("COMMIT")
        user.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")
        assert user.execute(SUM).fetchone() == (10,)
        user.execute("COMMIT")


def test_what_cannot_be_prepared_decides(pair: Schema, role: str) -> None:
    """findings-gateway 17: temporary tables and announcements of the home group, in functions, too; another role while it ran."""
    both = "UPDATE u SET v = v + 1 WHERE id IN (5, 15)"
    function = (
        "CREATE FUNCTION tell() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('found_17', 'c'); END $$"
    )
    with pair.connect() as listener:
        listener.execute("LISTEN found_17")
        listener.execute(function)
        for first, *more in (
            (both, "CREATE TEMPORARY TABLE scratch (x int)", "INSERT INTO scratch VALUES (1)"),
            ("INSERT INTO scratch VALUES (2)", both),
            (both, "NOTIFY found_17, 'a'"),
            ("SELECT pg_notify('found_17', 'b')", both),
            (both, "SELECT tell()"),
            ("LISTEN found_17", both),
            (f"SET LOCAL ROLE {role}", both),
            (f"SET LOCAL ROLE {role}", both, "RESET ROLE", both),
        ):
            listener.execute("BEGIN")
            for statement in (first, *more):
                listener.execute(statement)  # type: ignore[call-overload]
            listener.execute("COMMIT")
        assert listener.execute("SELECT v FROM u WHERE id IN (5, 15)").fetchall() == [(10,), (10,)]
        assert listener.execute("SELECT count(*) FROM scratch").fetchone() == (2,)
        assert [notice.payload for notice in listener.notifies(timeout=30, stop_after=3)] == ["a", "b", "c"]


@pytest.mark.parametrize("mode", ["SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"])
def test_users_only_take_the_gate_as_writers(cluster: Cluster, pair: Schema, role: str, mode: str) -> None:
    """D22: who could take it in another mode could stop every commit."""
    for dsn in cluster.group_dsns().values():
        with psycopg.connect(dsn) as group:
            group.execute(f"SET ROLE {role}")
            for gate in ("hanse.gate", "hanse.gate_over_groups"):
                group.execute(f"LOCK TABLE ONLY {gate} IN ROW EXCLUSIVE MODE")  # type: ignore[call-overload]
                with group.transaction(), pytest.raises(errors.InsufficientPrivilege), group.transaction():
                    group.execute(f"LOCK TABLE ONLY {gate} IN {mode} MODE")  # type: ignore[call-overload]
