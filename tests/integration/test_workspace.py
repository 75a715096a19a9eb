"""The workspace on a real server: the log's replay, slots and what queries see in them, races, and failures."""

from __future__ import annotations

import asyncio
import itertools
import os
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hanse.catalog.commands import DdlEntry
from hanse.catalog.model import Group, Instance, Kind, Node, Relation, Snapshot
from hanse.core.errors import PgError
from hanse.engines.postgres.copy_join import HEADER, TRAILER
from hanse.engines.postgres.loader import Loader
from hanse.engines.postgres.replay import as_client, as_system
from hanse.engines.postgres.slots import Slot
from hanse.engines.postgres.workspace import Workspace
from support import keeper

G1 = Group(name="g1", instances=(Instance(name="g1.1", node="n1", host="127.0.0.1", port=1),))
NODE = Node(name="n1", host="127.0.0.1", gateway_port=5432, labels={"region": "eu"})
SCHEMA = (
    "CREATE TABLE t (id bigint PRIMARY KEY, a int NOT NULL DEFAULT 7, note text, twice int GENERATED ALWAYS AS (a * 2)"
    " STORED, CONSTRAINT positive CHECK (a > 0), UNIQUE NULLS NOT DISTINCT (id, note)) PARTITION BY HASH (id)",
    "CREATE TABLE t_p0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE t_p1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "CREATE INDEX ON t ((1 / a))",
    "CREATE TABLE s (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t_id bigint REFERENCES t, x text NOT NULL)",
    "CREATE UNIQUE INDEX ON s (x) WHERE t_id IS NULL",
    "CREATE MATERIALIZED VIEW mv AS SELECT a, count(*) AS n FROM t GROUP BY a",
    "CREATE VIEW over_mv AS SELECT a FROM mv WHERE n > 1",
    "CREATE VIEW by_key AS SELECT id, note FROM t GROUP BY id",
    "INSERT INTO hanse.placement VALUES ('public.t'::regclass, 'sharded', NULL, NULL),"
    " ('public.t_p1'::regclass, 'partition', NULL, 'g2'), ('public.s'::regclass, 'single', 'g2', NULL)",
)


class Control:
    """A control plane that is a list."""

    def __init__(self) -> None:
        self.entries: list[DdlEntry] = []
        self.version = 0
        self.asked = 0

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(version=self.version, groups=(G1,), nodes=(NODE,))

    async def ddl_log(self, since: int) -> tuple[DdlEntry, ...]:
        self.asked += 1
        return tuple(entry for entry in self.entries if entry.version > since)

    def change(self, *statements: str, role: str = "hanse", **settings: str) -> int:
        self.version += 1
        entry = DdlEntry(
            version=self.version,
            transaction_id=f"x{self.version}",
            role=role,
            settings={"search_path": "public", **settings},
            statements=statements,
        )
        self.entries.append(entry)
        return self.version


class Site:
    """One server, any number of workers on it, a database name that no other test uses."""

    numbers = itertools.count()

    def __init__(self, server: dict[str, Any]) -> None:
        self.server = server
        self.control = Control()
        self.database = f"main{os.getpid()}x{next(self.numbers)}"
        self.workers: list[Workspace] = []

    async def worker(self, name: str = "0", **more: Any) -> Workspace:
        workspace = Workspace(
            self.server["host"],
            self.server["port"],
            None,
            self.server["password"],
            name,
            self.control,
            **{"user": self.server["user"], "database": self.database, "slots": 2, **more},
        )
        self.workers.append(workspace)
        await workspace.start()
        return workspace

    async def connect(self, database: str | None = None, user: str | None = None) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=self.server["host"],
            port=self.server["port"],
            user=user or self.server["user"],
            password=self.server["password"],
            database=database or self.database,
            timeout=10,
        )

    async def fetch(self, sql: str, database: str | None = None, user: str | None = None) -> list[tuple[Any, ...]]:
        connection = await self.connect(database, user)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def workspace_server(run_directory: Path) -> dict[str, Any]:
    """A server for roles to come and go, apart from the one that other tests use."""
    return keeper.ensure(run_directory, f"workspace-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}", "plain")


