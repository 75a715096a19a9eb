"""kill -9 and worse in the middle of an atomic commit: nothing is half done, nothing stays locked, nobody is told a lie.

One cluster of two groups goes through all of it, one thing after another; recovery is waited for once. The file that
HANSE_FAULT names says at which point of the next commit a gateway ends itself (`gateway/faults.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest
from click.testing import CliRunner, Result

from hanse.agent.recovery import Recovery, Times
from hanse.cli.main import main as command_line
from hanse.config import load_node_config, load_secrets
from hanse.core.limits import PREPARED_AGE_S_MIN
from support.processes import free_ports, sweep, wait_until
from support.servers import Cluster, Server

Prepare = Callable[..., None]
TOTAL = 4000
HANSE = [sys.executable, "-P", "-m", "hanse.cli.main"]
TRANSFER = (
    "BEGIN",
    "UPDATE accounts SET balance = balance - 100 WHERE id = {low}",
    "UPDATE accounts SET balance = balance + 100 WHERE id = {high}",
    "COMMIT",
)


@dataclass
class Wreck:
    """A cluster, the fault file, and what became of each commit."""

    cluster: Cluster
    fault: Path
    totals: dict[str, int] = field(default_factory=dict)  # read while one group had committed and the other had not
    after_loss: tuple[object, ...] | None = None  # what was read next, when a client had been told of his commit
    answers: dict[str, str | None] = field(default_factory=dict)  # SQLSTATE, '' for success, None: connection lost

    def connect(self, **more: object) -> psycopg.Connection:
        return psycopg.connect(self.cluster.dsn, autocommit=True, connect_timeout=5, **more)  # type: ignore[arg-type]

    def groups(self, query: str) -> dict[str, list[tuple[object, ...]]]:
        found = {}
        for name, dsn in self.cluster.group_dsns().items():
            with psycopg.connect(dsn, autocommit=True) as connection:
                found[name] = connection.execute(query).fetchall()
        return found

    def prepared(self) -> list[str]:
        rows = self.groups("SELECT gid FROM pg_prepared_xacts")
        return [str(row[0]) for found in rows.values() for row in found]

    def run(self, name: str, *statements: str) -> None:
        """Runs statements and notes the end of the last."""
        try:
            with self.connect() as connection:
                for statement in statements:
                    connection.execute(statement)  # type: ignore[call-overload]
            self.answers[name] = ""
        except psycopg.Error as error:
            self.answers[name] = error.sqlstate

    def broken(self, name: str, point: str, *statements: str) -> None:
        """Runs statements while a gateway kills itself at `point`; returns when another one serves."""
        self.fault.write_text(f"{point} kill")
        self.run(name, *statements)
        assert not self.fault.exists(), f"{name}: the point was never reached"
        wait_until("another gateway", self.serves, timeout_s=20)

    def stopped(self, name: str, point: str, *statements: str) -> tuple[threading.Thread, int]:
        """As `broken`, but the gateway only stops; gives who waits for it, and its pid."""
        pid = self.gateway_pid()
        self.fault.write_text(f"{point} stop")
        thread = threading.Thread(target=self.run, args=(name, *statements))
        thread.start()
        wait_until("the fault", lambda: not self.fault.exists(), timeout_s=20)
        return thread, pid

    def gateway_pid(self) -> int:
        return int(self.cluster.status()["gateways"][0]["pid"])

    def serves(self, query: str = "SELECT true") -> bool:
        try:
            with self.connect() as connection:
                return connection.execute(query).fetchone() == (True,)  # type: ignore[call-overload]
        except psycopg.Error:
            return False


@pytest.fixture(scope="module")
def cluster_to_break(run_directory: Path) -> Iterator[Wreck]:
    directory = run_directory / f"recovery-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    data, fault = directory / "data", directory / "fault"
    port = free_ports(1)
    options = ["--data", str(data), "--port", str(port), "--nodes", "1", "--groups", "2"]
    subprocess.run(
        [*HANSE, "up", "--detach", *options], check=True, timeout=90, env={**os.environ, "HANSE_FAULT": str(fault)}
    )
    password = json.loads((data / "secrets.json").read_text())["user_password"]
    try:
        yield Wreck(Cluster(data, Server("127.0.0.1", port, "hanse", password, "hanse")), fault)
    finally:
        subprocess.run([*HANSE, "down", "--data", str(data)], check=False, timeout=60)
        sweep(directory)


@pytest.fixture(scope="module")
def wreck(cluster_to_break: Wreck) -> Wreck:
    """Everything goes wrong here; the tests look at what is left."""
    wreck = cluster_to_break
    _fill(wreck)
    _kill_server_before(wreck, "after_prepare", "decider killed", 4, group=1)
    _kill_server_before(wreck, "before_finish", "other killed", 5, group=0)
    _kill_server_before(wreck, "before_prepare", "preparer killed", 6, group=0)
    with wreck.connect() as connection:
        wreck.after_loss = connection.execute("SELECT balance FROM accounts WHERE id = 5").fetchone()
    wreck.broken("undecided", "after_prepare", *_transfer(1))
    wreck.broken("decided", "after_decide", *_transfer(2))
    wreck.totals = {mode: _total(wreck, mode) for mode in ("fast", "snapshot")}
    wreck.broken("undecided DDL", "after_prepare", "CREATE TABLE never (x int)")
    wreck.broken("decided DDL", "after_decide", "CREATE TABLE made (x int) WITH (distribution = 'reference')")
    thread, pid = wreck.stopped("late", "after_prepare", *_transfer(3))
    try:
        assert wreck.prepared(), "the branches wait for recovery"
        wait_until("recovery", lambda: not wreck.prepared(), timeout_s=PREPARED_AGE_S_MIN + 20)
    finally:
        os.kill(pid, signal.SIGCONT)
    thread.join(20)
    return wreck


def _transfer(account: int) -> tuple[str, ...]:
    return tuple(statement.format(low=account, high=account + 10) for statement in TRANSFER)


def _total(wreck: Wreck, mode: str) -> int:
    with wreck.connect() as connection:
        connection.execute(f"SET hanse.read_consistency = '{mode}'")  # type: ignore[call-overload]
        return int(connection.execute("SELECT sum(balance) FROM accounts").fetchone()[0])  # type: ignore[index]


def _fill(wreck: Wreck) -> None:
    with wreck.connect() as connection:
        connection.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int) PARTITION BY RANGE (id)")
        for name, low, high in (("g1", 0, 10), ("g2", 10, 20)):
            connection.execute(
                f"CREATE TABLE accounts_{name} PARTITION OF accounts FOR VALUES FROM ({low}) TO ({high}) TABLESPACE {name}"
            )
        connection.execute("INSERT INTO accounts SELECT i, 1000 FROM unnest(ARRAY[1, 2, 11, 12]) i")
        connection.execute(
            "INSERT INTO accounts VALUES (3, 0), (13, 0), (4, 0), (14, 0), (5, 0), (15, 0), (6, 0), (16, 0)"
        )


def _kill_server_before(wreck: Wreck, point: str, name: str, account: int, *, group: int) -> None:
    """A group's server dies, and the gateway stands at `point` of a commit meanwhile."""
    thread, pid = wreck.stopped(name, point, *_transfer(account))
    try:
        _kill_server(wreck.cluster.status()["groups"][group]["instances"][0]["pid"])
    finally:
        os.kill(pid, signal.SIGCONT)
    thread.join(30)
    assert not thread.is_alive()
    wait_until("all groups", lambda: wreck.serves("SELECT count(*) > 0 FROM accounts"), timeout_s=20)


