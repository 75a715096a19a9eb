"""`catalog.store`: what is durable, what is refused, and what damage looks like."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hanse.catalog.commands import CommitDdl, DdlEntry, SetTopology
from hanse.catalog.model import Group, Instance, Kind, Relation, Snapshot
from hanse.catalog.store import FILE_NAME, ControlStore
from hanse.core.errors import PgError, UserMistake

G1 = Group(name="g1", instances=(Instance(name="g1.1", node="n1", host="h", port=1),))
INITIAL = Snapshot(version=0, groups=(G1,))


def ddl(version: int, name: str = "", **more: object) -> CommitDdl:
    return CommitDdl(
        transaction_id=name or f"x{version}",
        expected_version=version,
        role="hanse",
        settings={"search_path": "public"},
        statements=(f"CREATE TABLE t{version} ()",),
        **more,  # type: ignore[arg-type]
    )


def test_commands_survive_a_restart(tmp_path: Path) -> None:
    relation = Relation(schema="public", name="t", kind=Kind.SINGLE, group="g1")
    store = ControlStore(tmp_path, INITIAL)
    assert store.fresh
    assert store.append(ddl(0)) == 1
    assert store.append(SetTopology(nodes=(), groups=(G1,))) == 2
    assert store.append(ddl(2, relations=(relation,))) == 3
    store.close(clean=True)

    again = ControlStore(tmp_path, Snapshot(version=0, database="ignored"))
    assert (again.fresh, again.clean) == (False, True)
    assert (again.snapshot.version, again.snapshot.database, again.snapshot.relations) == (3, "hanse", (relation,))
    entry = DdlEntry(
        version=1,
        transaction_id="x0",
        role="hanse",
        settings={"search_path": "public"},
        statements=("CREATE TABLE t0 ()",),
    )
    assert again.ddl_log(0)[0] == entry
    assert [e.version for e in again.ddl_log(0)] == [1, 3]
    assert [e.version for e in again.ddl_log(1)] == [3]
    assert again.ddl_log(3) == ()
    assert [e.version for e in again.ddl_log(0, bytes_max=1)] == [1]
    again.close(clean=False)


def test_a_store_that_was_not_closed_is_not_clean(tmp_path: Path) -> None:
    store = ControlStore(tmp_path, INITIAL)
    store._database.close()  # as a killed process does
    again = ControlStore(tmp_path, INITIAL)
    assert not again.clean
    again.close(clean=False)


def test_a_refused_command_leaves_nothing(tmp_path: Path) -> None:
    store = ControlStore(tmp_path, INITIAL)
    with pytest.raises(PgError, match="changed meanwhile"):
        store.append(ddl(5))
    assert (store.snapshot.version, store.outcome("x5"), store.ddl_log(0)) == (0, False, ())
    store.close(clean=True)


def test_a_repeated_proposal_gives_its_first_version(tmp_path: Path) -> None:
    store = ControlStore(tmp_path, INITIAL)
    assert store.append(ddl(0, "a")) == 1
    assert store.append(ddl(1, "b")) == 2
    assert store.append(ddl(0, "a")) == 1
    assert (store.snapshot.version, store.outcome("a"), store.settle("a")) == (2, True, True)
    store.close(clean=True)


def test_a_settled_transaction_can_never_commit(tmp_path: Path) -> None:
    store = ControlStore(tmp_path, INITIAL)
    assert store.outcome("late") is False
    assert store.settle("late") is False
    assert store.settle("late") is False
    store.close(clean=True)
    again = ControlStore(tmp_path, INITIAL)
    with pytest.raises(PgError) as caught:
        again.append(ddl(0, "late"))
    assert caught.value.sqlstate == "40000"
    assert again.append(ddl(0, "other")) == 1
    again.close(clean=True)


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    store = ControlStore(tmp_path, INITIAL)
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    wide = Relation(schema="public", name="w" * 100_000, kind=Kind.SINGLE, group="g1")
    with pytest.raises(PgError) as caught:
        store.append(ddl(0, relations=(wide,)))
    assert caught.value.sqlstate == "53100"
    assert (store.snapshot.version, store.outcome("x0")) == (0, False)
    store._database.execute("PRAGMA max_page_count = 100000")
    assert store.append(ddl(0, relations=(wide,))) == 1
    store.close(clean=True)


def test_two_services_cannot_use_one_store(tmp_path: Path) -> None:
    store = ControlStore(tmp_path, INITIAL)
    with pytest.raises(UserMistake, match="in use by another process"):
        ControlStore(tmp_path, INITIAL)
    store.close(clean=True)


def damage(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(sql)
    database.close()


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("UPDATE meta SET value = '99' WHERE name = 'format'", "has format 99"),
        ("UPDATE snapshot SET body = x'80'", "checksum"),
        ("UPDATE snapshot SET checksum = checksum + 1", "checksum"),
        ("DELETE FROM snapshot", "holds no snapshot"),
        ("DELETE FROM log WHERE version = 2", "its log and its snapshot differ"),
        ("DROP TABLE meta", "is damaged"),
    ],
)
def test_damage_is_told_in_one_sentence(tmp_path: Path, sql: str, sentence: str) -> None:
    store = ControlStore(tmp_path, INITIAL)
    store.append(ddl(0))
    store.append(ddl(1))
    store.close(clean=True)
    damage(tmp_path / FILE_NAME, sql)
    with pytest.raises(UserMistake, match=sentence):
        ControlStore(tmp_path, INITIAL)


@pytest.mark.parametrize("content", [b"not a database" * 1000, None])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / FILE_NAME
    if content is None:  # cut in the middle
        store = ControlStore(tmp_path, INITIAL)
        for version in range(50):
            store.append(ddl(version))
        store.close(clean=True)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(UserMistake, match="is damaged"):
        ControlStore(tmp_path, INITIAL)