@pytest.fixture
async def site(workspace_server: dict[str, Any]) -> AsyncIterator[Site]:
    site = Site(workspace_server)
    yield site
    for workspace in site.workers:
        await workspace.stop()
    connection = await site.connect("postgres")
    await connection.execute(f"DROP DATABASE IF EXISTS {site.database} WITH (FORCE)")
    for row in await connection.fetch(r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'ws\_%'"):
        await connection.execute(f"DROP ROLE {row[0]}")
    await connection.execute("DROP TABLE IF EXISTS hanse_bootstrap_role")
    await connection.close()


def relation(name: str, schema: str = "public") -> Relation:
    return Relation(schema=schema, name=name, kind=Kind.SINGLE)


def field(value: int | str | None, size: int = 4) -> bytes:
    if value is None:
        return struct.pack("!i", -1)
    data = value.encode() if isinstance(value, str) else value.to_bytes(size, "big", signed=True)
    return struct.pack("!i", len(data)) + data


def stream(*rows: tuple[bytes, ...]) -> bytes:
    return HEADER + b"".join(struct.pack("!h", len(row)) + b"".join(row) for row in rows) + TRAILER


async def fill(loader: Loader, *sources: bytes) -> int:
    for source in sources:
        loader.begin_source()
        await loader.write(source)
        loader.end_source()
    return await loader.finish()


async def load_t(slot: Slot, *ids: int) -> None:
    await fill(await slot.load(relation("t"), ("id",)), stream(*((field(i, 8),) for i in ids)))
    await slot.ready()


# --- following the log -----------------------------------------------------------------------------------------------


async def test_main_follows_the_log_and_shows_the_cluster(site: Site) -> None:
    site.control.change(*SCHEMA)
    await site.worker()
    assert await site.fetch("SELECT version FROM hanse.applied") == [(1,)]
    tables = "SELECT schema, name, kind, strategy, key, shard_count, home_group FROM hanse.tables ORDER BY name"
    assert await site.fetch(tables) == [
        ("public", "mv", "matview", None, None, None, None),
        ("public", "s", "single", None, None, None, "g2"),
        ("public", "t", "sharded", "hash", ["id"], 2, None),
    ]
    shards = "SELECT schema, table_name, shard_schema, shard_name, bound, group_name FROM hanse.shards ORDER BY 4"
    assert await site.fetch(shards) == [
        ("public", "t", "public", "t_p0", "FOR VALUES WITH (modulus 2, remainder 0)", "g1"),
        ("public", "t", "public", "t_p1", "FOR VALUES WITH (modulus 2, remainder 1)", "g2"),
    ]
    assert await site.fetch("SELECT name, labels->>'region' FROM hanse.nodes") == [("n1", "eu")]
    assert await site.fetch("SELECT name, leader, instances->0->>'host' FROM hanse.groups") == [
        ("g1", "g1.1", "127.0.0.1")
    ]


async def test_one_of_an_earlier_version_learns_of_locations(site: Site) -> None:
    await (await site.worker()).stop()
    site.workers.clear()
    await site.fetch("ALTER TABLE hanse.groups DROP COLUMN location")
    site.control.version += 1
    await site.worker()
    assert await site.fetch("SELECT name, location::text FROM hanse.groups") == [("g1", "{}")]


async def test_statements_run_as_their_role(site: Site) -> None:
    await site.worker()
    site.control.change(
        f"CREATE ROLE ws_ann LOGIN PASSWORD '{site.server['password']}'", "CREATE SCHEMA ann AUTHORIZATION ws_ann"
    )
    version = site.control.change(
        "CREATE TABLE mine (x int)",
        as_system("CREATE TABLE public.ours (y int)"),
        as_client(as_system("CREATE TABLE ann.forged (y int)"), role="ws_ann", settings={}),
        as_client("CREATE TABLE elsewhere ()", role="hanse", settings={"search_path": "public"}),
        "CREATE TABLE mine_too ()",
        role="ws_ann",
        search_path="ann",
    )
    await site.workers[0].catch_up(version)
    owners = "SELECT relname, relowner::regrole::text FROM pg_class WHERE relname ~ '^(mine|ours|forged|else)'"
    assert dict(await site.fetch(owners)) == {
        "mine": "ws_ann",
        "ours": "hanse",
        "forged": "ws_ann",
        "elsewhere": "hanse",
        "mine_too": "ws_ann",
    }
    assert await site.fetch("SELECT 'public.elsewhere'::regclass::text") == [("elsewhere",)]
    assert await site.fetch("SELECT to_regclass('ann.mine') IS NOT NULL, to_regproc('hanse.replay')") == [(True, None)]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await site.fetch("DELETE FROM hanse.placement RETURNING 1", user="ws_ann")
    version = site.control.change("DROP SCHEMA ann CASCADE", "DROP ROLE ws_ann")
    await site.workers[0].catch_up(version)


@pytest.mark.parametrize("setting", ["'role', 'none'", "'session_authorization', 'hanse'", "'role', 'hanse'"])
async def test_code_of_a_role_cannot_become_the_superuser(site: Site, setting: str) -> None:
    workspace = await site.worker()
    site.control.change(
        "CREATE ROLE ws_eve", "CREATE SCHEMA eve AUTHORIZATION ws_eve", "CREATE TABLE public.gain (u text)"
    )
    await workspace.catch_up(1)
    body = f"BEGIN PERFORM set_config({setting}, false); INSERT INTO public.gain VALUES (current_user); RETURN 1; END"
    version = site.control.change(
        f"CREATE FUNCTION eve.f() RETURNS int LANGUAGE plpgsql STABLE AS $$ {body} $$",
        "CREATE TABLE eve.bait ()",
        "ALTER TABLE eve.bait ADD COLUMN x int DEFAULT eve.f()",  # evaluated at once
        role="ws_eve",
    )
    with pytest.raises(PgError, match="cannot follow schema change 2") as caught:
        await workspace.catch_up(version)
    assert "cannot set parameter" in str(caught.value.detail)
    assert await site.fetch("SELECT * FROM public.gain") == []


async def test_statements_of_the_system_may_change_their_role(site: Site) -> None:
    workspace = await site.worker()
    version = site.control.change(
        "CREATE ROLE ws_ann",
        "CREATE SCHEMA ann AUTHORIZATION ws_ann",
        "SELECT set_config('search_path', 'ann', true); SELECT set_config('role', 'ws_ann', true); CREATE TABLE mine ()",
        "RESET SESSION AUTHORIZATION; RESET ROLE; CREATE TABLE public.ours ()",
        role=site.server["user"],
    )
    await workspace.catch_up(version)
    owners = "SELECT relname, relowner::regrole::text FROM pg_class WHERE relname IN ('mine', 'ours')"
    assert dict(await site.fetch(owners)) == {"mine": "ws_ann", "ours": "hanse"}
    version = site.control.change("DROP SCHEMA ann CASCADE", "DROP ROLE ws_ann")
    await workspace.catch_up(version)


async def test_questions_survive_clones(site: Site) -> None:
    workspace = await site.worker(slots=1)
    for _ in range(3):
        assert (await workspace.query("SELECT $1::int + 1", 1))[0][0] == 2
        slot = await workspace.acquire(0)  # ends the idle session
        await slot._throw_away()
        await slot.release()
    with pytest.raises(PgError) as caught:
        await workspace.query("SELECT 1 / 0")
    assert caught.value.sqlstate == "22012"


async def test_workers_race_to_catch_up(site: Site) -> None:
    workers = [await site.worker(f"w{i}") for i in range(4)]
    for number in range(5):
        site.control.change(f"CREATE TABLE r{number} ()")
    await asyncio.gather(*(worker.catch_up(5) for worker in workers))
    assert await site.fetch("SELECT version FROM hanse.applied") == [(5,)]
    assert await site.fetch("SELECT count(*) FROM pg_class WHERE relname ~ '^r[0-4]$'") == [(5,)]
    asked = site.control.asked
    await workers[0].catch_up(5)
    assert site.control.asked == asked  # what is known is not asked again


async def test_catch_up_waits_for_a_change_on_this_node(site: Site) -> None:
    workspace = await site.worker()
    maker = await site.connect()
    transaction = maker.transaction()
    await transaction.start()
    await maker.execute("SELECT version FROM hanse.applied FOR UPDATE")
    await maker.execute("CREATE TABLE public.made_here ()")
    site.control.change("CREATE TABLE made_here ()")
    following = asyncio.create_task(workspace.catch_up(1))
    done, _ = await asyncio.wait({following}, timeout=0.2)
    assert not done
    await maker.execute("UPDATE hanse.applied SET version = 1")
    await transaction.commit()
    await following
    await maker.close()
    assert await site.fetch("SELECT version, to_regclass('public.made_here') IS NOT NULL FROM hanse.applied") == [
        (1, True)
    ]


async def test_a_change_whose_maker_died_is_replayed(site: Site) -> None:
    workspace = await site.worker()
    maker = await site.connect()
    await maker.execute("BEGIN; SELECT version FROM hanse.applied FOR UPDATE; CREATE TABLE public.made_here ()")
    site.control.change("CREATE TABLE made_here ()")
    following = asyncio.create_task(workspace.catch_up(1))
    await asyncio.sleep(0)
    maker.terminate()
    await following
    assert await site.fetch("SELECT version, to_regclass('public.made_here') IS NOT NULL FROM hanse.applied") == [
        (1, True)
    ]


async def test_a_log_that_does_not_fit_makes_main_anew(site: Site) -> None:
    workspace = await site.worker()
    site.control.change("CREATE ROLE ws_bob", "CREATE TABLE a ()")
    await workspace.catch_up(1)
    await site.fetch("CREATE TABLE public.b ()")  # somebody has been at it behind our back
    site.control.change("CREATE TABLE b (x int)")
    await workspace.catch_up(2)
    assert await site.fetch("SELECT version, to_regclass('a') IS NOT NULL FROM hanse.applied") == [(2, True)]
    assert await site.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'public.b'::regclass AND attnum > 0"
    ) == [("x",)]
    slot = await workspace.acquire(2)
    await slot.release()