def _kill_server(pid: int) -> None:
    """With its backends, which would otherwise end what they have begun."""
    server = psutil.Process(pid)
    server.suspend()
    for process in (*server.children(recursive=True), server):
        process.kill()


def test_nothing_stays_prepared(wreck: Wreck) -> None:
    assert wreck.prepared() == []


def test_a_snapshot_waits_for_the_other_half(wreck: Wreck) -> None:
    assert wreck.totals == {"fast": TOTAL + 100, "snapshot": TOTAL}


def test_what_was_told_is_seen(wreck: Wreck) -> None:
    """Also where the server of the other half died after the decision."""
    assert wreck.answers["other killed"] == ""
    assert wreck.after_loss == (-100,)


def test_every_transfer_is_whole(wreck: Wreck) -> None:
    with wreck.connect() as connection:
        rows = dict(connection.execute("SELECT id, balance FROM accounts").fetchall())
    assert sum(rows.values()) == TOTAL
    assert (rows[1], rows[11]) == (1000, 1000), "no decision was made: rolled back"
    assert (rows[2], rows[12]) == (900, 1100), "the decision was made: committed"
    assert (rows[3], rows[13]) == (0, 0), "recovery came first: rolled back"
    assert (rows[4], rows[14]) == (0, 0), "the decider died before it decided: rolled back"
    assert (rows[5], rows[15]) == (-100, 100), "the decision was made: committed"
    assert (rows[6], rows[16]) == (0, 0), "who was to prepare died before: rolled back"


