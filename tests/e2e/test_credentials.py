"""Changes of roles, passwords and rights take effect: for new logins through every gateway, and for open sessions."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import psycopg
import pytest

from hanse.pgwire.verifier import make_verifier
from support.processes import wait_until
from support.servers import Cluster, Server, binary

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass
class Stage:
    """A role of the test's own, with a schema of tables of every kind that it has no right to."""

    cluster: Cluster
    admin: Connection
    role: str
    password: str = "first"

    def tell(self, sql: str) -> None:
        """As the administrator, through the first gateway."""
        self.admin.execute(sql.replace("ROLE_", self.role))  # type: ignore[call-overload]

    def log_in(self, gateway: int = 0, password: str | None = None) -> Connection:
        server = self.cluster.gateways[gateway]
        chosen = self.password if password is None else password
        options = f"-c search_path={self.role}"
        dsn = server.dsn_for(user=self.role, password=chosen, options=options, connect_timeout=10)
        return psycopg.connect(dsn, autocommit=True)

    def refused(self, password: str | None = None) -> set[str]:
        """What every gateway says to a new login; the same."""
        said = set()
        for gateway in range(len(self.cluster.gateways)):
            with pytest.raises(psycopg.OperationalError) as caught:
                self.log_in(gateway, password).close()
            said.add(str(caught.value).rpartition("FATAL:  ")[2].strip())
        return said

    def welcome(self, password: str | None = None) -> None:
        for gateway in range(len(self.cluster.gateways)):
            with self.log_in(gateway, password) as connection:
                assert connection.execute("SELECT session_user").fetchone() == (self.role,)


@pytest.fixture
def stage(cluster: Cluster) -> Iterator[Stage]:
    role = f"r_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(cluster.dsn, autocommit=True) as admin:
        stage = Stage(cluster, admin, role)
        stage.tell("CREATE ROLE ROLE_ LOGIN PASSWORD 'first'")
        stage.tell("CREATE SCHEMA ROLE_")
        stage.tell("GRANT USAGE ON SCHEMA ROLE_ TO ROLE_")
        try:
            yield stage
        finally:
            stage.tell("DROP SCHEMA ROLE_ CASCADE")
            stage.tell("DROP OWNED BY ROLE_")
            stage.tell("DROP ROLE ROLE_")


# --- new logins ------------------------------------------------------------------------------------------------------


