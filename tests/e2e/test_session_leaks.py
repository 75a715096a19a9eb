# ruff: noqa: E501
"""Nothing that one client sets reaches another: every way to set state, on a cluster and on one plain PostgreSQL alike.

A scenario is played on both servers and must look the same to everybody: client A acts, then A, B (the same role) and C
(another role) ask the same questions, in every group and in the workspace, through A's gateway and through another; then A
goes (by Terminate, or killed), and new clients ask again. Nobody else uses the two roles, so the pool has only A's backends to give, and they change hands at once.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from support.servers import PASSWORD, Cluster, Server
from support.wire import Mode, Wire

ROWS = 40
SETTINGS = (
    "work_mem search_path datestyle timezone intervalstyle statement_timeout lock_timeout plan_cache_mode row_security "
    "idle_in_transaction_session_timeout default_transaction_read_only default_transaction_isolation bytea_output "
    "client_min_messages extra_float_digits application_name enable_seqscan random_page_cost"
).split()
CUSTOM = "app.a app.b app.c".split()
SHOWN = ", ".join(
    ["current_user::text", "session_user::text"]
    + [f"current_setting('{name}')" for name in SETTINGS]
    + [f"current_setting('{name}', true)" for name in CUSTOM]
)

SETUP = """
CREATE FUNCTION sql_set(text, text) RETURNS text LANGUAGE sql AS $$ SELECT set_config($1, $2, false) $$;
CREATE FUNCTION plain_set(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config($1, $2, false); END $$;
CREATE FUNCTION fixed_set() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET app.a = 'fixed'; SET work_mem = '7MB'; RETURN 1; END $$;
CREATE FUNCTION local_set() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET LOCAL app.a = 'local'; RETURN 1; END $$;
CREATE FUNCTION clause_set() RETURNS text LANGUAGE sql SET app.a = 'clause' SET work_mem = '9MB' AS $$ SELECT current_setting('app.a') $$;
CREATE FUNCTION dynamic_set(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; RETURN 1; END $$;
CREATE FUNCTION definer_set() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN PERFORM set_config('app.a', 'definer', false), set_config('work_mem', '8MB', false); RETURN 1; END $$;
CREATE PROCEDURE called_set() LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.a', 'called', false); END $$;
CREATE PROCEDURE called_commit() LANGUAGE plpgsql
    AS $$ BEGIN PERFORM set_config('app.a', 'kept', false); COMMIT; PERFORM set_config('app.b', 'kept', false); COMMIT; END $$;
CREATE FUNCTION lock_inside() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(41); RETURN 1; END $$;
CREATE FUNCTION failing_set() RETURNS int LANGUAGE plpgsql
    AS $$ BEGIN PERFORM set_config('app.a', 'failed', false); RETURN 1 / 0; END $$;
CREATE FUNCTION trigger_set() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM set_config('app.a', 'trigger', false); RETURN NEW; END $$;
CREATE TABLE triggered (id int PRIMARY KEY, v int);
CREATE TRIGGER sets BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION trigger_set();
CREATE VIEW setting_view AS SELECT set_config('app.b', 'view', false) AS s;
CREATE TABLE defaulted (id int PRIMARY KEY, v text DEFAULT set_config('app.c', 'default', false));
CREATE TABLE counted (id serial PRIMARY KEY, v int);
CREATE SEQUENCE numbers;
"""


@dataclass(frozen=True, slots=True)
class World:
    """One server with the tables, and the two roles. `doors`: its two gateways; of a plain one, itself twice."""

    server: Server
    schema: str
    roles: tuple[str, str]
    doors: tuple[Server, ...]

    def connect(self, who: int, options: str = "", *, door: int = 0, **more: object) -> Wire:
        path = f"-c search_path={self.schema},public -c timezone=UTC {options}"
        door_dsn = self.doors[door].dsn_for
        return Wire(
            door_dsn(user=self.roles[who], password=PASSWORD, **{"options": path, "application_name": "", **more})
        )


@pytest.fixture(scope="module")
def worlds(plain_postgres: Server, cluster: Cluster) -> Iterator[tuple[World, World]]:
    mark = uuid.uuid4().hex[:8]
    roles = (f"leak_a_{mark}", f"leak_c_{mark}")
    found = (
        World(plain_postgres, f"leaks_{mark}", roles, (plain_postgres, plain_postgres)),
        World(cluster.server, f"leaks_{mark}", roles, tuple(cluster.gateways)),
    )
    for world in found:
        _make(world, sharded=world.server is cluster.server)
    yield found
    for world in found:
        with psycopg.connect(world.server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {world.schema} CASCADE")  # type: ignore[call-overload]
            for role in roles:
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[call-overload]


def _make(world: World, *, sharded: bool) -> None:
    schema, (first, second) = world.schema, world.roles
    with psycopg.connect(world.server.dsn, autocommit=True) as connection:

        def run(sql: str) -> None:
            connection.execute(sql)  # type: ignore[call-overload]

        for role in world.roles:
            run(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        run(f"GRANT {second} TO {first}")
        run(f"CREATE SCHEMA {schema}")
        run(f"SET search_path = {schema}")
        run("CREATE TABLE t (id int PRIMARY KEY, v int)")
        if sharded:
            run("SELECT create_distributed_table('t', 'id')")
        run(f"INSERT INTO t SELECT g, g % 7 FROM generate_series(1, {ROWS}) g")
        for statement in SETUP.split(";\n"):
            if statement.strip():
                run(statement)
        run(f"GRANT ALL ON SCHEMA {schema} TO {first}, {second}")
        for kind in ("TABLES", "SEQUENCES"):
            run(f"GRANT ALL ON ALL {kind} IN SCHEMA {schema} TO {first}, {second}")


# Ways to set state. What is after `|` asks for it; everybody asks what all ask, too.
WAYS = {
    "set": "SET app.a = 'x'; SET work_mem = '5MB' |",
    "set_names": "SET NAMES 'LATIN1' | SHOW client_encoding",
    "set_client_encoding_local": "BEGIN; SET LOCAL client_encoding = 'LATIN1'; SELECT v FROM t WHERE id = 1; COMMIT | SHOW client_encoding",
    "set_client_encoding_rolled_back": "BEGIN; SET client_encoding = 'LATIN1'; SELECT 1 / 0; ROLLBACK | SHOW client_encoding",
    "failed_transaction": "BEGIN; SELECT v FROM t WHERE id = 1; SELECT 1 / 0 | SELECT v FROM t WHERE id = 1",
    "failed_transaction_ended": "BEGIN; SET app.a = 'x'; UPDATE t SET v = v; SELECT 1 / 0; COMMIT | SELECT v FROM t WHERE id = 1",
    "failed_savepoint": "BEGIN; SAVEPOINT s; SET app.a = 'x'; SELECT 1 / 0; ROLLBACK TO s; SET app.b = 'y'; COMMIT |",
    "listen": "LISTEN news | SELECT * FROM pg_listening_channels()",
    "listen_rolled_back": "BEGIN; LISTEN news; ROLLBACK | SELECT * FROM pg_listening_channels()",
    "unlisten": "LISTEN news; LISTEN more; UNLISTEN news | SELECT * FROM pg_listening_channels()",
    "unlisten_all": "LISTEN news; UNLISTEN * | SELECT * FROM pg_listening_channels()",
    "set_session_characteristics": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY |",
    "set_datestyle": "SET datestyle = 'German'; SET timezone = 'Asia/Tokyo'; SET intervalstyle = 'iso_8601' |",
    "set_timeouts": "SET statement_timeout = '91s'; SET lock_timeout = '92s'; SET idle_in_transaction_session_timeout = '93s' |",
    "set_planner": "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET random_page_cost = 7 |",
    "set_search_path": "SET search_path = pg_catalog |",
    "set_application_name": "SET application_name = 'mine' |",
    "set_row_security": "SET row_security = off |",
    "set_local": "BEGIN; SET LOCAL app.a = 'x'; SET LOCAL work_mem = '5MB'; SELECT v FROM t WHERE id = 1; COMMIT |",
    "set_local_rolled_back": "BEGIN; SET LOCAL app.a = 'x'; SELECT count(*) FROM t; ROLLBACK |",
    "set_rolled_back": "BEGIN; SET app.a = 'x'; SET work_mem = '5MB'; SELECT count(*) FROM t; ROLLBACK |",
    "set_in_failed": "BEGIN; SET work_mem = '5MB'; SELECT 1 / 0; COMMIT |",
    "set_failed": "SET work_mem = 'nonsense' |",
    "set_savepoint": "BEGIN; SET app.a = '1'; SAVEPOINT s; SET app.a = '2'; SET app.b = '2'; SELECT count(*) FROM t; ROLLBACK TO s; COMMIT |",
    "set_released": "BEGIN; SAVEPOINT s; SET app.a = '2'; SELECT v FROM t WHERE id = 2; RELEASE s; COMMIT |",
    "set_local_savepoint": "BEGIN; SAVEPOINT s; SET LOCAL work_mem = '3MB'; ROLLBACK TO s; SELECT count(*) FROM t; COMMIT |",
    "set_open_transaction": "BEGIN; SET app.a = 'open'; SET LOCAL work_mem = '5MB'; SELECT count(*) FROM t |",
    "set_config": "SELECT set_config('app.a', 'y', false), set_config('work_mem', '6MB', false) |",
    "set_config_local": "SELECT set_config('app.a', 'y', true), set_config('work_mem', '6MB', true) |",
    "set_config_over_rows": "SELECT set_config('app.a', v::text, false) FROM t WHERE id = 3 |",
    "set_config_computed": "SELECT set_config('work' || '_mem', '6MB', false) |",
    "set_config_in_sql": "SELECT sql_set('app.a', 'sql') |",
    "set_config_in_plpgsql": "SELECT plain_set('app.b', 'plpgsql') |",
    "set_in_function": "SELECT fixed_set() |",
    "set_in_function_over_rows": "SELECT fixed_set() FROM t WHERE id = 5 |",
    "set_local_in_function": "SELECT local_set() |",
    "set_local_in_function_kept": "BEGIN; SELECT local_set(); SELECT v FROM t WHERE id = 3 |",
    "set_clause_of_function": "SELECT clause_set() |",
    "set_dynamic": "DO $$ BEGIN EXECUTE 'SET app.c = dyn'; EXECUTE 'SET work_mem = ''5MB'''; END $$ |",
    "set_in_do": "DO $$ BEGIN SET app.a = 'do'; PERFORM set_config('app.b', 'do', false); END $$ |",
    "set_in_call": "CALL called_set() |",
    "set_in_call_commit": "CALL called_commit() |",
    "set_in_definer": "SELECT definer_set() |",
    "set_in_failing": "SELECT failing_set() |",
    "set_in_rolled_back_function": "BEGIN; SELECT fixed_set(); ROLLBACK |",
    "set_in_trigger": "INSERT INTO triggered VALUES ({n}, 1) |",
    "set_in_view": "SELECT * FROM setting_view |",
    "set_in_default": "INSERT INTO defaulted (id) VALUES ({n}) |",
    "set_in_explain": "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT set_config('app.a', 'explained', false) |",
    "set_in_copy": "COPY (SELECT set_config('app.a', 'copied', false)) TO STDOUT |",
    "set_in_cursor": "BEGIN; DECLARE c CURSOR FOR SELECT set_config('app.a', 'cursor', false); FETCH c; COMMIT |",
    "set_in_prepared": "PREPARE p AS SELECT set_config('app.a', $1, false); EXECUTE p('prepared') |",
    "set_role": "SET ROLE {other} |",
    "set_local_role": "BEGIN; SET LOCAL ROLE {other}; SELECT count(*) FROM t; COMMIT |",
    "set_role_rolled_back": "BEGIN; SET ROLE {other}; SELECT count(*) FROM t; ROLLBACK |",
    "set_role_in_do": "DO $$ BEGIN EXECUTE 'SET ROLE {other}'; END $$ |",
    "set_role_by_config": "SELECT set_config('role', '{other}', false) |",
    "reset": "SET app.a = 'x'; RESET app.a; SET work_mem = '5MB'; RESET ALL |",
    "discard_all": "SET app.a = 'x'; SET ROLE {other}; PREPARE q AS SELECT 1; DISCARD ALL | EXECUTE q",
    "prepare": "PREPARE q AS SELECT v FROM t WHERE id = 3 | EXECUTE q; DEALLOCATE q; EXECUTE q",
    "prepare_in_do": "DO $$ BEGIN EXECUTE 'PREPARE q AS SELECT 41'; END $$ | EXECUTE q",
    "deallocate_all": "PREPARE q AS SELECT 1; DEALLOCATE ALL | EXECUTE q",
    "temp_table": "CREATE TEMP TABLE mine AS SELECT 41 AS x | SELECT x FROM mine; SELECT x FROM pg_temp.mine",
    "temp_table_shadows": "CREATE TEMP TABLE t (id int, v int); INSERT INTO t VALUES (1, 41) | SELECT count(*) FROM t",
    "temp_table_dropped": "CREATE TEMP TABLE mine AS SELECT 41 AS x; DROP TABLE mine | SELECT x FROM mine",
    "temp_table_rolled_back": "BEGIN; CREATE TEMP TABLE mine AS SELECT 41 AS x; ROLLBACK | SELECT x FROM mine",
    "temp_table_discarded": "CREATE TEMP TABLE mine AS SELECT 41 AS x; DISCARD TEMP | SELECT x FROM mine",
    "temp_table_in_do": "DO $$ BEGIN CREATE TEMP TABLE mine AS SELECT 41 AS x; END $$ | SELECT x FROM mine",
    "temp_table_dynamic": "SELECT dynamic_set('CREATE TEMP TABLE mine AS SELECT 41 AS x') | SELECT x FROM mine",
    "temp_view": "CREATE TEMP VIEW glance AS SELECT 41 AS x | SELECT x FROM glance",
    "temp_sequence": "CREATE TEMP SEQUENCE steps; SELECT nextval('steps') | SELECT nextval('steps')",
    "temp_function": "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 41' | SELECT pg_temp.f()",
    "currval": "SELECT setval('numbers', 500); SELECT nextval('numbers') IS NOT NULL | SELECT currval('numbers') > 0; SELECT lastval() > 0",
    "discard_sequences": "SELECT nextval('numbers') IS NOT NULL; DISCARD SEQUENCES | SELECT currval('numbers') > 0",
    "advisory_lock": "SELECT pg_advisory_lock(41) | SELECT pg_try_advisory_lock(41); SELECT pg_advisory_unlock(41)",
    "advisory_lock_try": "SELECT pg_try_advisory_lock(4, 1) | SELECT pg_try_advisory_lock(4, 1); SELECT pg_advisory_unlock(4, 1)",
    "advisory_lock_shared": "SELECT pg_advisory_lock_shared(41) | SELECT pg_try_advisory_lock_shared(41); SELECT pg_advisory_unlock_shared(41)",
    "advisory_lock_transaction": "BEGIN; SELECT pg_advisory_xact_lock(41); COMMIT | SELECT pg_try_advisory_xact_lock(41)",
    "advisory_lock_open": "BEGIN; SELECT pg_advisory_xact_lock(41) | SELECT pg_try_advisory_xact_lock(41)",
    "advisory_lock_rolled_back": "BEGIN; SELECT pg_advisory_lock(41); ROLLBACK | SELECT pg_advisory_unlock(41)",
    "advisory_lock_in_function": "SELECT lock_inside() | SELECT pg_try_advisory_xact_lock(41); SELECT pg_advisory_unlock(41)",
    "advisory_lock_in_do": "DO $$ BEGIN PERFORM pg_advisory_lock(41); END $$ | SELECT pg_try_advisory_xact_lock(41); SELECT pg_advisory_unlock(41)",
    "advisory_unlock_all": "SELECT pg_advisory_lock(41); SELECT pg_advisory_unlock_all() | SELECT pg_try_advisory_xact_lock(41)",
    "cursor_with_hold": "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id; COMMIT | FETCH c",
    "cursor_open": "BEGIN; DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id | FETCH c",
    "cursor_closed": "BEGIN; DECLARE c CURSOR FOR SELECT 1; COMMIT | FETCH c",
    "seed": "SELECT setseed(0.25) |",
    "large_object": "BEGIN; SELECT lo_open(lo_create({lo}), 131072) >= 0; COMMIT | SELECT loread(0, 10)",
}
EVERYBODY = (
    f"SELECT {SHOWN} FROM pg_catalog.pg_class WHERE relname = 'pg_class'",  # the workspace
    f"SELECT {SHOWN}",
    *(f"SELECT {SHOWN} FROM {{schema}}.t WHERE id = {key}" for key in range(1, 5)),  # both groups
)


def _ask(world: World, wire: Wire, questions: list[str]) -> list[object]:
    found: list[object] = []
    for number, question in enumerate(questions):
        mode = (Mode.SIMPLE, Mode.EXTENDED)[number % 2]
        for outcome in wire.run(question.replace("{schema}", world.schema), mode):
            found.append((question[:60], outcome.sqlstate, outcome.rows))
    return found


def _play(world: World, way: str, number: int, *, killed: bool) -> dict[str, list[Any]]:
    acts, _, asked = way.rpartition("|")
    filled = acts.replace("{other}", world.roles[1]).replace("{n}", str(number)).replace("{lo}", str(70_000 + number))
    questions = [part.strip() for part in asked.split(";") if part.strip()]
    first = world.connect(0)
    seen: dict[str, list[Any]] = {"acts": []}
    try:
        for act in _statements(filled):
            seen["acts"] += [(act, outcome.sqlstate) for outcome in first.run(act)]
        in_transaction = not first.idle
        for name, who, door in (("B beside A", 0, 0), ("B elsewhere", 0, 1), ("C beside A", 1, 0)):
            seen[name] = _once(world, who, questions, door)
        if not in_transaction:
            seen["A"] = _ask(world, first, [*EVERYBODY, *questions])
    finally:
        if killed:
            _kill(first)
        else:
            first.close()
    # A plain server may take a moment to notice that A is gone; what A leaves is asked of those who come later.
    for name, who, door in (("B after A", 0, 0), ("C after A", 1, 0), ("C elsewhere after A", 1, 1)):
        seen[name] = _once(world, who, [q for q in questions if "advisory" not in q and "setval" not in q], door)
    return seen


def _statements(acts: str) -> list[str]:
    """At semicolons, but for those of a DO."""
    return [acts] if acts.startswith("DO") else [part.strip() for part in acts.split(";") if part.strip()]


def _once(world: World, who: int, questions: list[str], door: int) -> list[object]:
    wire = world.connect(who, door=door)
    try:
        return _ask(world, wire, [*EVERYBODY, *questions])
    finally:
        wire.close()


def _kill(wire: Wire) -> None:
    """As if the client's process had died: no Terminate."""
    duplicate = socket.socket(fileno=os.dup(wire.connection.socket))
    duplicate.shutdown(socket.SHUT_RDWR)
    duplicate.close()
    wire.close()


# Dynamic SQL's own: nobody else sees it, but the client himself may lose it (docs/guide/limits.md).
UNKNOWN_TO_US = ("set_dynamic", "prepare_in_do")

# Killed in the middle of something, where that may differ from leaving in peace.
KILLED = (
    "set set_open_transaction set_local_in_function_kept set_role set_in_do temp_table advisory_lock advisory_lock_open "
    "advisory_lock_in_function cursor_with_hold cursor_open large_object"
).split()
PLAYED = [*((name, False) for name in WAYS), *((name, True) for name in KILLED)]


@pytest.mark.parametrize(("name", "killed"), PLAYED, ids=[f"{name}-killed" if dies else name for name, dies in PLAYED])
def test_state_is_its_clients_own(worlds: tuple[World, World], name: str, killed: bool) -> None:
    number = 2 * list(WAYS).index(name) + killed + 1
    plain, hanse = (_play(world, WAYS[name], number, killed=killed) for world in worlds)
    if name in UNKNOWN_TO_US:
        del plain["A"]
    if any(sqlstate == "0A000" for _, sqlstate in hanse["acts"]):  # what is refused leaves nothing
        del plain["acts"], plain["A"]
    wrong = []
    for who, expected in plain.items():
        for left, right in zip(expected, hanse[who], strict=True):
            if left != right:
                wrong.append(f"{who}: {_difference(left, right)}")
    assert not wrong, "\n".join(wrong)


def _difference(left: object, right: object) -> str:
    """Of two long rows only the values that differ."""
    if isinstance(left, tuple) and isinstance(right, tuple) and len(left) == len(right):
        return ", ".join(_difference(a, b) for a, b in zip(left, right, strict=True) if a != b)
    return f"plain {left!r} hanse {right!r}"


# What a client says when he connects.
STARTS: dict[str, dict[str, str]] = {
    "pgoptions": {"options": "-c app.a=start -c work_mem=5MB -c datestyle=German -c enable_seqscan=off"},
    "pgoptions_role": {"options": "-c role={other}"},
    "pgoptions_read_only": {"options": "-c default_transaction_read_only=on --statement_timeout=91s"},
    "client_encoding": {"client_encoding": "LATIN1"},
    "application_name": {"application_name": "mine"},
    "wrong": {"options": "-c work_mem=nonsense"},
}


@pytest.mark.parametrize("name", STARTS)
def test_what_a_client_starts_with_is_his_own(worlds: tuple[World, World], name: str) -> None:
    plain, hanse = (_play_start(world, STARTS[name]) for world in worlds)
    assert hanse == plain


def _play_start(world: World, given: dict[str, str]) -> dict[str, object]:
    questions = ["SHOW client_encoding"]
    start = {key: value.replace("{other}", world.roles[1]) for key, value in given.items()}
    try:
        first = world.connect(0, **start)  # type: ignore[arg-type]
    except ConnectionError as error:
        return {"refused": str(error).rpartition("FATAL:")[2].strip()}
    try:
        seen: dict[str, object] = {"A": _ask(world, first, [*_asked_of_all(world, start), *questions])}
        for who, door in ((0, 0), (0, 1), (1, 0), (1, 1)):
            seen[f"{who} beside A at {door}"] = _once(world, who, questions, door)
    finally:
        first.close()
    for who, door in ((0, 0), (1, 1)):
        seen[f"{who} after A at {door}"] = _once(world, who, questions, door)
    return seen


def _asked_of_all(world: World, start: dict[str, str]) -> list[str]:
    """PGOPTIONS take the place of the search path that `connect` gives."""
    return [question for question in EVERYBODY if "options" not in start or "{schema}" in question]


# What an administrator sets for those who come later: told by names that nothing else uses.
STANDING = {
    "role": "ALTER ROLE {me} SET work_mem = '5MB'; ALTER ROLE {me} SET app.standing = 'role'",
    "role_in_database": "ALTER ROLE {me} IN DATABASE {database} SET app.standing = 'both'; ALTER ROLE {me} SET app.standing = 'role'",
    "other_role": "ALTER ROLE {other} SET app.standing = 'other'; ALTER ROLE {other} SET search_path = 'pg_catalog'",
}
STANDING_RESET = (
    "ALTER ROLE {me} RESET ALL; ALTER ROLE {me} IN DATABASE {database} RESET ALL; ALTER ROLE {other} RESET ALL"
)
_SHOWN = (
    f"{SHOWN}, nullif(current_setting('app.standing', true), '')"  # where a connection is new: see gateway/standing.py
)
STANDING_ASKED = (
    f"SELECT {_SHOWN} FROM pg_catalog.pg_class WHERE relname = 'pg_class'",
    *(f"SELECT {_SHOWN} FROM {{schema}}.t WHERE id = {key}" for key in range(1, 5)),
)


@pytest.mark.parametrize("name", STANDING)
def test_standing_settings_are_for_those_who_come_later(worlds: tuple[World, World], name: str) -> None:
    plain, hanse = (_play_standing(world, STANDING[name]) for world in worlds)
    assert hanse == plain


NAMED = (
    "SELECT DISTINCT v FROM names",
    "SELECT min(v), max(v), count(*) FROM names",
    "SELECT v FROM names ORDER BY id LIMIT 1",
    "SELECT DISTINCT a.v FROM names a JOIN names b ON a.id = b.v",  # gathered
    "SHOW search_path",
    "SHOW work_mem",
    *(f"SELECT v, current_setting('work_mem') FROM names WHERE id = {key}" for key in range(1, 5)),
)


def test_names_mean_what_they_meant_when_the_session_began(worlds: tuple[World, World]) -> None:
    """Though the role has got another search_path since, and the connections for it that its next login leaves."""
    plain, hanse = (_play_names(world, sharded=world is worlds[1]) for world in worlds)
    assert hanse == plain
    assert plain["before"] == plain["after"] != plain["new"]


def _play_names(world: World, *, sharded: bool) -> dict[str, object]:
    role, home, other = world.roles[0], world.schema, f"{world.schema}_2"
    with psycopg.connect(world.server.dsn, autocommit=True) as admin:

        def run(sql: str) -> None:
            admin.execute(sql)  # type: ignore[call-overload]

        run(f"CREATE SCHEMA {other}")
        try:
            for number, schema in enumerate((home, other), 1):
                run(f"CREATE TABLE {schema}.names (id int PRIMARY KEY, v int)")
                if sharded:
                    run(f"SELECT create_distributed_table('{schema}.names', 'id')")
                run(f"INSERT INTO {schema}.names SELECT g, {number} FROM generate_series(1, 20) g")
                run(f"GRANT ALL ON SCHEMA {schema} TO {role}; GRANT ALL ON {schema}.names TO {role}")
            run(f"ALTER ROLE {role} IN DATABASE {world.server.database} SET search_path = {home}")

            def begin() -> Wire:
                return Wire(world.server.dsn_for(user=role, password=PASSWORD, options="-c timezone=UTC"))

            old, seen = begin(), {}
            seen["before"] = _ask(world, old, list(NAMED))
            run(f"ALTER ROLE {role} IN DATABASE {world.server.database} SET search_path = {other}")
            run(f"ALTER ROLE {role} SET work_mem = '5MB'")
            new = begin()
            seen["new"] = _ask(world, new, list(NAMED))
            seen["after"] = _ask(world, old, list(NAMED))
            old.close()
            new.close()
            return seen
        finally:
            run(f"ALTER ROLE {role} RESET ALL; ALTER ROLE {role} IN DATABASE {world.server.database} RESET ALL")
            run(f"DROP SCHEMA {other} CASCADE; DROP TABLE {home}.names")


def _play_standing(world: World, change: str) -> dict[str, object]:
    seen: dict[str, object] = {}
    names = {"me": world.roles[0], "other": world.roles[1], "database": world.server.database}
    doors = ((0, 0), (0, 1), (1, 0), (1, 1))
    first = world.connect(0)
    with psycopg.connect(world.server.dsn, autocommit=True) as admin:
        try:
            seen["A before"] = _ask(world, first, list(STANDING_ASKED))
            admin.execute(change.format(**names))  # type: ignore[call-overload]
            seen["A after"] = _ask(world, first, list(STANDING_ASKED))
            for who, door in doors:
                wire = world.connect(who, door=door)
                seen[f"{who} at {door}"] = _ask(
                    world, wire, [*STANDING_ASKED, "SET app.standing = 'own'", "RESET app.standing", *STANDING_ASKED]
                )
                wire.close()
        finally:
            admin.execute(STANDING_RESET.format(**names))  # type: ignore[call-overload]
        for who, door in doors:
            wire = world.connect(who, door=door)
            seen[f"{who} at {door} after all"] = _ask(world, wire, list(STANDING_ASKED))
            wire.close()
        first.close()
    return seen