async def test_a_log_that_never_fits_is_given_up(site: Site) -> None:
    workspace = await site.worker()
    site.control.change("CREATE TABLE a ()")
    site.control.change("CREATE EXTENSION this_does_not_exist")
    with pytest.raises(PgError, match="cannot follow schema change 2") as caught:
        await workspace.catch_up(2)
    assert caught.value.sqlstate == "XX000"
    asked = site.control.asked
    with pytest.raises(PgError, match="cannot follow schema change 2"):
        await workspace.catch_up(2)
    assert site.control.asked == asked
    await workspace.catch_up(1)
    assert await site.fetch("SELECT version FROM hanse.applied") == [(1,)]


async def test_main_of_another_life_is_made_anew(site: Site) -> None:
    site.control.change("CREATE TABLE old ()")
    await (await site.worker()).catch_up(1)
    site.control = Control()
    await site.worker("1")
    assert await site.fetch("SELECT version, to_regclass('old') FROM hanse.applied") == [(0, None)]


async def test_topology_is_refreshed_and_never_goes_back(site: Site) -> None:
    workspace = await site.worker()
    newer = Snapshot(version=9, groups=(G1,), nodes=(NODE, Node(name="n2", host="h", gateway_port=1)))
    await asyncio.gather(workspace.refresh(newer), workspace.refresh(Snapshot(version=8, groups=(G1,))))
    assert await site.fetch("SELECT name FROM hanse.nodes ORDER BY 1") == [("n1",), ("n2",)]