def test_clients_were_told_the_truth(wreck: Wreck) -> None:
    assert wreck.answers == {
        "decider killed": "40001",
        "other killed": "",
        "preparer killed": "40001",
        "undecided": None,
        "decided": None,
        "undecided DDL": None,
        "decided DDL": None,
        "late": "40001",
    }


def test_rows_are_free(wreck: Wreck) -> None:
    with wreck.connect() as connection:
        connection.execute("SET lock_timeout = '2s'")
        assert connection.execute("UPDATE accounts SET balance = balance").statusmessage == "UPDATE 12"
        connection.execute("INSERT INTO made VALUES (1)")


def test_schema_changes_are_whole(wreck: Wreck) -> None:
    tables = wreck.groups("SELECT to_regclass('public.made') IS NOT NULL, to_regclass('public.never') IS NULL")
    assert tables == {"g1": [(True, True)], "g2": [(True, True)]}
    with wreck.connect() as connection:
        assert connection.execute("SELECT count(*) FROM made").fetchone() is not None
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM never")


def test_every_record_is_kept_for_now(wreck: Wreck) -> None:
    """One decision 'c' and three tombstones lie in the decider's group, and in no other."""
    records = wreck.groups("SELECT outcome::text, count(*) FROM hanse.commit_record GROUP BY 1 ORDER BY 1")
    assert records["g1"] == []
    assert dict(records["g2"])["a"] == 3  # type: ignore[arg-type]


def test_records_go_when_nobody_needs_them(wreck: Wreck) -> None:
    """Not while a branch is prepared anywhere, nor a tombstone while a transaction is open that began before it."""
    dsns = wreck.cluster.group_dsns()
    with psycopg.connect(dsns["g1"], autocommit=True) as g1, psycopg.connect(dsns["g2"], autocommit=True) as g2:
        g1.execute("BEGIN; CREATE TABLE held (x int); PREPARE TRANSACTION 'hanse:g2:held:hash'")
        _record(g2, "hanse:g2:held:hash", "c")
        for tells_since_when in ("on", "off"):
            with psycopg.connect(dsns["g2"], autocommit=True) as old:
                old.execute(f"SET track_activities = {tells_since_when}")  # type: ignore[call-overload]
                old.execute("BEGIN")
                old.execute("SELECT 1")
                g2.execute("SELECT hanse.record_abort('hanse:g2:late:hash')")
                _remove_records(wreck)
                assert _records(g2) == {"hanse:g2:held:hash", "hanse:g2:late:hash"}
        g1.execute("ROLLBACK PREPARED 'hanse:g2:held:hash'")
        _remove_records(wreck)
        assert _records(g2) == set()