def test_a_new_password_is_one_verifier_everywhere(stage: Stage) -> None:
    stage.welcome()  # every gateway has idle backends of this role from now on
    stage.tell("ALTER ROLE ROLE_ PASSWORD 'second'")
    assert stage.refused("first") == {f'password authentication failed for user "{stage.role}"'}
    stage.welcome("second")
    answers = stage.cluster.ask_instances("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [stage.role])
    verifiers = {verifier for ((verifier,),) in answers.values()}
    assert len(verifiers) == 1 and verifiers.pop().startswith("SCRAM-SHA-256$4096:")


@pytest.mark.parametrize(
    ("taken", "given", "words"),
    [
        ("ALTER ROLE ROLE_ NOLOGIN", "ALTER ROLE ROLE_ LOGIN", 'role "ROLE_" is not permitted to log in'),
        (
            "ALTER ROLE ROLE_ VALID UNTIL '2020-01-01'",
            "ALTER ROLE ROLE_ VALID UNTIL 'infinity'",
            'password authentication failed for user "ROLE_"',
        ),
        (
            "ALTER ROLE ROLE_ PASSWORD NULL",
            "ALTER ROLE ROLE_ PASSWORD 'first'",
            'password authentication failed for user "ROLE_"',
        ),
    ],
)
def test_what_keeps_a_role_out_does_so_at_once(stage: Stage, taken: str, given: str, words: str) -> None:
    stage.welcome()
    stage.tell(taken)
    assert stage.refused() == {words.replace("ROLE_", stage.role)}
    stage.tell(given)
    stage.welcome()


def test_a_dropped_role(stage: Stage) -> None:
    stage.welcome()
    stage.tell("DROP OWNED BY ROLE_")
    stage.tell("DROP ROLE ROLE_")
    assert stage.refused() == {f'password authentication failed for user "{stage.role}"'}
    stage.tell("CREATE ROLE ROLE_ LOGIN PASSWORD 'first'")
    stage.welcome()


def test_settings_of_a_role_hold_for_sessions_that_begin_after(stage: Stage) -> None:
    stage.welcome()
    for value in ("7MB", "9MB"):
        stage.tell(f"ALTER ROLE ROLE_ SET work_mem = '{value}'")
        for gateway in (0, 1):
            with stage.log_in(gateway) as connection:
                assert connection.execute("SHOW work_mem").fetchone() == (value,)


def test_connection_limit_counts_clients_of_all_gateways(stage: Stage) -> None:
    """Not connections to the servers, which clients share and which stay behind them."""
    full = f'too many connections for role "{stage.role}"'
    stage.tell("CREATE TABLE ROLE_.t (id int PRIMARY KEY, v int) PARTITION BY HASH (id) WITH (shards = 4)")
    stage.tell("GRANT SELECT ON ROLE_.t TO ROLE_")
    stage.tell("ALTER ROLE ROLE_ PASSWORD 'é' CONNECTION LIMIT 2 VALID UNTIL 'infinity'")
    stage.password = "é"
    first, second = stage.log_in(0), stage.log_in(1)
    assert stage.refused() == {full}
    for session in (first, second):  # several backends each, and those of the workspace
        assert session.execute("SELECT count(*) FROM t a JOIN t b ON a.v = b.id").fetchone() == (0,)
    second.close()
    again = wait_until("room", lambda: _try(stage))
    assert stage.refused() == {full}
    stage.tell("ALTER ROLE ROLE_ CONNECTION LIMIT 3")
    with stage.log_in(1):
        assert stage.refused() == {full}
    stage.tell("ALTER ROLE ROLE_ CONNECTION LIMIT 0")
    for session in (first, again):
        session.close()
    assert stage.refused() == {full}
    stage.tell("ALTER ROLE ROLE_ CONNECTION LIMIT -1")
    stage.welcome()


def _try(stage: Stage) -> Connection | None:
    try:
        return stage.log_in(0)
    except psycopg.OperationalError:
        return None


@pytest.mark.parametrize(
    "password",
    ["é", "\u212bngström", "\u0627\u0661", "soft\u00adhyphen", "a\u0301", "with ' and \\ and \x01", "pa$$word", "x" * 20_000],
    ids=["accent", "compatible", "right to left", "soft hyphen", "decomposed", "quotes", "dollars", "long"],
)  # fmt: skip
def test_unusual_passwords(stage: Stage, password: str) -> None:
    literal = "E'" + password.replace("\\", "\\\\").replace("'", "\\'") + "'"
    stage.tell(f"ALTER ROLE ROLE_ PASSWORD {literal}")
    stage.welcome(password)


def test_passwords_that_look_alike_are_alike(stage: Stage) -> None:
    """SASLprep: the client of another keyboard may send the same letter as other code points."""
    stage.tell("ALTER ROLE ROLE_ PASSWORD 'Å'")
    for same in ("\u00c5", "A\u030a", "\u212b"):
        stage.welcome(same)
    stage.refused("A")


def test_md5_is_refused_and_a_verifier_is_taken(stage: Stage) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        stage.tell(f"ALTER ROLE ROLE_ PASSWORD 'md5{'0' * 32}'")
    assert "SCRAM-SHA-256" in str(caught.value.diag.message_hint)
    stage.tell("SET password_encryption = 'md5'")
    stage.tell("ALTER ROLE ROLE_ PASSWORD 'second'")  # never md5, whatever is set
    stage.welcome("second")
    stage.tell(f"ALTER ROLE ROLE_ PASSWORD '{make_verifier('third')}'")
    stage.welcome("third")


def test_psql_changes_a_password(stage: Stage) -> None:
    """`\\password` sends a verifier that psql has computed."""
    server = stage.cluster.gateways[1]
    own = Server(server.host, server.port, stage.role, stage.password, server.database)
    encrypted = own.environment
    with stage.log_in() as connection:
        verifier = connection.pgconn.encrypt_password(b"second", stage.role.encode(), b"scram-sha-256").decode()
    command = f"ALTER USER {stage.role} PASSWORD '{verifier}'"
    done = subprocess.run([binary("psql"), "-Xc", command], env=encrypted, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    stage.welcome("second")


# --- open sessions ---------------------------------------------------------------------------------------------------


def test_rights_on_tables_change_for_open_sessions(stage: Stage) -> None:
    stage.tell("CREATE TABLE ROLE_.sharded (id int PRIMARY KEY, v int) PARTITION BY HASH (id) WITH (shards = 4)")
    stage.tell("CREATE TABLE ROLE_.known (id int PRIMARY KEY) WITH (distribution = 'reference')")
    stage.tell("CREATE TABLE ROLE_.alone (id int PRIMARY KEY)")
    stage.tell("INSERT INTO ROLE_.sharded SELECT g, g + 1 FROM generate_series(1, 20) g")
    statements = (
        "SELECT v FROM sharded WHERE id = 3",
        "SELECT count(*) FROM sharded",
        "SELECT count(*) FROM sharded a JOIN sharded b ON a.v = b.id",
        "SELECT * FROM known",
        "SELECT * FROM alone",
        "SELECT id FROM sharded ORDER BY id LIMIT 3",
    )
    sessions = [stage.log_in(gateway) for gateway in (0, 1)]
    try:
        stage.tell("GRANT SELECT ON ROLE_.sharded, ROLE_.known, ROLE_.alone TO ROLE_")
        for session in sessions:
            for sql in statements:
                session.execute(sql, prepare=True).fetchall()  # type: ignore[call-overload]
        stage.tell("REVOKE SELECT ON ROLE_.sharded, ROLE_.known, ROLE_.alone FROM ROLE_")
        for session in sessions:
            for sql in statements:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(sql, prepare=True)  # type: ignore[call-overload]
    finally:
        for session in sessions:
            session.close()


def test_rights_by_membership_change_for_open_sessions(stage: Stage) -> None:
    group = f"{stage.role}_group"
    stage.tell(f"CREATE ROLE {group}")
    stage.tell("CREATE TABLE ROLE_.t (id int PRIMARY KEY) PARTITION BY HASH (id) WITH (shards = 4)")
    stage.tell(f"GRANT SELECT ON ROLE_.t TO {group}")
    try:
        with stage.log_in(1) as session:
            stage.tell(f"GRANT {group} TO ROLE_")
            assert session.execute("SELECT count(*) FROM t").fetchone() == (0,)
            stage.tell(f"REVOKE {group} FROM ROLE_")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("SELECT count(*) FROM t")
    finally:
        stage.tell(f"DROP OWNED BY {group}")
        stage.tell(f"DROP ROLE {group}")


def test_sessions_that_need_a_new_backend_after_a_change_of_password(stage: Stage) -> None:
    """They end with 57P01; or go on with the keys of a later login of the same role. They never hang."""
    stage.tell("CREATE TABLE ROLE_.t (id int PRIMARY KEY) PARTITION BY HASH (id) WITH (shards = 4)")
    stage.tell("GRANT SELECT ON ROLE_.t TO ROLE_")
    ended, kept = stage.log_in(0), stage.log_in(1)
    ended.execute("SELECT count(*) FROM t")
    kept.execute("SELECT count(*) FROM t")
    stage.tell("ALTER ROLE ROLE_ PASSWORD 'second'")
    with stage.log_in(1, "second"):  # tells the second gateway the new keys
        assert _exhausted(stage, kept, "SELECT count(*) FROM t") is None
    error = _exhausted(stage, ended, "SELECT count(*) FROM t")
    assert error is not None and error.sqlstate == "57P01"
    assert "password" in str(error) and ended.closed
    kept.close()


def _exhausted(stage: Stage, session: Connection, sql: str) -> psycopg.Error | None:
    """What a statement says when every idle backend of the role has gone."""
    stage.cluster.ask_instances(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [stage.role]
    )
    for _ in range(3):  # a dead backend that had not been noticed may be an error of its own
        try:
            session.execute(sql)  # type: ignore[call-overload]
            return None
        except psycopg.errors.AdminShutdown as error:
            if session.closed:
                return error
        except psycopg.Error:
            continue
    return None


def test_a_name_that_becomes_another_role(stage: Stage) -> None:
    """Backends of the old role, idle ones and one that is busy meanwhile, must not serve the new one of that name."""
    verifier = make_verifier("first")  # the very same keys open the new role's backends
    stage.tell(f"ALTER ROLE ROLE_ PASSWORD '{verifier}'")
    old = stage.log_in()
    with old.transaction():
        old.execute("SELECT 1")
        stage.tell("DROP OWNED BY ROLE_")
        stage.tell("DROP ROLE ROLE_")
        stage.tell(f"CREATE ROLE ROLE_ LOGIN PASSWORD '{verifier}'")
        new = stage.log_in()
    home = stage.cluster.group_dsns()["g1"]
    with new, psycopg.connect(home) as system:
        wanted = system.execute("SELECT oid FROM pg_authid WHERE rolname = %s", [stage.role]).fetchone()
        for _ in range(3):
            runs_as = "SELECT usesysid FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            # In a transaction that began in the home group: catalog queries would run in the workspace.
            with new.transaction():
                pid = new.execute("SELECT pg_backend_pid()").fetchone()
                found = system.execute(runs_as.replace("pg_backend_pid()", str(pid[0] if pid else 0))).fetchone()
            assert found == wanted
            system.rollback()
        new.execute("CREATE TEMPORARY TABLE mine ()")  # fails where the backend's role does not exist any more
    old.close()


# --- where roles cannot be changed, and what must not be seen --------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "CREATE ROLE inside",
        "ALTER ROLE ROLE_ NOLOGIN",
        "ALTER USER ROLE_ PASSWORD 'x'",
        "DROP ROLE ROLE_",
        "GRANT pg_monitor TO ROLE_",
        "IF true THEN REVOKE pg_monitor FROM ROLE_; END IF",
        "DROP OWNED BY ROLE_",
        "REASSIGN OWNED BY ROLE_ TO hanse",
    ],
)
def test_role_statements_in_bodies_are_refused(stage: Stage, body: str) -> None:
    """They would run in one group only."""
    function = f"{stage.role}.change"
    stage.tell(f"CREATE FUNCTION {function}() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {body}; END $$")
    for sql in (f"DO $$ BEGIN {body}; END $$", f"SELECT {function}()"):
        with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
            stage.tell(sql)
        assert "roles or rights" in str(caught.value.diag.message_detail)
    stage.welcome()


def test_no_password_in_logs_or_process_lists(stage: Stage) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    stage.tell(f"ALTER ROLE ROLE_ PASSWORD '{secret}'")
    with pytest.raises(psycopg.Error):
        stage.tell(f"ALTER ROLE nobody_of_this_name PASSWORD '{secret}'")
    with pytest.raises(psycopg.Error):
        stage.tell(f"ALTER ROLE ROLE_ PASSWORD '{secret}' NO_SUCH_OPTION")
    stage.welcome(secret)
    stage.refused(secret + "x")
    for path in stage.cluster.data_directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # other tests' work comes and goes
            if path.is_file() and "base" not in path.parts:
                assert secret.encode() not in path.read_bytes(), path
    own = stage.cluster.server.password
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        assert secret not in line
        assert own not in line or "--password" in line or str(stage.cluster.data_directory) not in line