# --- slots -----------------------------------------------------------------------------------------------------------


async def test_rows_of_several_sources_are_queried_and_gone(site: Site) -> None:
    site.control.change(*SCHEMA)
    workspace = await site.worker()
    types = "SELECT 't'::regclass::oid, 't'::regtype::oid, 'mv'::regclass::oid, 'mv'::regtype::oid, 's'::regtype::oid"
    before = await site.fetch(types)
    slot = await workspace.acquire(1)
    t = await slot.load(relation("t"), ("id", "note", "twice"))
    rows = await fill(
        t,
        stream((field(1, 8), field("one"), field(10)), (field(2, 8), field(None), field(20))),
        stream((field(3, 8), field("three"), field(30))),
    )
    assert rows == 3
    # x is unique where t_id is null: t_id was not pulled; id is GENERATED ALWAYS, t_id refers to a row that is not here
    await fill(await slot.load(relation("s"), ("x",)), stream((field("same"),), (field("same"),)))
    await fill(await slot.load(relation("mv"), ("a", "n")), stream((field(5), field(2, 8)), (field(6), field(1, 8))))
    await slot.ready()
    sql = "SELECT id, a, note, twice FROM t ORDER BY id"
    assert await site.fetch(sql, slot.database) == [(1, None, "one", 10), (2, None, None, 20), (3, None, "three", 30)]
    assert await site.fetch("SELECT id, x FROM s", slot.database) == [(None, "same"), (None, "same")]
    assert await site.fetch("SELECT * FROM over_mv", slot.database) == [(5,)]
    assert len(await site.fetch("SELECT * FROM by_key", slot.database)) == 3
    assert await site.fetch(types, slot.database) == before
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await site.fetch("INSERT INTO s (x) VALUES ('lost') RETURNING 1", slot.database)
    await slot.release()
    counts = "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM s), (SELECT count(*) FROM mv)"
    assert await site.fetch(counts, slot.database) == [(0, 0, 0)]
    assert await site.fetch("SELECT relkind::text, count(*) FROM pg_class WHERE relname = 'mv' GROUP BY 1") == [
        ("m", 1)
    ]


