"""Errors as one server would have told them: shards' names become tables', positions move back to the client's text."""

from __future__ import annotations

import pytest

from hanse.catalog.model import Bound, ForeignKey, Kind, Relation, Shard, Snapshot, Strategy, UniqueKey
from hanse.core.errors import PgError
from hanse.gateway.shown import as_one_table, moved_back

LONG = "a_table_with_quite_a_long_name_that_is_cut_when_a_shard_is_named"


def _snapshot() -> Snapshot:
    relations = []
    for name, strategy, shards in (
        ("person", Strategy.HASH, ("person_p0", "person_p1")),
        ("visit", Strategy.RANGE, ("visit_p0", "old_visits")),
        (LONG[:63], Strategy.HASH, (LONG[:60] + "_p0",)),
    ):
        parts = tuple(
            Shard(schema="s", name=shard, group="g1", bound=Bound(modulus=len(shards), remainder=at))
            for at, shard in enumerate(shards)
        )
        keys = (
            UniqueKey(name="own_pkey", columns=("id",), primary=True),
            UniqueKey(name="pair", columns=("id", "Name")),
            UniqueKey(name="triple", columns=("id", "Name", "town")),
        )
        foreign = (
            ForeignKey(name="person_town_fkey", columns=("town",), referenced_schema="s", referenced_name="town",
                       referenced_columns=("code",)),
        )  # fmt: skip
        relations.append(
            Relation(schema="s", name=name, kind=Kind.SHARDED, strategy=strategy, key=("id",), key_types=(23,),
                     shards=parts, unique_keys=keys, foreign_keys=foreign)
        )  # fmt: skip
        relations += [
            Relation(schema="s", name=shard, kind=Kind.PARTITION, group="g1", parent=("s", name)) for shard in shards
        ]
    relations.append(Relation(schema="s", name="lone_p1", kind=Kind.SINGLE, group="g1"))
    return Snapshot(relations=tuple(relations), schemas=("public", "s"))


SNAPSHOT = _snapshot()


def _shown(state: str, message: str, text: str = "", detail: str | None = None, **fields: str) -> PgError:
    return as_one_table(PgError(state, message, detail=detail, fields=fields), SNAPSHOT, text.encode())


@pytest.mark.parametrize(
    ("shards", "detail", "tables"),
    [
        ("person_p1_pkey", "Key (id)=(1) already exists.", "own_pkey"),
        ("person_p1_pkey", None, "own_pkey"),
        ("person_p1_id_Name_key", 'Key (id, "Name")=(1, person_p1) already exists.', "pair"),
        ("person_p1_id_Name_key1", 'Key (id, "Name")=(1, x) already exists.', "pair"),
        ("person_p1_id_Name_key", None, "person_p1_id_Name_key"),  # which of two cannot be known
        ("own_pkey", "Key (id)=(1) already exists.", "own_pkey"),
        ("made_on_the_shard", "Key (id)=(1) already exists.", "made_on_the_shard"),
    ],
)
def test_unique(shards: str, detail: str | None, tables: str) -> None:
    message = 'duplicate key value violates unique constraint "{}"'
    shown = _shown("23505", message.format(shards), detail=detail, s="s", t="person_p1", n=shards)
    assert shown.message == message.format(tables) and shown.detail == detail
    assert (shown.fields["t"], shown.fields["n"]) == ("person", tables)


def test_other_violations() -> None:
    shown = _shown("23502", 'null value in column "x" of relation "person_p0"', s="s", t="person_p0", c="x",
                   detail="Failing row contains (1, \"person_p0\").")  # fmt: skip
    assert shown.message == 'null value in column "x" of relation "person"' and shown.fields["c"] == "x"
    assert shown.detail == 'Failing row contains (1, "person_p0").'
    broken = (
        'update or delete on table "person_p1" violates foreign key constraint "person_town_fkey2" on table "person"'
    )
    shown = _shown("23503", broken, s="s", t="person", n="person_town_fkey2",
                   detail='Key (id)=("person_p1") is still referenced from table "person_p0".')  # fmt: skip
    assert shown.message == broken.replace("_p1", "").replace("fkey2", "fkey")
    assert shown.detail == 'Key (id)=("person_p1") is still referenced from table "person_p0".'
    assert shown.fields["n"] == "person_town_fkey"


def test_names_in_sentences() -> None:
    assert _shown("42501", "permission denied for table person_p1").message == "permission denied for table person"
    assert _shown("42703", 'column "a" of relation "person_p1" does not exist').message.endswith(
        '"person" does not exist'
    )
    long = _shown("42501", f"permission denied for table {LONG[:60]}_p0")
    assert long.message == f"permission denied for table {LONG[:63]}"


def test_dependents_have_one_line_for_a_table() -> None:
    lines = [
        f"column m of table {name} depends on type mood" for name in ("person", "person_p0", "person_p1", "lone_p1")
    ]
    told = _shown("2BP01", "cannot drop type mood because other objects depend on it", detail="\n".join(lines))
    assert told.detail == "\n".join((lines[0], lines[3]))


def test_what_stays() -> None:
    denied = "permission denied for table {}"
    for name in ("visit_p0", "old_visits", "lone_p1", "nobody_p3", "xperson_p1"):
        assert _shown("42501", denied.format(name)).message == denied.format(name)
    assert _shown("42501", denied.format("person_p1"), "SELECT * FROM person_p1").message == denied.format("person_p1")
    value = 'invalid input syntax for type integer: "person_p1"'
    assert _shown("22P02", value).message == value


def test_positions() -> None:
    parts = [b"UPDATE person SET nope = ", b"1", b" WHERE id = ", b"2", b" AND nix"]
    sent = [b'UPDATE "s"."person_p1" AS person SET nope = ', b"$1", b" WHERE id = ", b"$2", b" AND nix"]
    text, ours = b"".join(parts).decode(), b"".join(sent).decode()
    for word in ("UPDATE", "nope", "WHERE", "id", "nix"):
        assert moved_back(ours.index(word) + 1, sent, parts) == text.index(word) + 1
    assert moved_back(ours.index("$2") + 1, sent, parts) == text.index("2") + 1
    assert moved_back(ours.index("person_p1") + 1, sent, parts) is None
    assert moved_back(len(ours) + 5, sent, parts) is None
