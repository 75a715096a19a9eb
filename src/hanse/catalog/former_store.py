"""The catalog of a cluster from before it was replicated: one SQLite file, which is read once, for `machine.Adopt`.

Its tables: `meta` (name, value), `snapshot` (one row: version, body, checksum), `log` (version, kind, transaction_id, body,
checksum; of kind 'ddl' the body is a DdlEntry) and `aborted` (transaction_id). Checksums are CRC-32 of the bodies.
"""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path
from typing import TypeVar

import msgspec

from ..core.errors import UserMistake
from .commands import DdlEntry
from .machine import State
from .model import Snapshot

FORMAT = "1"
FILE_NAME = "catalog.sqlite"
ADOPTED_NAME = "catalog.sqlite.adopted"

T = TypeVar("T")


def read_former(directory: Path) -> State | None:
    """What the store holds; None where there is none. Raises UserMistake where it cannot be used."""
    path = directory / FILE_NAME
    if not path.exists():
        return None
    try:
        database = sqlite3.connect(path, timeout=1.0)
        try:
            return _read(database, path)
        finally:
            database.close()
    except sqlite3.Error as error:
        busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
        raise UserMistake(
            f"the catalog {path} is in use by another process" if busy else f"the catalog {path} is damaged: {error}"
        ) from error


def mark_adopted(directory: Path) -> None:
    """The file stays, under a name that nobody reads. Its WAL was written back when it was closed."""
    (directory / FILE_NAME).rename(directory / ADOPTED_NAME)


def _read(database: sqlite3.Connection, path: Path) -> State:
    meta = dict(database.execute("SELECT name, value FROM meta"))
    if meta.get("format") != FORMAT:
        raise UserMistake(f"the catalog {path} has format {meta.get('format')}; this version of Hanse reads {FORMAT}")
    verdict = database.execute("PRAGMA quick_check").fetchone()[0]
    if verdict != "ok":
        raise UserMistake(f"the catalog {path} is damaged: {verdict}")
    rows = database.execute("SELECT body, checksum FROM snapshot").fetchall()
    if len(rows) != 1:
        raise UserMistake(f"the catalog {path} is damaged: it holds no snapshot")
    ((body, checksum),) = rows
    snapshot = _decode(body, checksum, Snapshot, path)
    newest = database.execute("SELECT max(version) FROM log").fetchone()[0]
    if newest is not None and newest != snapshot.version:
        raise UserMistake(f"the catalog {path} is damaged: its log and its snapshot differ")
    logged = database.execute("SELECT body, checksum FROM log WHERE kind = 'ddl' ORDER BY version")
    known = database.execute("SELECT transaction_id, version FROM log WHERE transaction_id IS NOT NULL")
    return State(
        snapshot=snapshot,
        log=[_decode(body, checksum, DdlEntry, path) for body, checksum in logged],
        versions=dict(known),
        aborted=[row[0] for row in database.execute("SELECT transaction_id FROM aborted ORDER BY transaction_id")],
        attended=meta.get("clean") != "yes",
    )


def _decode(body: bytes, checksum: int, kind: type[T], path: Path) -> T:
    if zlib.crc32(body) != checksum:
        raise UserMistake(f"the catalog {path} is damaged: a checksum is wrong")
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise UserMistake(f"the catalog {path} is damaged or of another version: {error}") from error