@pytest.mark.parametrize(
    ("partitioning", "bounds"),
    [
        ("RANGE (k)", ("FROM (MINVALUE) TO (10)", "FROM (10) TO (MAXVALUE)")),
        ("LIST (k)", ("IN (1, 2)", "IN (3)")),
        ("HASH (k, v)", ("WITH (MODULUS 2, REMAINDER 0)", "WITH (MODULUS 2, REMAINDER 1)")),
    ],
)
async def test_every_strategy_takes_every_key(site: Site, partitioning: str, bounds: tuple[str, str]) -> None:
    parts = [f"CREATE TABLE p{i} PARTITION OF p FOR VALUES {bound}" for i, bound in enumerate(bounds)]
    default = [] if partitioning.startswith("HASH") else ["CREATE TABLE pd PARTITION OF p DEFAULT"]
    site.control.change(f"CREATE TABLE p (k int, v int) PARTITION BY {partitioning}", *parts, *default)
    slot = await (await site.worker()).acquire(1)
    await fill(await slot.load(relation("p"), ("k",)), stream(*((field(k),) for k in (1, 3, 99, None))))
    # A shard that is named is a table of its own, whichever comes first.
    await fill(await slot.load(relation("p0"), ("k", "v")), stream((field(1), field(7))))
    await slot.ready()
    assert await site.fetch("SELECT k FROM p ORDER BY k", slot.database) == [(1,), (3,), (99,), (None,)]
    assert await site.fetch("SELECT * FROM p0", slot.database) == [(1, 7)]
    await slot.release()
    assert await site.fetch("SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM p0)", slot.database) == [(0, 0)]


async def test_rows_without_columns(site: Site) -> None:
    site.control.change(*SCHEMA)
    slot = await (await site.worker()).acquire(1)
    for name in ("t", "s"):
        assert await fill(await slot.load(relation(name), ()), stream((), ()), stream(())) == 3
    await slot.ready()
    counts = "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM s), (SELECT count(*) FROM hanse.no_columns)"
    assert await site.fetch(counts, slot.database) == [(3, 3, 0)]
    await slot.release()
    assert await site.fetch(counts, slot.database) == [(0, 0, 0)]


async def test_a_shard_may_come_before_its_table(site: Site) -> None:
    site.control.change(*SCHEMA)
    slot = await (await site.worker()).acquire(1)
    await fill(await slot.load(relation("t_p1"), ("id",)), stream((field(1, 8),)))
    await fill(await slot.load(relation("t"), ("id",)), stream((field(1, 8),), (field(2, 8),)))
    await slot.ready()
    assert await site.fetch("SELECT count(*) FROM t", slot.database) == [(2,)]
    assert await site.fetch("SELECT count(*) FROM t_p1", slot.database) == [(1,)]
    await slot.release()


async def test_subpartitions_and_old_inheritance(site: Site) -> None:
    site.control.change(
        "CREATE TABLE p (k int, v int) PARTITION BY LIST (k)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (v)",
        "CREATE TABLE p1a PARTITION OF p1 FOR VALUES IN (1)",
        "CREATE TABLE parent (k int CHECK (k > 0))",
        "CREATE TABLE child (v int) INHERITS (parent)",
    )
    slot = await (await site.worker()).acquire(1)
    for name in ("p", "p1", "p1a", "child", "parent"):
        await fill(await slot.load(relation(name), ("k",)), stream((field(1),), (field(-1),)))
    await slot.ready()
    for name in ("p", "p1", "p1a", "child", "parent"):
        assert await site.fetch(f"SELECT count(*) FROM {name}", slot.database) == [(2,)], name
    await slot.release()


async def test_foreign_keys_between_sharded_tables(site: Site) -> None:
    site.control.change(
        *SCHEMA[:3],
        "CREATE TABLE u (id bigint, n int, PRIMARY KEY (id, n), FOREIGN KEY (id) REFERENCES t) PARTITION BY HASH (id)",
        "CREATE TABLE u0 PARTITION OF u FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "ALTER TABLE t ADD UNIQUE (id, a)",
        "CREATE TABLE self (id int PRIMARY KEY, up int REFERENCES self DEFERRABLE INITIALLY DEFERRED)",
    )
    workspace = await site.worker()
    for order in (("u", "t"), ("t", "u"), ("u0", "t_p0", "t", "u")):
        slot = await workspace.acquire(1)
        for name in order:
            await fill(await slot.load(relation(name), ("id",)), stream((field(1, 8),)))
        await fill(await slot.load(relation("self"), ("up",)), stream((field(77),)))
        await slot.ready()
        assert await site.fetch("SELECT count(*) FROM u JOIN t USING (id)", slot.database) == [(1,)]
        await slot._throw_away()  # the next order begins with a new clone
        await slot.release()


