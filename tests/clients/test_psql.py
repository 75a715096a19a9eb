"""psql: its own queries of the catalog, its commands, and what it sends when Tab is pressed."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from clients.home import LETTERS, PEOPLE, Home
from support.servers import binary

CLIENT = "psql"
VERSION = subprocess.run([binary("psql"), "--version"], capture_output=True, text=True, check=True).stdout.split()[2]


def test_describe(home: Home) -> None:
    r"""`\d`, `\d+`, `\dt+`, `\di`, `\dv`, `\ds`"""
    assert home.psql(r"\d elder").startswith("id|bigint")
    out = home.run("psql", "-X", "-c", r"\d+ person")
    assert re.search(r'"person_pkey" PRIMARY KEY, btree \(id\)', out) and "in years" in out
    assert "Partition key: HASH (id)" in out and "Referenced by" in out
    assert re.findall(r"person_p\d FOR VALUES WITH \(modulus 4, remainder (\d)\)", out) == ["0", "1", "2", "3"]
    assert "distribution=reference" in home.run("psql", "-X", "-c", r"\d+ town")
    tables = {line.split("|")[1]: line.split("|")[2] for line in home.psql(r"\dt+").splitlines()}
    assert {tables[name] for name in ("person", "letter")} == {"partitioned table"}
    assert {tables[name] for name in ("town", "note", "person_p0")} == {"table"}
    assert "person_town" in home.psql(r"\di") and "elder" in home.psql(r"\dv") and "note_id_seq" in home.psql(r"\ds")


@pytest.mark.parametrize(
    "command", [r"\l", r"\l+", r"\du", r"\dn+", r"\dx", r"\db", r"\dconfig", r"\dC", r"\dT+", r"\dD"]
)
def test_lists(home: Home, command: str) -> None:
    r"""`\l`, `\du`, `\dn`, `\dx`, `\db`, `\dT` and other lists"""
    assert home.psql(command) or command == r"\dD"


def test_rights_and_functions(home: Home) -> None:
    r"""`\dp`, `\ddp`, `\df`, `\df+`, `\sf`, `\sv`"""
    home.psql("GRANT SELECT (id) ON person TO PUBLIC")
    assert "=r/" in home.psql(r"\dp person")
    home.psql(r"\ddp")
    assert "double|integer|x integer|func" in home.psql(r"\df double") and "sql" in home.psql(r"\df+ double")
    assert "SELECT x * 2" in home.psql(r"\sf double")
    assert home.psql(r"\sv elder").endswith("WHERE age > 50\n")


@pytest.mark.parametrize("table", ["person", "town", "note"])
def test_copy(home: Home, table: str, tmp_path: Path) -> None:
    r"""`\copy` to and from files, CSV and text, into sharded, reference and single tables"""
    for options in ("", "CSV HEADER"):
        file = tmp_path / "rows"
        home.psql(f"\\copy {table} TO '{file}' {options}")
        script = f"BEGIN;\n{'DELETE FROM letter; DELETE FROM person;' if table != 'note' else ''}DELETE FROM {table};\n"
        out = home.psql(
            f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)), count(*) FROM {table} t;\n{script}"
            f"\\copy {table} FROM '{file}' {options}\n"
            f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)), count(*) FROM {table} t;\nROLLBACK;\n"
        )
        before, after = (line for line in out.splitlines() if "|" in line)
        assert before == after


def test_watch(home: Home) -> None:
    r"""`\watch`"""
    out = home.psql("SELECT count(*) FROM person \\watch interval=0.01 count=3\n")
    assert [line for line in out.splitlines() if line.isdigit()] == [str(PEOPLE)] * 3


def test_results(home: Home) -> None:
    r"""`\gexec`, `\gset`, `\gdesc`, `\gx`, `\bind`, `\crosstabview`"""
    made = "SELECT format('SELECT name FROM person WHERE id = %s', id) FROM person WHERE id < 4 ORDER BY id \\gexec\n"
    assert home.psql(made).split("\n")[:3] == ["person 1", "person 2", "person 3"]
    assert home.psql("SELECT max(id) AS top FROM person \\gset\nSELECT :top + 1;\n").strip() == str(PEOPLE + 1)
    assert home.psql("SELECT id, mood FROM person \\gdesc\n").splitlines()[0] == "id|bigint"
    assert "name|person 5" in home.psql("SELECT name FROM person WHERE id = $1 \\bind 5 \\gx\n")
    crossed = home.psql("SELECT town, mood, count(*) FROM person GROUP BY 1, 2 ORDER BY 1, 2 \\crosstabview\n")
    assert crossed.splitlines() == ["HH|20||", "HL||20|", "TL|||20"]


def test_fetch_count(home: Home) -> None:
    """FETCH_COUNT, single-step variables, `-1`, ON_ERROR_ROLLBACK"""
    assert home.psql("SELECT count(*) FROM letter", "-1", "-v", "FETCH_COUNT=7").strip() == str(PEOPLE * LETTERS)
    text = "BEGIN;\nDELETE FROM letter WHERE person_id = 1;\nSELECT 1/0;\nSELECT count(*) FROM letter;\nROLLBACK;\n"
    out = home.psql(text, "-v", "ON_ERROR_ROLLBACK=on", "-v", "ON_ERROR_STOP=0", check=False)
    assert str((PEOPLE - 1) * LETTERS) in out.split()


def test_errors(home: Home) -> None:
    r"""errors: `\errverbose`, position, names of the table and not of its shards"""
    text = "INSERT INTO person (id, name) VALUES (1, 'x');\n\\errverbose\nUPDATE person SET nope = 1 WHERE id = 1;\n"
    out = home.psql(text, "-v", "ON_ERROR_STOP=0", check=False)
    assert "TABLE NAME:  person\n" in out and "CONSTRAINT NAME:  person_pkey\n" in out
    assert "LINE 1: UPDATE person SET nope = 1 WHERE id = 1;\n                          ^" in out
    assert "person_p" not in out.replace("person_pkey", "")


def _typed(home: Home, typed: str, expected: str) -> str:
    """What psql shows on a terminal when `typed` is entered, up to `expected` or five seconds."""
    ours, terminal = pty.openpty()
    environment = {**home.environment, "TERM": "dumb", "INPUTRC": "/dev/null", "PSQL_HISTORY": "/dev/null"}
    psql = subprocess.Popen(
        [binary("psql"), "-X"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    )
    os.close(terminal)
    shown, deadline, sent = "", time.monotonic() + 5, False
    while expected not in shown and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            shown += os.read(ours, 4096).decode(errors="replace").replace("\a", "")
        if not sent and shown.endswith("=# "):
            sent = os.write(ours, typed.encode()) > 0
    psql.kill()
    psql.wait()
    os.close(ours)
    return shown


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("SELECT * FROM lett\t", "letter"),
        ("SELECT * FROM person WHERE nam\t", "name "),
        ("UPDATE letter SET wei\t", "weight "),
        ("INSERT INTO tow\t", "town "),
        ("DROP VIEW eld\t", "elder "),
        ("ALTER TABLE person DROP CONSTRAINT age_\t", "age_is_sane "),
        ("ALTER TYPE mood RENAME VALUE 'gl\t", "'glad' "),
        ("SET search_pa\t", "search_path "),
        ("GRANT SELECT ON note TO pg_write_s\t", "pg_write_server_files "),
    ],
)
def test_tab(home: Home, typed: str, completed: str) -> None:
    """completion of tables, columns, constraints, enum values, settings and roles by Tab, on a terminal"""
    assert completed in _typed(home, typed, completed)