def _record(connection: psycopg.Connection, gid: str, outcome: str) -> None:
    """A decision on a transaction of the test's own, which has no secret."""
    name = "secret_of_transaction"
    query = f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '{name}'"
    check = connection.execute(query).fetchone()  # type: ignore[call-overload]
    with connection.transaction():
        connection.execute(f"ALTER TABLE hanse.commit_record DROP CONSTRAINT {name}")  # type: ignore[call-overload]
        connection.execute(
            "INSERT INTO hanse.commit_record (gid, outcome, at) VALUES (%s, %s, now() - interval '1 minute')",
            (gid, outcome),
        )
        connection.execute(f"ALTER TABLE hanse.commit_record ADD CONSTRAINT {name} {check[0]} NOT VALID")


def _records(connection: psycopg.Connection) -> set[str]:
    return {str(row[0]) for row in connection.execute("SELECT gid FROM hanse.commit_record").fetchall()}


def _remove_records(wreck: Wreck) -> None:
    config = load_node_config(wreck.cluster.data_directory / "n1" / "node.json")
    instance = next(each for each in config.instances if each.group == "g2")
    recovery = Recovery(config, load_secrets(Path(config.secrets_file)), instance, Times(record_age_s=0.0))

    async def remove() -> None:
        await recovery.remove_records()
        recovery.close()

    asyncio.run(remove())


# --- what an operator sees and does ------------------------------------------------------------------------------------


@pytest.fixture
def prepared(wreck: Wreck) -> Iterator[Prepare]:
    """Makes branches as gateways leave them, and takes away what a test leaves."""
    with contextlib.ExitStack() as stack:
        dsns = wreck.cluster.group_dsns()
        groups = {name: stack.enter_context(psycopg.connect(dsn, autocommit=True)) for name, dsn in dsns.items()}
        made: list[tuple[str, str]] = []

        def prepare(gid: str, *places: str, outcome: str | None = None) -> None:
            if outcome is not None:
                _record(groups["g2"], gid, outcome)
            for place in places:
                made.append((gid, place))
                groups[place].execute(f"BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{gid}'")

        yield prepare
        for gid, place in made:
            with contextlib.suppress(psycopg.errors.UndefinedObject):
                groups[place].execute(f"ROLLBACK PREPARED '{gid}'")  # type: ignore[call-overload]
        groups["g2"].execute("DELETE FROM hanse.commit_record WHERE gid LIKE 'hanse:%:test:%'")


def _seen(wreck: Wreck) -> dict[str, tuple[object, ...]]:
    with wreck.connect() as connection:
        rows = connection.execute("SELECT gid, state, decider, groups, age < interval '1 hour' FROM hanse.transactions")
        return {str(gid): more for gid, *more in rows.fetchall()}  # type: ignore[misc]


def _hanse(wreck: Wreck, *arguments: str, answer: str | None = None) -> Result:
    words = ["transactions", "--data", str(wreck.cluster.data_directory), *arguments]
    return CliRunner().invoke(command_line, words, input=answer)


def test_transactions_shows_what_is_prepared_and_what_was_decided(wreck: Wreck, prepared: Prepare) -> None:
    assert _seen(wreck) == {}
    prepared("hanse:g2:test:open", "g1")
    prepared("hanse:g2:test:done", "g1", outcome="c")
    prepared("hanse:g2:test:dead", "g1", outcome="a")
    prepared("hanse:g9:test:lost", "g1", "g2")
    prepared("hanse:catalog:test:change", "g2")
    prepared("made by a user", "g1", "g2")
    assert _seen(wreck) == {
        "hanse:g2:test:open": ["in doubt", "g2", ["g1"], True],
        "hanse:g2:test:done": ["committed", "g2", ["g1"], True],
        "hanse:g2:test:dead": ["aborted", "g2", ["g1"], True],
        "hanse:g9:test:lost": ["unknown", "g9", ["g1", "g2"], True],
        "hanse:catalog:test:change": ["in doubt", "catalog", ["g2"], True],
        "made by a user": ["prepared by a user", None, ["g1", "g2"], True],
    }
    listed = json.loads(_hanse(wreck, "--json").stdout)
    assert {row["gid"]: row["state"] for row in listed["transactions"]} == {
        gid: row[0] for gid, row in _seen(wreck).items()
    }
    assert listed["unreachable"] == ["g9"]


