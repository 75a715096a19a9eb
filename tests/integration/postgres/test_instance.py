"""An instance's life with a real server."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from hanse.config import SYSTEM_ROLE
from hanse.core.errors import UserMistake
from hanse.engines.postgres import initdb
from hanse.engines.postgres.binaries import find_binaries
from hanse.engines.postgres.bootstrap import Bootstrap
from hanse.engines.postgres.instance import Instance, InstanceSpec, StopMode, plain_instance
from hanse.engines.postgres.osuser import choose_user
from hanse.engines.postgres.postmaster import PortTaken
from hanse.engines.postgres.settings import group_profile, workspace_profile
from hanse.pgwire.verifier import make_verifier
from support.processes import free_ports, sweep, wait_until

SECRET = "s3cret"
GID = "hanse:1:043a718774c572bd8a25adbeb1bfcd5c0256ae11cecf9f9c3f925d0e52beaf89"  # ends in sha256('s')


class Made(NamedTuple):
    instance: Instance
    port: int

    def connect(self, user: str = "hanse", password: str = SECRET) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=user, password=password, dbname="hanse", autocommit=True
        )


@pytest.fixture
def directory(run_directory: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = run_directory / f"instance-{abs(hash(request.node.name)) % 10**8}"
    path.mkdir()
    yield path
    sweep(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_plain(directory: Path) -> Iterator[Callable[[str], Instance]]:
    made: list[Instance] = []

    def make(name: str) -> Instance:
        made.append(plain_instance(directory / name, port=free_ports(1)))
        return made[-1]

    yield make
    for instance in made:
        if instance.exists:
            instance.stop(StopMode.IMMEDIATE)


def make_hanse(directory: Path, profile_name: str) -> Made:
    profile = {"group": group_profile, "workspace": workspace_profile}[profile_name]()
    port = free_ports(1)
    spec = InstanceSpec(
        name="g1.1", directory=directory / "g1", profile=profile, port=port, log_file=directory / "g1.log"
    )
    instance = Instance(spec, find_binaries(), choose_user())
    verifier = make_verifier(SECRET)
    instance.create(Bootstrap(database="hanse", user="hanse", user_verifier=verifier, system_verifier=verifier))
    return Made(instance, port)


@pytest.mark.parametrize("profile", ["group", "workspace"])
def test_a_fresh_instance_holds_what_every_instance_holds(directory: Path, profile: str) -> None:
    made = make_hanse(directory, profile)
    made.instance.bring_up()
    try:
        with made.connect() as connection:
            check_content(connection)
            with connection.cursor() as cursor:
                cursor.execute("CREATE ROLE plain_user LOGIN PASSWORD 'pw'")
        with made.connect("plain_user", "pw") as connection:
            check_rights(connection)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            made.connect(password="wrong")
    finally:
        made.instance.stop()


def check_content(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    row = connection.execute(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba)"
        " FROM pg_database WHERE datname = 'hanse'"
    ).fetchone()
    assert row is not None
    assert row[:2] == ("UTF8", "C")
    assert row[3] == "hanse"
    assert connection.execute("SELECT lower('É'), current_setting('TimeZone')").fetchone() == ("é", "UTC")
    roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1").fetchall()
    assert roles == [("hanse",), (SYSTEM_ROLE,)]
    owners = connection.execute(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'hanse'::regnamespace"
    ).fetchall()
    assert owners == [(SYSTEM_ROLE,)]


def check_rights(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute("INSERT INTO hanse.gate SELECT 1 WHERE false")
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("INSERT INTO hanse.gate VALUES (1)")
    connection.execute("INSERT INTO hanse.commit_record (gid, secret) VALUES (%s, 's')", (GID,))
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO hanse.commit_record (gid, secret) VALUES (%s, 's')", (GID,))
    for secret in ("guess", None):
        with pytest.raises(psycopg.errors.CheckViolation, match="secret_of_transaction"):
            connection.execute("INSERT INTO hanse.commit_record (gid, secret) VALUES (%s, %s)", (GID, secret))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT hanse.record_abort('g')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM hanse.commit_record")


def test_a_tombstone_gives_way_to_a_decision(directory: Path) -> None:
    made = make_hanse(directory, "workspace")
    made.instance.bring_up()
    with made.connect() as connection:
        connection.execute("INSERT INTO hanse.commit_record (gid, secret) VALUES (%s, 's')", (GID,))
        connection.execute("SELECT hanse.record_abort(%s)", (GID,))
        connection.execute("SELECT hanse.record_abort('late')")
        rows = connection.execute("SELECT gid, outcome FROM hanse.commit_record ORDER BY outcome").fetchall()
    assert rows == [("late", "a"), (GID, "c")]
    made.instance.stop()


def test_groups_have_system_identifiers_of_their_own(directory: Path) -> None:
    found = set()
    for name in ("a", "b"):
        (directory / name).mkdir()
        made = make_hanse(directory / name, "group")
        with open(made.instance.directory / "global" / "pg_control", "rb") as file:
            found.add(file.read(8))
    assert len(found) == 2


def test_a_page_that_the_disk_has_changed_is_an_error_and_no_rows(directory: Path) -> None:
    made = make_hanse(directory, "group")
    made.instance.bring_up()
    with made.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT 'a text' AS c FROM generate_series(1, 100)")
        row = connection.execute("SELECT pg_relation_filepath('t')").fetchone()
    assert row is not None
    made.instance.stop()
    file = made.instance.directory / str(row[0])
    content = file.read_bytes()
    assert content.count(b"a text") == 100
    file.write_bytes(content.replace(b"a text", b"b text", 1))
    made.instance.bring_up()
    try:
        with made.connect() as connection, pytest.raises(psycopg.errors.DataCorrupted, match="invalid page"):
            connection.execute("SELECT c FROM t")
    finally:
        made.instance.stop()


def test_adopted_killed_started_again(make_plain: Callable[[str], Instance]) -> None:
    instance = make_plain("a")
    assert not instance.bring_up()
    first = instance.pid
    assert first is not None
    other = Instance(instance.spec, instance.binaries, instance.user)
    assert other.bring_up()
    assert other.pid == first
    os.kill(first, signal.SIGKILL)
    wait_until("the end", lambda: not other.is_alive())
    assert not other.adopt()
    other.bring_up()
    assert other.pid != first
    other.stop()
    assert not other.is_alive()
    assert not (other.directory / "postmaster.pid").exists()


def test_a_server_that_does_not_listen_to_signals_is_killed(make_plain: Callable[[str], Instance]) -> None:
    instance = make_plain("a")
    instance.bring_up()
    assert instance.pid is not None
    with psycopg.connect(host="127.0.0.1", port=instance.spec.port, user="postgres", dbname="postgres"):
        instance.stop(StopMode.SMART, timeout_s=0.2)  # smart waits for the client; harsher after that
    assert not instance.is_alive()


def test_a_taken_port(make_plain: Callable[[str], Instance], directory: Path) -> None:
    first = make_plain("a")
    first.bring_up()
    second = plain_instance(directory / "b", port=first.spec.port)
    with pytest.raises(PortTaken, match=f"port {first.spec.port}"):
        second.bring_up()
    assert not second.is_alive()


def test_data_of_another_version_and_of_another_owner(make_plain: Callable[[str], Instance]) -> None:
    instance = make_plain("a")
    version = instance.directory / "PG_VERSION"
    version.write_text("9.6\n")
    with pytest.raises(UserMistake, match=r"belong to PostgreSQL 9\.6, and the server in .* is PostgreSQL"):
        instance.bring_up()
    version.write_text(f"{instance.binaries.major}\n")
    if os.geteuid() == 0:
        os.chown(instance.directory, 12345, -1)
        with pytest.raises(UserMistake, match="belong to user 12345, and PostgreSQL would run as user"):
            instance.bring_up()
    shutil.rmtree(instance.directory)
    with pytest.raises(UserMistake, match="is not a PostgreSQL data directory"):
        instance.bring_up()


def test_no_disk_space(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(initdb.shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(UserMistake, match="no disk space: 1 MB are free in"):
        plain_instance(directory / "a", port=free_ports(1))
    assert os.listdir(directory) == []


def test_a_creation_that_fails_leaves_nothing(directory: Path) -> None:
    spec = InstanceSpec(
        name="g1.1", directory=directory / "g1", profile=workspace_profile(), port=1, log_file=directory / "log"
    )
    instance = Instance(spec, find_binaries(), choose_user())
    content = Bootstrap(database="postgres", user="hanse", user_verifier="v", system_verifier="v")
    with pytest.raises(UserMistake, match='database "postgres" already exists'):
        instance.create(content)
    assert os.listdir(directory) == []


@pytest.mark.parametrize("bindir", ["/nonexistent", "/usr/share"])
def test_no_server_there(bindir: str) -> None:
    with pytest.raises(UserMistake, match="there is no program postgres in"):
        find_binaries(bindir)


def test_a_broken_server(tmp_path: Path) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(UserMistake, match="does not say its version: broken"):
        find_binaries(tmp_path)
    (tmp_path / "postgres").chmod(0o644)
    with pytest.raises(UserMistake, match="cannot be executed: Permission denied"):
        find_binaries(tmp_path)
    (tmp_path / "postgres").chmod(0o755)
    (tmp_path / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n")
    with pytest.raises(UserMistake, match=r"holds PostgreSQL 9\.6\.24; Hanse needs 14 or later"):
        find_binaries(tmp_path)
