"""Values as large as PostgreSQL takes them, in and out: a worker holds two copies at most, and others have their turns meanwhile.

PostgreSQL's own end is at 1 GiB, more than a small machine has for all sides: HANSE_FUZZ_VALUE_BYTES gives the size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.abc import Query

from fuzz.conversation import Conversation, summary
from fuzz.test_fuzz_gateway import MEGABYTE, Worker, gateway, worker_of
from hanse.pgwire import frontend
from support.schemas import Schema
from support.servers import Cluster
from support.turns import turns_of

__all__ = ["gateway"]  # the fixture

SIZE = int(os.environ.get("HANSE_FUZZ_VALUE_BYTES", 48 * MEGABYTE))
COPIES_MAX = 2.3
COPIES_OF_ROW_MAX = 6  # of a row of COPY FROM, which is looked for in a stream
BESIDE = 24 * MEGABYTE
TURN_S_MAX = 0.2  # of CPU
VALUE = "v" * SIZE


@dataclass(frozen=True)
class Place:
    connection: psycopg.Connection
    schema: Schema
    worker: Worker


@pytest.fixture
def place(gateway: Schema, cluster: Cluster) -> Iterator[Place]:
    with gateway.connect() as connection:
        connection.execute("ALTER TABLE fuzz_t ALTER COLUMN v SET STORAGE EXTERNAL")
        yield Place(connection, gateway, worker_of(cluster))


def lengths(place: Place, query: Query = "SELECT id, length(v) FROM fuzz_t ORDER BY id") -> list[tuple[object, ...]]:
    return place.connection.execute(query).fetchall()


def by_parameter(place: Place) -> None:
    place.connection.execute("INSERT INTO fuzz_t VALUES (%s, %s)", (1, VALUE))


def by_binary_parameter_in_two_groups(place: Place) -> None:
    cursor = place.connection.execute("INSERT INTO fuzz_t VALUES (1, %b), (2, 'x'), (3, 'y'), (4, 'z')", (VALUE,))
    assert cursor.rowcount == 4
    place.connection.execute("DELETE FROM fuzz_t WHERE id > 1")


def by_literal(place: Place) -> None:
    quoted = "''" + VALUE[1:]
    place.connection.execute(f"""INSERT INTO "fuzz_t" (id, "v") VALUES (1, '{quoted}')""")  # type: ignore[call-overload]
    assert lengths(place, "SELECT left(v, 2) FROM fuzz_t") == [("'v",)]


def by_update_of_all_groups(place: Place) -> None:
    place.connection.execute("INSERT INTO fuzz_t SELECT g, 'x' FROM generate_series(1, 6) g")
    place.connection.execute("DELETE FROM fuzz_t WHERE id > 1")
    place.connection.execute("UPDATE fuzz_t SET v = %s", (VALUE,))


def by_copy(place: Place) -> None:
    with place.connection.cursor().copy("COPY fuzz_t FROM STDIN") as copy:
        copy.write("1\t")
        for start in range(0, SIZE, MEGABYTE):
            copy.write(VALUE[start : start + MEGABYTE])
        copy.write("\n")


def out(place: Place) -> None:
    for query in ("SELECT id, v FROM fuzz_t WHERE id = 1", "SELECT id, v FROM fuzz_t ORDER BY id"):
        row = place.connection.execute(query, binary=True).fetchone()
        assert row == (1, VALUE)
    with place.connection.cursor().copy("COPY (SELECT v FROM fuzz_t) TO STDOUT") as copy:
        assert sum(map(len, copy)) == SIZE + 1


def test_in_and_out(place: Place, cluster: Cluster) -> None:
    for way in (by_parameter, by_binary_parameter_in_two_groups, by_literal, by_update_of_all_groups, by_copy, out):
        copies = COPIES_OF_ROW_MAX if way is by_copy else COPIES_MAX
        if way is not out:
            place.connection.execute("TRUNCATE fuzz_t")
        with place.worker.peak() as peak, turns_of(cluster.server, place.worker.process.pid) as turns:
            way(place)
        assert lengths(place) == [(1, SIZE)], way
        assert peak.grown < copies * SIZE + BESIDE, way
        assert turns.longest_s < TURN_S_MAX, way


async def test_who_has_announced_all_that_a_worker_holds_keeps_others_waiting_until_he_goes(gateway: Schema) -> None:
    first, second = await Conversation.opened(gateway), await Conversation.opened(gateway)
    whole = frontend.query(b"SELECT length('" + b"x" * 2 * MEGABYTE + b"')")
    first.send(b"Q" + (0x3FFFFFFF).to_bytes(4, "big") + b"SELECT")
    await first.writer.drain()
    second.send(whole + frontend.query(b"SELECT 'over'"))
    with psycopg.connect(gateway.server.dsn) as other:  # short messages need no room
        assert other.execute("SELECT 1").fetchone() == (1,)
    await first.close()
    answers = summary(await second.answer(b"over"))
    assert answers.count("Z b'I'") == 2 and not any(answer.startswith("E") for answer in answers)
    await second.close()
