"""Code that runs inside one group (findings-gateway 2): what is legal gives PostgreSQL's answer, the rest is refused by name.

Every script runs on a plain PostgreSQL as well, where what places tables is left out.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from support.schemas import Schema
from support.servers import Cluster, Server

SHARDED, REFERENCE = "PARTITION BY HASH ({}) WITH (shards = 4)", "WITH (distribution = 'reference')"
_PLACING = re.compile(r"PARTITION BY HASH \(\w+\) WITH \(shards = 4\)|WITH \(distribution = 'reference'\)")
TABLES = f"""
CREATE TABLE cust (id bigint PRIMARY KEY, total bigint DEFAULT 0, orders bigint DEFAULT 0) {SHARDED.format("id")};
CREATE TABLE ords (cust_id bigint, id bigint, amount bigint, note text, PRIMARY KEY (cust_id, id))
    {SHARDED.format("cust_id")};
CREATE TABLE kinds (id bigint PRIMARY KEY, name text) {REFERENCE};
CREATE TABLE log (id serial PRIMARY KEY, what text);
CREATE TABLE one (id bigint PRIMARY KEY, v text);
INSERT INTO cust (id) SELECT g FROM generate_series(1, 20) g;
INSERT INTO kinds VALUES (0, 'even'), (1, 'odd');
"""


def function(body: str, *, name: str = "f", returns: str = "trigger", language: str = "plpgsql") -> str:
    return f"CREATE OR REPLACE FUNCTION {name}() RETURNS {returns} LANGUAGE {language} AS $f$ {body} $f$;"


def trigger(body: str, when: str = "AFTER INSERT", table: str = "ords") -> str:
    return (
        function(f"BEGIN {body}; RETURN COALESCE(NEW, OLD); END")
        + f"CREATE TRIGGER tr {when} ON {table} FOR EACH ROW EXECUTE FUNCTION f();"
    )


ORDERS = "INSERT INTO ords SELECT g % 20 + 1, g, g, 'n' || g FROM generate_series(1, 60) g;"
CHANGES = "UPDATE ords SET amount = amount + 1; DELETE FROM ords WHERE id % 7 = 0;"
COUNT = function("SELECT count(*) FROM ords", name="n", returns="bigint", language="sql").replace(
    "AS $f$", "STABLE AS $f$"
)

LEGAL = {
    "co-located rows": trigger(
        "UPDATE cust SET total = total + CASE TG_OP WHEN 'DELETE' THEN -OLD.amount ELSE NEW.amount END"
        " WHERE id = COALESCE(NEW.cust_id, OLD.cust_id)",
        "BEFORE INSERT",
    ).replace("COALESCE(NEW.cust_id, OLD.cust_id)", "NEW.cust_id")
    + ORDERS
    + "SELECT * FROM cust ORDER BY id",
    "the old row's": trigger(
        "UPDATE cust SET total = total - OLD.amount, orders = (SELECT count(*) FROM ords o WHERE o.cust_id = OLD.cust_id)"
        " WHERE cust.id = OLD.cust_id",
        "AFTER UPDATE OR DELETE",
    )
    + ORDERS
    + CHANGES
    + "SELECT * FROM cust ORDER BY id",
    "a co-located row is made": trigger(
        "INSERT INTO cust (id, total) VALUES (NEW.cust_id, 1) ON CONFLICT (id) DO UPDATE SET total = cust.total + 1"
    )
    + "INSERT INTO ords SELECT g, g, g FROM generate_series(11, 40) g; SELECT * FROM cust ORDER BY id",
    "a reference table is read": trigger(
        "NEW.note := (SELECT name FROM kinds WHERE id = NEW.id % 2)", "BEFORE INSERT OR UPDATE"
    )
    + ORDERS
    + CHANGES
    + "SELECT * FROM ords ORDER BY id",
    "a word that is a table's name": trigger("DECLARE log bigint := 1; BEGIN NEW.amount := log; END", "BEFORE INSERT")
    + ORDERS
    + "SELECT * FROM ords ORDER BY id",
    "constant dynamic SQL": trigger("EXECUTE 'SELECT name FROM kinds WHERE id = 0' INTO NEW.note", "BEFORE INSERT")
    + ORDERS
    + "SELECT * FROM ords ORDER BY id",
    "single tables together": trigger("INSERT INTO log (what) VALUES (NEW.v)", "AFTER INSERT", "one")
    + "INSERT INTO one SELECT g, g FROM generate_series(1, 5) g; SELECT * FROM log ORDER BY id",
    "a reference table's trigger": trigger("NEW.name := upper(NEW.name)", "BEFORE INSERT OR UPDATE", "kinds")
    + "INSERT INTO kinds VALUES (2, 'two'); UPDATE kinds SET name = name || 'x'; SELECT * FROM kinds ORDER BY id",
    "a rule": "CREATE RULE r AS ON INSERT TO ords DO ALSO UPDATE cust SET orders = orders + 1 WHERE id = NEW.cust_id;"
    "INSERT INTO ords VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3), (1, 4, 4); SELECT * FROM cust ORDER BY id",
    "functions in UPDATE": COUNT + ORDERS + "UPDATE ords SET amount = n(); SELECT * FROM ords ORDER BY id",
    "functions in DELETE": COUNT + ORDERS + "DELETE FROM ords WHERE id > n() - 10; SELECT * FROM ords ORDER BY id",
    "functions in VALUES": COUNT
    + ORDERS
    + "INSERT INTO ords VALUES (1, 100, n()), (2, 101, n()), (3, 102, n()); INSERT INTO ords VALUES (4, 103, n());"
    "INSERT INTO kinds VALUES (9, n()::text); SELECT * FROM ords, kinds ORDER BY 2, 5",
    "functions in INSERT … SELECT": COUNT
    + ORDERS
    + "INSERT INTO ords SELECT cust_id, id + 100, n() FROM ords; SELECT * FROM ords ORDER BY id",
    "functions in views": COUNT
    + ORDERS
    + "CREATE VIEW v AS SELECT id, n() AS n FROM one; INSERT INTO one VALUES (1, 'a'); SELECT * FROM v",
    "nested, standard bodies": COUNT
    + "CREATE FUNCTION m() RETURNS bigint STABLE BEGIN ATOMIC SELECT 2 * n(); END;"
    + ORDERS
    + "UPDATE ords SET amount = m() WHERE id < 30; SELECT * FROM ords ORDER BY id",
}


@pytest.fixture(scope="module")
def plain(plain_postgres: Server) -> Iterator[psycopg.Connection]:
    yield from prepared(plain_postgres, placing=False)


@pytest.fixture(scope="module")
def sharded(cluster: Cluster) -> Iterator[psycopg.Connection]:
    yield from prepared(cluster.server, placing=True)


def prepared(server: Server, *, placing: bool) -> Iterator[psycopg.Connection]:
    """A connection with the tables in a schema of its own; tests undo what they do to them."""
    schema = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET search_path = {schema}")
        for statement in statements(TABLES):
            connection.execute(statement if placing else _PLACING.sub("", statement))
        yield connection
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


def run(connection: psycopg.Connection, script: str) -> list[tuple[object, ...]]:
    with connection.transaction(force_rollback=True):
        for statement in statements(script):
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def statements(script: str) -> list[str]:
    """Cut at semicolons outside of $f$ … $f$ and BEGIN ATOMIC … END."""
    pieces = re.split(r"(\$f\$.*?\$f\$|BEGIN ATOMIC.*?END)", script, flags=re.DOTALL)
    marked = "".join(piece.replace(";", "\0") if not number % 2 else piece for number, piece in enumerate(pieces))
    return [part for part in marked.split("\0") if part.strip()]


@pytest.mark.parametrize("script", LEGAL.values(), ids=LEGAL.keys())
def test_legal(plain: psycopg.Connection, sharded: psycopg.Connection, script: str) -> None:
    assert run(sharded, script) == run(plain, script)


NAMED = 'trigger "tr" of table "ords"'
REFUSED = {
    "all rows": (trigger("NEW.amount := (SELECT count(*) FROM ords)", "BEFORE INSERT"), NAMED),
    "another key": (trigger("UPDATE cust SET total = 1 WHERE id = NEW.id"), NAMED),
    "a key that was changed": (
        trigger("NEW.cust_id := 5; UPDATE cust SET total = 1 WHERE id = NEW.cust_id", "BEFORE INSERT"),
        NAMED,
    ),
    "either of two keys": (trigger("UPDATE cust SET total = 1 WHERE id = NEW.cust_id OR id = 7"), NAMED),
    "a single table": (trigger("INSERT INTO log (what) VALUES ('x')"), NAMED),
    "a reference table": (trigger("UPDATE kinds SET name = 'x' WHERE id = 0"), NAMED),
    "dynamic SQL": (trigger("EXECUTE format('SELECT %s', NEW.id)"), NAMED),
    "nested calls": (COUNT + trigger("PERFORM n()"), NAMED),
    "a condition": (
        COUNT
        + function("BEGIN RETURN NEW; END")
        + "CREATE TRIGGER tr BEFORE INSERT ON ords FOR EACH ROW WHEN (n() > 3) EXECUTE FUNCTION f()",
        NAMED,
    ),
    "a view": ("CREATE VIEW v AS SELECT count(*) AS n FROM ords;" + trigger("PERFORM n FROM v"), NAMED),
    "another body, later": (
        trigger("NEW.amount := 1", "BEFORE INSERT") + function("BEGIN DELETE FROM log; RETURN NEW; END"),
        NAMED,
    ),
    "the changed rows": (
        function("BEGIN PERFORM count(*) FROM changed; RETURN NULL; END")
        + "CREATE TRIGGER tr AFTER INSERT ON ords REFERENCING NEW TABLE AS changed EXECUTE FUNCTION f()",
        NAMED,
    ),
    "a notification": (trigger("PERFORM pg_notify('c', 'x')"), NAMED),
    "a single table's trigger": (trigger("PERFORM count(*) FROM ords", table="one"), 'trigger "tr" of table "one"'),
    "sharded later": (
        "CREATE TABLE big (id bigint PRIMARY KEY);"
        + trigger("PERFORM count(*) FROM big", table="one")
        + "SELECT create_distributed_table('big', 'id')",
        'trigger "tr" of table "one"',
    ),
    "moved later": (
        trigger("INSERT INTO log (what) VALUES ('x')", table="one") + "ALTER TABLE log SET TABLESPACE g2",
        'trigger "tr" of table "one"',
    ),
    "copies that would differ": (
        trigger("NEW.name := now()::text", "BEFORE INSERT", "kinds"),
        'trigger "tr" of table "kinds"',
    ),
    "a default": (COUNT + "ALTER TABLE cust ALTER total SET DEFAULT n()", 'default of column "total" of table "cust"'),
    "a check": (COUNT + "ALTER TABLE cust ADD CONSTRAINT c CHECK (id > n())", 'check constraint "c" of table "cust"'),
    "a rule": ("CREATE RULE r AS ON INSERT TO ords DO ALSO DELETE FROM log", 'rule "r" of table "ords"'),
    "a policy": (
        "CREATE POLICY p ON ords USING (EXISTS (SELECT 1 FROM cust c WHERE c.id = ords.id))",
        'policy "p" of table "ords"',
    ),
}


@pytest.mark.parametrize(("script", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_by_name(sharded: psycopg.Connection, script: str, named: str) -> None:
    *before, last = statements(script)
    with sharded.transaction(force_rollback=True):
        for statement in before:
            sharded.execute(statement)
        with pytest.raises(psycopg.errors.FeatureNotSupported) as raised:
            sharded.execute(last)
    assert named in str(raised.value.diag.message_primary)
    assert raised.value.diag.message_hint
    sharded.execute("INSERT INTO log (what) VALUES ('x')")  # nothing of it has remained


def test_policies_over_co_located_tables(plain: psycopg.Connection, sharded: psycopg.Connection) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    script = f"""
    INSERT INTO ords SELECT g % 20 + 1, g, g FROM generate_series(1, 60) g;
    UPDATE cust SET total = id % 3;
    CREATE POLICY p ON ords USING (EXISTS (SELECT 1 FROM cust c WHERE c.id = ords.cust_id AND c.total = 1));
    ALTER TABLE ords ENABLE ROW LEVEL SECURITY;
    CREATE ROLE {role};
    GRANT USAGE ON SCHEMA {{schema}} TO {role};
    GRANT SELECT, UPDATE ON ords, cust TO {role};
    SET LOCAL ROLE {role};
    UPDATE ords SET amount = 0;
    SET LOCAL ROLE NONE;
    SELECT id, amount FROM ords ORDER BY id;
    """
    answers = []
    for connection in (plain, sharded):
        (schema,) = connection.execute("SELECT current_schema()").fetchone()  # type: ignore[misc]
        answers.append(run(connection, script.format(schema=schema)))
    assert answers[0] == answers[1]


def test_a_volatile_function_would_see_the_rows_so_far(sharded: psycopg.Connection) -> None:
    volatile = COUNT.replace("STABLE", "VOLATILE")
    with (
        pytest.raises(psycopg.errors.FeatureNotSupported, match='reads table "ords", which this statement changes'),
        sharded.transaction(force_rollback=True),
    ):
        run(sharded, volatile + "INSERT INTO ords VALUES (1, 1, n()), (2, 2, n())")


def test_names_are_found_by_the_sessions_path(cluster_schema: Schema) -> None:
    """A body without a search_path of its own means another table in another session."""
    name = cluster_schema.name
    with cluster_schema.connect() as connection:
        for statement in statements(TABLES + trigger("INSERT INTO log (what) VALUES ('x')", table="one")):
            connection.execute(statement)
        connection.execute("INSERT INTO one VALUES (1, 'a')")
        connection.execute(f"CREATE SCHEMA {name}_other")
        try:
            connection.execute(f"CREATE TABLE {name}_other.log (what text) PARTITION BY HASH (what) WITH (shards = 4)")
            connection.execute(f"SET search_path = {name}_other, {name}")
            with pytest.raises(psycopg.errors.FeatureNotSupported, match='would change table "log"'):
                connection.execute("INSERT INTO one VALUES (2, 'a')")
            connection.execute(f"ALTER FUNCTION {name}.f() SET search_path = {name}")
            connection.execute("INSERT INTO one VALUES (3, 'a')")
            assert connection.execute(f"SELECT count(*) FROM {name}.log").fetchone() == (2,)
        finally:
            connection.execute(f"DROP SCHEMA {name}_other CASCADE")
