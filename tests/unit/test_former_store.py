"""`catalog.former_store`: a catalog from before it was replicated is taken over whole, and damage looks like damage."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import msgspec
import pytest

from hanse.catalog.commands import CommitDdl, DdlEntry, SetTopology
from hanse.catalog.former_store import FILE_NAME, mark_adopted, read_former
from hanse.catalog.machine import Adopt, CatalogMachine, State, decode_outcome, encode
from hanse.catalog.model import Group, Instance, Kind, Relation, Snapshot
from hanse.core.errors import PgError, UserMistake

G1 = Group(name="g1", instances=(Instance(name="g1.1", node="n1", host="h", port=1),))
TABLE = Relation(schema="public", name="t", kind=Kind.SINGLE, group="g1")
SNAPSHOT = Snapshot(version=3, groups=(G1,), relations=(TABLE,))
ENTRIES = [
    DdlEntry(version=number, transaction_id=f"x{number}", role="hanse", settings={}, statements=(f"CREATE {number}",))
    for number in (1, 3)
]
TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE log (
    version INTEGER PRIMARY KEY, kind TEXT NOT NULL, transaction_id TEXT UNIQUE, body BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE aborted (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store with two schema changes, a topology between them, and an outcome that was settled; not closed."""
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(TABLES)
        database.executemany("INSERT INTO meta VALUES (?, ?)", [("format", "1"), ("clean", "no")])
        database.execute("INSERT INTO snapshot VALUES (1, 3, ?, ?)", _with_checksum(SNAPSHOT))
        for entry in ENTRIES:
            row = (entry.version, "ddl", entry.transaction_id, *_with_checksum(entry))
            database.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)
        topology = SetTopology(nodes=(), groups=(G1,))
        database.execute("INSERT INTO log VALUES (2, 'topology', NULL, ?, ?)", _with_checksum(topology))
        database.execute("INSERT INTO aborted VALUES ('never')")
    database.close()
    return tmp_path


def _with_checksum(value: msgspec.Struct) -> tuple[bytes, int]:
    body = msgspec.msgpack.encode(value)
    return body, zlib.crc32(body)


def propose(machine: CatalogMachine, command: CommitDdl | Adopt) -> int:
    return decode_outcome(machine.apply(1, encode(command))).value()


def test_everything_is_taken_over(directory: Path) -> None:
    former = read_former(directory)
    assert former is not None
    machine = CatalogMachine(Snapshot())
    assert propose(machine, Adopt(state=former)) == 3
    assert machine.catalog == SNAPSHOT
    assert machine.ddl_log(0) == tuple(ENTRIES)
    assert [machine.look_up(name) for name in ("x1", "x3", "never", "other")] == ["c", "c", "a", ""]
    assert machine.attended  # its clients' leases may last
    late = CommitDdl(transaction_id="never", expected_version=3, role="hanse")
    with pytest.raises(PgError, match="rolled back by recovery"):
        propose(machine, late)
    assert propose(machine, CommitDdl(transaction_id="x1", expected_version=0, role="hanse")) == 1  # proposed again
    assert propose(machine, CommitDdl(transaction_id="x4", expected_version=3, role="hanse")) == 4


def test_a_catalog_takes_over_nothing(directory: Path) -> None:
    former = read_former(directory)
    assert former is not None
    machine = CatalogMachine(Snapshot(version=7, groups=(G1,)))
    with pytest.raises(PgError) as caught:
        propose(machine, Adopt(state=former))
    assert (caught.value.sqlstate, machine.catalog.version) == ("55000", 7)


def test_it_is_read_once(directory: Path) -> None:
    assert isinstance(read_former(directory), State)
    mark_adopted(directory)
    assert read_former(directory) is None
    assert sorted(path.name for path in directory.iterdir()) == [f"{FILE_NAME}.adopted"]


def test_after_a_clean_end_nobody_is_waited_for(directory: Path) -> None:
    damage(directory, "UPDATE meta SET value = 'yes' WHERE name = 'clean'")
    former = read_former(directory)
    assert former is not None and not former.attended


def test_a_store_in_use_is_refused(directory: Path) -> None:
    with sqlite3.connect(directory / FILE_NAME) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("DELETE FROM aborted")
        database.commit()
        with pytest.raises(UserMistake, match="in use by another process"):
            read_former(directory)
    database.close()


def damage(directory: Path, sql: str) -> None:
    with sqlite3.connect(directory / FILE_NAME) as database:
        database.execute(sql)
    database.close()


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("UPDATE meta SET value = '99' WHERE name = 'format'", "has format 99"),
        ("UPDATE snapshot SET body = x'80'", "checksum"),
        ("UPDATE log SET checksum = checksum + 1", "checksum"),
        ("DELETE FROM snapshot", "holds no snapshot"),
        ("DELETE FROM log WHERE version = 3", "its log and its snapshot differ"),
        ("DROP TABLE meta", "is damaged"),
    ],
)
def test_damage_is_told_in_one_sentence(directory: Path, sql: str, sentence: str) -> None:
    damage(directory, sql)
    with pytest.raises(UserMistake, match=sentence):
        read_former(directory)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 1000)
    with pytest.raises(UserMistake, match="is damaged"):
        read_former(tmp_path)