async def test_row_security_does_not_speak_twice(site: Site) -> None:
    site.control.change(
        f"CREATE ROLE ws_ann LOGIN PASSWORD '{site.server['password']}'",
        "CREATE TABLE secret (owner text NOT NULL, x int)",
        "ALTER TABLE secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "CREATE POLICY own ON secret USING (owner = current_user)",
        "GRANT SELECT ON secret TO ws_ann",
        "CREATE TABLE closed (x int)",
    )
    slot = await (await site.worker()).acquire(1)
    # The pull gave ann's rows; owner was not needed.
    await fill(await slot.load(relation("secret"), ("x",)), stream((field(1),), (field(2),)))
    await slot.ready()
    assert await site.fetch("SELECT sum(x) FROM secret", slot.database, "ws_ann") == [(3,)]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await site.fetch("SELECT * FROM closed", slot.database, "ws_ann")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await site.fetch("SELECT hanse.flatten('closed')", slot.database, "ws_ann")
    await slot.release()


async def test_triggers_never_fire(site: Site) -> None:
    site.control.change(
        "CREATE TABLE t (x int)",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$",
        "CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE TRIGGER b AFTER TRUNCATE ON t EXECUTE FUNCTION f()",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER a",
        "ALTER TABLE t ENABLE ALWAYS TRIGGER b",
    )
    slot = await (await site.worker()).acquire(1)
    generation = slot.generation
    assert await fill(await slot.load(relation("t"), ("x",)), stream((field(1),))) == 1
    await slot.ready()
    await slot.release()
    assert slot.usable and slot.generation == generation


async def test_rules_do_not_apply(site: Site) -> None:
    site.control.change(
        "CREATE TABLE t (x int)",
        "CREATE RULE keep AS ON DELETE TO t DO INSTEAD NOTHING",
        "ALTER TABLE t ENABLE ALWAYS RULE keep",
    )
    slot = await (await site.worker()).acquire(1)
    await fill(await slot.load(relation("t"), ("x",)), stream((field(1),)))
    await slot.ready()
    await slot.release()
    assert await site.fetch("SELECT count(*) FROM t", slot.database) == [(0,)]