def test_transactions_is_a_view_like_others(wreck: Wreck, prepared: Prepare) -> None:
    """In joins, with parameters, in COPY; for everybody, as pg_prepared_xacts is; with the columns that it is said to have."""
    with wreck.connect() as connection:
        shape = connection.execute("SELECT * FROM hanse.transactions").description
        assert shape is not None and [column.name for column in shape] == [
            *("gid", "state", "decider", "groups", "owner", "prepared", "age")
        ]
        described = connection.execute(
            "SELECT atttypid::int FROM pg_attribute WHERE attrelid = 'hanse.transactions'::regclass ORDER BY attnum"
        ).fetchall()
        assert [column.type_code for column in shape] == [row[0] for row in described]
        prepared("hanse:g2:test:x", "g1", outcome="c")
        found = connection.execute(
            "SELECT t.state FROM accounts a JOIN hanse.transactions AS t ON a.id = 1 AND t.gid = %s",
            ("hanse:g2:test:x",),
        )
        assert found.fetchall() == [("committed",)]
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute("SET search_path = hanse; SELECT * FROM transactions")
        connection.execute("CREATE ROLE nobody_special LOGIN PASSWORD 'secret'; RESET search_path")
        with psycopg.connect(wreck.cluster.server.dsn_for(user="nobody_special", password="secret")) as other:
            assert other.execute("SELECT count(*) FROM hanse.transactions").fetchone() == (1,)


def test_a_group_that_is_away_is_told(wreck: Wreck, prepared: Prepare) -> None:
    """What the others hold is seen; what was decided in that group is not known."""
    prepared("hanse:g2:test:x", "g1")
    pid = wreck.cluster.status()["groups"][1]["instances"][0]["pid"]
    server = psutil.Process(pid)
    server.suspend()  # its children would answer, but nobody gets a new one
    warnings: list[str] = []
    try:
        with wreck.connect() as connection:
            connection.add_notice_handler(lambda notice: warnings.append(str(notice.message_primary)))
            rows = connection.execute("SELECT state FROM hanse.transactions WHERE gid = 'hanse:g2:test:x'").fetchall()
    finally:
        server.resume()
    assert (rows, warnings) == ([("unknown",)], ["g2 could not be asked for its transactions"])


def test_pg_prepared_xacts_has_the_users_transactions(wreck: Wreck, prepared: Prepare) -> None:
    """Once each, though two groups hold a part, so that a transaction manager finds what it has to end."""
    prepared("hanse:g2:test:x", "g1", outcome="c")
    with contextlib.closing(psycopg.connect(wreck.cluster.dsn)) as connection:
        xid = connection.xid(1, "test", "branch")
        connection.tpc_begin(xid)
        connection.execute("UPDATE accounts SET balance = balance")
        connection.tpc_prepare()
    with contextlib.closing(psycopg.connect(wreck.cluster.dsn)) as connection:
        (found,) = connection.tpc_recover()
        assert (found.gtrid, found.owner, found.database) == ("test", "hanse", "hanse")
        connection.tpc_rollback(found)
        assert connection.tpc_recover() == []


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_users_do_not_end_what_is_the_clusters(wreck: Wreck, prepared: Prepare, outcome: str) -> None:
    """findings-transactions B14."""
    prepared("hanse:g2:test:x", "g1")
    with wreck.connect() as connection:
        for gid in ("'hanse:g2:test:x'", r"E'\x68anse:g2:test:x'"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"{outcome} PREPARED {gid}")  # type: ignore[call-overload]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("BEGIN; PREPARE TRANSACTION 'hanse:g2:test:y'")
    assert wreck.prepared() == ["hanse:g2:test:x"]


