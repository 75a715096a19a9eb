# ruff: noqa: E501
"""Statements for one partition answer as if nothing had been named but the table (findings-gateway 14), and text compares alike
in every server (21).
"""

from __future__ import annotations

import psycopg

from support.differential import Comparison, difference
from support.schemas import on_both
from support.servers import Cluster, Server
from support.wire import Mode, Wire

STATEMENTS = """
SELECT {s}.us.name FROM {s}.us WHERE id = 3
SELECT us.name, us.* FROM us WHERE us.id = 3
SELECT us FROM us WHERE id = 3
SELECT pg_typeof(us)::text = '{s}.us' OR pg_typeof(us)::text = 'us' FROM us WHERE id = 3
SELECT row_to_json(us) FROM us WHERE id = 3
SELECT x.name FROM us x WHERE x.id = 3
SELECT us.name FROM us x WHERE x.id = 3
SELECT nothing FROM us WHERE id = 3
SELECT name FROM us WHERE id = 3 FOR UPDATE OF us
INSERT INTO us VALUES (3, 'again') ON CONFLICT ON CONSTRAINT us_pkey DO NOTHING
INSERT INTO us VALUES (3, 'again') ON CONFLICT ON CONSTRAINT us_pkey DO UPDATE SET name = us.name || excluded.name RETURNING us.name
INSERT INTO us VALUES (3, 'again')
INSERT INTO us VALUES (99, NULL)
UPDATE us SET name = us.name || '!' WHERE us.id = 3 RETURNING us
UPDATE us SET name = NULL WHERE id = 3
DELETE FROM us WHERE id = 4 RETURNING us.*, {s}.us.id
SELECT lower('ÉÄ'), 'a' < 'B', 'ä' > 'z', name FROM us WHERE name >= 'Z' ORDER BY name
"""
LOCALE = (
    "SELECT datcollate, datctype, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
)


def test_as_postgres(plain_postgres: Server, cluster: Cluster) -> None:
    setup = (
        "CREATE TABLE us (id int PRIMARY KEY, name text NOT NULL)",
        "INSERT INTO us SELECT g, chr(64 + g) || 'x' FROM generate_series(1, 40) g",
    )
    with on_both(plain_postgres, cluster, "named", setup, sharded="us") as schema:
        plain, ours = (
            Wire(server.dsn_for(options=f"-c search_path={schema}")) for server in (plain_postgres, cluster.server)
        )
        for sql in STATEMENTS.strip().splitlines():
            for mode in (Mode.SIMPLE, Mode.EXTENDED):
                text = sql.format(s=schema)
                expected, got = plain.run(text, mode), ours.run(text, mode)
                found = difference(expected, got, Comparison())
                assert found is None, f"{mode} {text}\n{found}"
        plain.close()
        ours.close()


def test_the_locale_is_no_environments(cluster: Cluster) -> None:
    for dsn in (cluster.dsn, *cluster.group_dsns().values()):
        with psycopg.connect(dsn) as connection:
            assert connection.execute(LOCALE).fetchone() == ("C", "C.UTF-8", "UTF8"), dsn
