"""The catalog on disk: the newest snapshot and the log of commands, in one SQLite file.

A command and the snapshot that it makes are written in one SQLite transaction (WAL, synchronous=FULL: a commit that was
answered survives a power cut). The log keeps what a schema-complete database needs to be made again; snapshots are not
kept, because each is the newest one's past and nobody asks for it.

**Outcomes.** A gateway proposes a schema change and may lose the answer. Whoever then asks gets a final truth: `settle`
answers True for a committed transaction, and for one that is not in the log it first writes that it shall never be.
So a proposal that arrives late, from a gateway that was only slow, is refused and cannot contradict an answer already
acted on. A proposal that is repeated with the same transaction id is answered with the version that it made the first
time.

This class blocks (fsync); the service calls it in a thread, one call at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec

from ..core.errors import PgError, UserMistake
from ..core.limits import DDL_LOG_PAGE_BYTES
from .commands import Command, CommitDdl, DdlEntry, apply, entry_of
from .model import Snapshot

FORMAT = "1"
FILE_NAME = "catalog.sqlite"

T = TypeVar("T")


class ControlStore:
    """The durable catalog. `fresh` or `clean` tell whether a former service may have left clients behind."""

    def __init__(self, directory: Path, initial: Snapshot) -> None:
        """Opens the store, or makes it with `initial`. Raises UserMistake when the files cannot be used."""
        self._path = directory / FILE_NAME
        self._broken = False
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.fresh = not self._path.exists()
        try:
            self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=1.0)
        except sqlite3.Error as error:
            raise UserMistake(f"{self._path} cannot be opened: {error}") from error
        try:
            self._open(initial)
        except BaseException:
            self._database.close()
            raise

    def _open(self, initial: Snapshot) -> None:
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second service on the same files must fail
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            if not self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                self._create(initial)
            self._check()
            self.clean = self._meta("clean") == "yes"
            self._set_meta("clean", "no")
        except sqlite3.Error as error:
            busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
            reason = "is in use by another process" if busy else f"is damaged: {error}"
            raise UserMistake(f"the catalog {self._path} {reason}") from error
        self.snapshot = self._read_snapshot()

    def _create(self, initial: Snapshot) -> None:
        schema = resources.files(__package__).joinpath("store.sql").read_text()
        body = msgspec.msgpack.encode(initial)
        statements = "\n".join(line for line in schema.splitlines() if not line.startswith("--")).split(";")
        with self._transaction():  # executescript() would commit
            for statement in statements:
                self._database.execute(statement)
            self._set_meta("format", FORMAT)
            row = (initial.version, body, zlib.crc32(body))
            self._database.execute("INSERT INTO snapshot VALUES (1, ?, ?, ?)", row)

    def _check(self) -> None:
        found = self._meta("format")
        if found != FORMAT:
            raise UserMistake(
                f"the catalog {self._path} has format {found}; this version of Hanse reads format {FORMAT}"
            )
        verdict = self._database.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise UserMistake(f"the catalog {self._path} is damaged: {verdict}")

    def _read_snapshot(self) -> Snapshot:
        row = self._database.execute("SELECT version, body, checksum FROM snapshot").fetchone()
        if row is None:
            raise UserMistake(f"the catalog {self._path} is damaged: it holds no snapshot")
        snapshot = self._decode(row[1], row[2], Snapshot)
        newest = self._database.execute("SELECT max(version) FROM log").fetchone()[0]
        if snapshot.version != row[0] or (newest is not None and newest != snapshot.version):
            raise UserMistake(f"the catalog {self._path} is damaged: its log and its snapshot differ")
        return snapshot

    # --- changes -----------------------------------------------------------------------------------------------------

    def append(self, command: Command) -> int:
        """Applies `command` durably; gives its version. Raises what `apply` raises, 40000 for a settled transaction,
        53100 or 58030 when the disk fails."""
        transaction_id = command.transaction_id if isinstance(command, CommitDdl) else None
        if transaction_id is not None:
            known = self._version_of(transaction_id)
            if known is not None:
                return known
            if self._is_aborted(transaction_id):
                raise PgError("40000", "the schema change was rolled back by recovery")
        changed = apply(self.snapshot, command)
        self._write(command, changed, transaction_id)
        self.snapshot = changed
        return changed.version

    def _write(self, command: Command, changed: Snapshot, transaction_id: str | None) -> None:
        if isinstance(command, CommitDdl):
            kind, logged = "ddl", msgspec.msgpack.encode(entry_of(command, changed.version))
        else:
            kind, logged = "topology", msgspec.msgpack.encode(command)
        body = msgspec.msgpack.encode(changed)
        with self._durably(), self._transaction():
            row = (changed.version, kind, transaction_id, logged, zlib.crc32(logged))
            self._database.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)
            self._database.execute(
                "UPDATE snapshot SET version = ?, body = ?, checksum = ?", (changed.version, body, zlib.crc32(body))
            )

    def settle(self, transaction_id: str) -> bool:
        """True: committed. False: it is not, and from now on it cannot be."""
        if self._version_of(transaction_id) is not None:
            return True
        with self._durably(), self._transaction():
            self._database.execute("INSERT OR IGNORE INTO aborted VALUES (?)", (transaction_id,))
        return False

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _durably(self) -> Iterator[None]:
        """Turns a disk's failure into a PgError. After one that leaves doubt nothing is written until a restart reads
        anew.
        """
        if self._broken:
            raise PgError("58030", "the catalog's store failed and must be restarted")
        try:
            yield
        except sqlite3.Error as error:
            self._broken = not self._is_unchanged()
            full = "full" in str(error)
            raise PgError("53100" if full else "58030", f"could not write the catalog: {error}") from error

    def _is_unchanged(self) -> bool:
        try:
            found: int = self._database.execute("SELECT version FROM snapshot").fetchone()[0]
        except sqlite3.Error:
            return False
        return found == self.snapshot.version

    # --- reading -----------------------------------------------------------------------------------------------------

    def outcome(self, transaction_id: str) -> bool:
        """Whether the transaction is in the log now. Only `settle` says something about later."""
        return self._version_of(transaction_id) is not None

    def look_up(self, transaction_id: str) -> str:
        """'c': it is in the log, 'a': it was settled that it never will be, '': neither."""
        if self.outcome(transaction_id):
            return "c"
        return "a" if self._is_aborted(transaction_id) else ""

    def ddl_log(self, since: int, *, bytes_max: int = DDL_LOG_PAGE_BYTES) -> tuple[DdlEntry, ...]:
        """The schema changes after version `since`, oldest first: a page of at least one, and about `bytes_max`
        bytes.
        """
        query = "SELECT body, checksum FROM log WHERE kind = 'ddl' AND version > ? ORDER BY version"
        entries: list[DdlEntry] = []
        size = 0
        for body, checksum in self._database.execute(query, (since,)):
            if entries and size + len(body) > bytes_max:
                break
            entries.append(self._decode(body, checksum, DdlEntry))
            size += len(body)
        return tuple(entries)

    def _version_of(self, transaction_id: str) -> int | None:
        row = self._database.execute("SELECT version FROM log WHERE transaction_id = ?", (transaction_id,)).fetchone()
        return None if row is None else int(row[0])

    def _is_aborted(self, transaction_id: str) -> bool:
        query = "SELECT 1 FROM aborted WHERE transaction_id = ?"
        return self._database.execute(query, (transaction_id,)).fetchone() is not None

    def _decode(self, body: bytes, checksum: int, kind: type[T]) -> T:
        if zlib.crc32(body) != checksum:
            raise UserMistake(f"the catalog {self._path} is damaged: a checksum is wrong")
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise UserMistake(f"the catalog {self._path} is damaged or of another version: {error}") from error

    def _meta(self, name: str) -> str | None:
        row = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, name: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def close(self, *, clean: bool) -> None:
        """`clean`: no client of this service can still believe in its lease."""
        with contextlib.suppress(sqlite3.Error):
            self._set_meta("clean", "yes" if clean else "no")
        self._database.close()