@pytest.mark.parametrize(
    ("recorded", "asked", "refused", "told"),
    [
        (None, "--commit", "only --rollback ends it", None),
        (None, "--rollback", None, "g1: rolled back"),
        ("c", "--rollback", "only --commit ends it", None),
        ("c", "--commit", None, "g1: committed"),
        ("a", "--commit", "only --rollback ends it", None),
        ("a", "--rollback", None, "g1: rolled back"),
    ],
)
def test_resolve_goes_by_the_record(
    wreck: Wreck, prepared: Prepare, recorded: str | None, asked: str, refused: str | None, told: str | None
) -> None:
    prepared("hanse:g2:test:x", "g1", outcome=recorded)
    done = _hanse(wreck, "resolve", "hanse:g2:test:x", asked, "--yes")
    if refused is not None:
        assert (done.exit_code, refused in done.stderr) == (2, True), done.stderr
        assert wreck.prepared() == ["hanse:g2:test:x"]
        return
    assert (done.exit_code, done.stdout.strip()) == (0, told), done.output
    records = dict(wreck.groups("SELECT outcome::text FROM hanse.commit_record WHERE gid = 'hanse:g2:test:x'"))
    assert records["g2"] == [("c" if asked == "--commit" else "a",)]
    assert wreck.prepared() == []


def test_resolve_asks_before_it_does_something(wreck: Wreck, prepared: Prepare) -> None:
    prepared("hanse:g2:test:x", "g1")
    for answer in ("n\n", ""):
        assert _hanse(wreck, "resolve", "hanse:g2:test:x", "--rollback", answer=answer).exit_code == 1
    assert wreck.prepared() == ["hanse:g2:test:x"]
    assert wreck.groups("SELECT 1 FROM hanse.commit_record WHERE gid = 'hanse:g2:test:x'")["g2"] == []
    assert _hanse(wreck, "resolve", "hanse:g2:test:x", "--rollback", answer="y\n").exit_code == 0


def test_resolve_by_hand_needs_a_lost_decider(wreck: Wreck, prepared: Prepare) -> None:
    prepared("hanse:g9:test:x", "g1", "g2")
    prepared("hanse:g2:test:y", "g1")
    prepared("made by a user", "g1")
    for arguments, why in (
        (("hanse:g9:test:x", "--commit"), "does not answer"),
        (("hanse:g9:test:x",), "say one of"),
        (("hanse:g2:test:y", "--rollback", "--decider-lost"), "its word holds"),
        (("made by a user", "--rollback"), "prepared by a user"),
        (("hanse:g2:test:z", "--rollback"), "no group holds"),
    ):
        done = _hanse(wreck, "resolve", *arguments, "--yes")
        assert (done.exit_code, why in done.stderr) == (2, True), done.output
    done = _hanse(wreck, "resolve", "hanse:g9:test:x", "--commit", "--decider-lost", "--yes")
    assert (done.exit_code, done.stdout) == (0, "g1: committed\ng2: committed\n")
    assert "WARNING: its decider g9 is not asked" in done.stderr


def test_resolve_ends_a_schema_change_by_the_catalogs_word(wreck: Wreck, prepared: Prepare) -> None:
    prepared("hanse:catalog:test:x", "g1", "g2")
    assert _hanse(wreck, "resolve", "hanse:catalog:test:x", "--commit", "--yes").exit_code == 2
    done = _hanse(wreck, "resolve", "hanse:catalog:test:x", "--rollback", "--yes")
    assert (done.exit_code, done.stdout) == (0, "g1: rolled back\ng2: rolled back\n")