async def test_small_queries_do_not_bloat_a_table(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanse.engines.postgres.slots.REMAINS_BYTES_MAX", 3000)
    site.control.change(*SCHEMA)
    workspace = await site.worker(slots=1)
    for _ in range(30):
        slot = await workspace.acquire(1)
        await load_t(slot, *range(100))
        assert await site.fetch("SELECT count(*) FROM t", slot.database) == [(100,)]
        await slot.release()
    size = "SELECT pg_relation_size((SELECT inhrelid FROM pg_inherits WHERE inhparent = 't'::regclass)) < 5 * 8192"
    assert await site.fetch(size, slot.database) == [(True,)]


async def test_statistics_do_not_outlive_a_query(site: Site) -> None:
    site.control.change(*SCHEMA)
    slot = await (await site.worker()).acquire(1)
    await load_t(slot, *range(1, 9000))
    assert await site.fetch("SELECT reltuples::int FROM pg_class WHERE relname = 't'", slot.database) == [(8999,)]
    assert await site.fetch("SELECT DISTINCT attname FROM pg_stats WHERE schemaname = 'public'", slot.database) == [
        ("id",)
    ]
    await slot.release()
    assert await site.fetch("SELECT attname FROM pg_stats WHERE schemaname IN ('public', 'hanse')", slot.database) == []


async def test_three_queries_at_once_see_their_own_rows(site: Site) -> None:
    site.control.change(*SCHEMA)
    one, two = await site.worker("1"), await site.worker("2")
    other_types = "SELECT 't'::regtype::oid"

    async def query(workspace: Workspace, ids: range) -> tuple[list[Any], list[Any]]:
        slot = await workspace.acquire(1)
        try:
            await load_t(slot, *ids)
            rows = await site.fetch("SELECT id FROM t ORDER BY id", slot.database)
            return rows, await site.fetch(other_types, slot.database)
        finally:
            await slot.release()

    for _ in range(2):  # cold, then warm
        answers = await asyncio.gather(query(one, range(5)), query(one, range(10, 20)), query(two, range(100, 101)))
        assert [rows for rows, _ in answers] == [
            [(i,) for i in ids] for ids in (range(5), range(10, 20), range(100, 101))
        ]
        assert len({str(types) for _, types in answers}) == 1


async def test_a_schema_change_makes_slots_anew(site: Site) -> None:
    site.control.change(*SCHEMA)
    workspace = await site.worker(slots=1)
    slot = await workspace.acquire(1)
    await load_t(slot, 1)
    await slot.release()
    generation = slot.generation
    site.control.version += 1  # a change of the topology: the schema is the same
    slot = await workspace.acquire(2)
    await slot.release()
    assert slot.generation == generation
    version = site.control.change("ALTER TABLE t ADD COLUMN more int")
    slot = await workspace.acquire(version)
    assert slot.generation == generation + 1
    assert await site.fetch("SELECT id, more FROM t", slot.database) == []
    await slot.release()
    with pytest.raises(PgError) as caught:
        await workspace.acquire(2)  # main has moved on
    assert caught.value.sqlstate == "40001"
    slot = await workspace.acquire(version)  # and the slot was given back
    await slot.release()


async def test_idle_sessions_of_main_are_ended_busy_ones_waited_for(site: Site) -> None:
    workspace = await site.worker()
    idle, busy = await site.connect(), await site.connect()
    await busy.execute("BEGIN; CREATE TABLE uncommitted ()")
    acquiring = asyncio.create_task(workspace.acquire(0))
    async with asyncio.timeout(10):
        while not idle.is_closed():
            await asyncio.sleep(0.01)
    assert not acquiring.done()
    await busy.execute("COMMIT")
    slot = await acquiring
    assert await site.fetch("SELECT to_regclass('uncommitted') IS NOT NULL", slot.database) == [(True,)]
    await slot.release()


async def test_slots_do_not_hold_roles(site: Site) -> None:
    site.control.change("CREATE ROLE ws_bob", "CREATE SCHEMA b AUTHORIZATION ws_bob", "CREATE TABLE b.t (x int)")
    site.control.change("GRANT SELECT ON b.t TO ws_bob")
    workspace = await site.worker()
    slot = await workspace.acquire(2)
    await fill(await slot.load(relation("t", "b"), ("x",)), stream((field(1),)))
    version = site.control.change("DROP SCHEMA b CASCADE", "DROP ROLE ws_bob")
    await workspace.catch_up(version)
    await slot.ready()
    assert await site.fetch("SELECT * FROM b.t", slot.database) == [(1,)]
    await slot.release()


# --- limits and failures ---------------------------------------------------------------------------------------------


async def test_waiting_for_a_slot(site: Site) -> None:
    workspace = await site.worker(slots=1, wait_s_max=0.05)
    slot = await workspace.acquire(0)
    with pytest.raises(PgError) as caught:
        await workspace.acquire(0)
    assert (caught.value.sqlstate, caught.value.hint is None) == ("53400", False)
    workspace._wait_s_max = 10
    waiting = [asyncio.create_task(workspace.acquire(0)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await slot.release()
    for task in (waiting[0], waiting[2]):
        await (await task).release()
    assert len(workspace._free) == 1


async def test_the_limit_of_bytes(site: Site) -> None:
    site.control.change(*SCHEMA)
    workspace = await site.worker(bytes_max=100_000)
    slot = await workspace.acquire(1)
    loader = await slot.load(relation("t"), ("id",))
    loader.begin_source()
    with pytest.raises(PgError) as caught:
        await loader.write(HEADER)
        for i in range(100):
            await loader.write(b"".join(struct.pack("!h", 1) + field(j, 8) for j in range(1000 * i, 1000 * i + 1000)))
    assert caught.value.sqlstate == "53400"
    generation = slot.generation
    await slot.release()
    assert slot.usable and slot.generation == generation
    assert await site.fetch("SELECT count(*) FROM t", slot.database) == [(0,)]


async def test_a_load_that_stops_halfway(site: Site) -> None:
    site.control.change(*SCHEMA)
    workspace = await site.worker(slots=1)
    slot = await workspace.acquire(1)
    await load_t(slot, 1, 2)
    loader = await slot.load(relation("t"), ("id",))
    loader.begin_source()
    await loader.write(stream(*((field(i, 8),) for i in range(10, 50_000)))[:-2])
    await slot.release()
    slot = await workspace.acquire(1)
    assert slot.generation == 1
    size = (
        "SELECT count(*), pg_relation_size((SELECT inhrelid FROM pg_inherits WHERE inhparent = 't'::regclass)) FROM t"
    )
    assert await site.fetch(size, slot.database) == [(0, 0)]
    await load_t(slot, 5)
    assert await site.fetch("SELECT id FROM t", slot.database) == [(5,)]
    await slot.release()


async def test_data_that_the_server_refuses(site: Site) -> None:
    site.control.change(*SCHEMA)
    slot = await (await site.worker()).acquire(1)
    loader = await slot.load(relation("t"), ("id",))
    with pytest.raises(PgError) as caught:
        await fill(loader, stream((field(1, 4),)))
    assert caught.value.sqlstate == "08P01"
    await slot.release()
    assert await site.fetch("SELECT count(*) FROM t", slot.database) == [(0,)]


async def test_the_loader_is_killed(site: Site) -> None:
    site.control.change(*SCHEMA)
    workspace = await site.worker(slots=1)
    slot = await workspace.acquire(1)
    await load_t(slot, 1)
    loader = await slot.load(relation("t"), ("id",))
    loader.begin_source()
    await loader.write(HEADER)
    killed = await site.fetch(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{slot.database}'", "postgres"
    )
    assert killed == [(True,)]
    rows = b"".join(struct.pack("!h", 1) + field(i, 8) for i in range(20_000))
    with pytest.raises(PgError) as caught:
        for _ in range(1000):
            await loader.write(rows)
    assert caught.value.sqlstate in ("57P01", "08006")
    await slot.release()
    slot = await workspace.acquire(1)
    assert slot.generation == 2
    assert await site.fetch("SELECT count(*) FROM t", slot.database) == [(0,)]
    await slot.release()


async def test_somebody_who_holds_a_lock_loses_his_connection(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanse.engines.postgres.slots.WORKSPACE_CLEAN_S_MAX", 0.2)
    monkeypatch.setattr("hanse.engines.postgres.slots.REMAINS_BYTES_MAX", 0)  # TRUNCATE waits for readers
    site.control.change(*SCHEMA)
    workspace = await site.worker(slots=1)
    slot = await workspace.acquire(1)
    await load_t(slot, 1)
    reader = await site.connect(slot.database)
    await reader.execute("BEGIN; SELECT * FROM t")
    await slot.release()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await reader.fetch("SELECT * FROM t")
    slot = await workspace.acquire(1)
    assert await site.fetch("SELECT count(*) FROM t", slot.database) == [(0,)]
    await slot.release()


async def test_release_goes_on_when_its_caller_is_cancelled(site: Site) -> None:
    site.control.change(*SCHEMA)
    workspace = await site.worker(slots=1)
    slot = await workspace.acquire(1)
    await load_t(slot, 1)
    releasing = asyncio.create_task(slot.release())
    await asyncio.sleep(0)
    releasing.cancel()
    slot = await workspace.acquire(1)
    assert await site.fetch("SELECT count(*) FROM t", slot.database) == [(0,)]
    assert slot.generation == 1
    await slot.release()


async def test_a_restarted_worker_begins_with_empty_slots(site: Site) -> None:
    site.control.change(*SCHEMA)
    dead = await site.worker("1")
    slot = await dead.acquire(1)
    await load_t(slot, 1)
    slot._connection.terminate()  # kill -9
    workspace = await site.worker("1")
    assert await site.fetch(f"SELECT count(*) FROM pg_database WHERE datname ~ '^{site.database}_ws_'", "postgres") == [
        (0,)
    ]
    again = await workspace.acquire(1)
    assert await site.fetch("SELECT count(*) FROM t", again.database) == [(0,)]
    await again.release()


# --- partial rows ----------------------------------------------------------------------------------------------------


async def test_partial_rows(site: Site) -> None:
    site.control.change(f"CREATE ROLE ws_ann LOGIN PASSWORD '{site.server['password']}'", "CREATE TABLE partial_1 ()")
    workspace = await site.worker(slots=1)
    columns = (("k", "integer"), ('odd "name"', "text"))
    names = []
    for round_ in range(3):
        slot = await workspace.acquire(None)
        loader = await slot.create_partial(columns)
        source = stream((field(round_), field("x")), (field(None), field(None)))
        assert await fill(loader, source, stream((field(7), field("y")))) == 3
        await slot.ready()
        sql = f'SELECT sum(k), max("odd ""name""") FROM {loader.name}'
        assert await site.fetch(sql, slot.database, "ws_ann") == [(round_ + 7, "y")]
        names.append(loader.name)
        await slot.release()
    assert names == ["hanse.partial_1"] * 3
    slot = await workspace.acquire(None)
    assert (await slot.create_partial((("k", "bigint"),))).name == "hanse.partial_2"
    await slot.release()
    assert slot.generation == 1


async def test_partial_tables_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanse.engines.postgres.slots.WORKSPACE_PARTIALS_PER_SLOT_MAX", 2)
    workspace = await site.worker(slots=1)
    for number in range(5):
        slot = await workspace.acquire(None)
        await fill(await slot.create_partial(((f"k{number}", "integer"),)), stream((field(1),)))
        await slot.release()
    left = "SELECT relname FROM pg_class WHERE relname ~ '^partial_' ORDER BY 1"
    assert await site.fetch(left, slot.database) == [("partial_4",), ("partial_5",)]
