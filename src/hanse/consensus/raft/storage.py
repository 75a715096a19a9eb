"""The log on disk: one SQLite file, one synchronous transaction for each `Persist`.

WAL and `synchronous = FULL`: a batch costs one fsync, and what was written survives a power cut. A crash leaves a batch whole
or not at all, by SQLite's own recovery.

**Nothing is lost silently.** A node that forgets a vote or an entry that others count on breaks the cluster's promises, so a
storage that is not certainly what it was is refused, with words that say what to do. Entries are chained by checksums; the
summary has the first and the last, and is checked itself. SQLite recovers from a damaged WAL file by leaving out what comes
after the damage, which would be silent: therefore the number of the last transaction is also kept in a file beside it, written
after each transaction and without fsync. It may be behind; when it is ahead, something that was answered for is gone.

After a write that failed, nobody knows what is on disk (fsync errors are reported once): the storage takes nothing more,
and its node must start again from what it finds.

This class blocks; the driver calls it in a thread, one call at a time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec

from ...core.errors import PgError, UserMistake
from .messages import Entry, HardState, Kind, Persist, Snapshot
from .saved import Saved

FORMAT = "1"
FILE_NAME = "raft.sqlite"
COUNT_NAME = "raft.count"
_COUNT = struct.Struct("!QI")  # the number of the last transaction, and its CRC-32

T = TypeVar("T")


class DamagedStorage(UserMistake):
    """The node's log is not what it was. It must not take part with it; its disk, or a copy of the log, is to blame."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the log of the control plane {path} is damaged: {reason}. "
            "Do not start this node with it: remove the node from the cluster and let it join anew"
        )


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`count` is the number of transactions; checksums are those of the entries at the two ends."""

    count: int
    hard_state: HardState
    snapshot_index: int
    base_index: int
    base_term: int
    base_checksum: int
    last_index: int
    last_checksum: int
    led: int = 0  # see Saved


class Storage:
    def __init__(self, directory: Path, node: str, initial: Saved) -> None:
        """Opens the log of `node`, or makes it with `initial`. Raises UserMistake, DamagedStorage."""
        self._path = directory / FILE_NAME
        self._node = node
        self._broken = False
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        count_file = os.open(directory / COUNT_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=1.0)
        except sqlite3.Error as error:
            os.close(count_file)
            raise UserMistake(f"{self._path} cannot be opened: {error}") from error
        self._count_file = count_file
        try:
            self.saved = self._open(initial)
        except sqlite3.Error as error:
            self.close()
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise UserMistake(f"{self._path} is in use by another process") from error
            raise DamagedStorage(self._path, str(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        os.close(self._count_file)

    def write(self, persist: Persist) -> None:
        """Makes `persist` durable. Raises PgError 53100 or 58030, after which nothing more is taken."""
        self._put_down(lambda: self._write(persist))

    def note_led(self) -> None:
        """The node leads, in the term that was written last, and ends in order: this is its last write. Raises as `write`."""
        self._put_down(self._write_led)

    def _put_down(self, write: Callable[[], Summary]) -> None:
        if self._broken:
            raise PgError("58030", "the log of the control plane failed; its node must start again")
        try:
            summary = write()
        except sqlite3.Error as error:
            self._broken = True
            full = "full" in str(error)
            message = f"could not write the log of the control plane: {error}"
            raise PgError("53100" if full else "58030", message) from error
        self._summary = summary
        self._write_count(summary.count)

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open(self, initial: Saved) -> Saved:
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second node on the same files must fail
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        counted = self._read_count()
        if not self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            if counted:
                raise DamagedStorage(self._path, f"it is empty and had {counted} transactions")
            self._create(initial)
            counted = 0
        self._check()
        saved = self._load()
        if counted is None:
            raise DamagedStorage(self._path, f"{COUNT_NAME} does not belong to it")
        if counted > self._summary.count:
            lost = counted - self._summary.count
            raise DamagedStorage(self._path, f"the last {lost} of {counted} transactions are missing")
        return saved

    def _create(self, initial: Saved) -> None:
        schema = resources.files(__package__).joinpath("storage.sql").read_text()
        statements = "\n".join(line for line in schema.splitlines() if not line.startswith("--")).split(";")
        self._summary = Summary(
            count=0,
            hard_state=initial.hard_state,
            snapshot_index=initial.snapshot.index,
            base_index=initial.base_index,
            base_term=initial.base_term,
            base_checksum=0,
            last_index=initial.base_index,
            last_checksum=0,
        )
        self._write_count(0)  # before the file that it belongs to
        os.fsync(self._count_file)
        with self._transaction():  # executescript() would commit
            for statement in statements:
                self._database.execute(statement)
            for row in (("format", FORMAT), ("node", self._node)):
                self._database.execute("INSERT INTO meta VALUES (?, ?)", row)
            self._put("snapshot", msgspec.msgpack.encode(initial.snapshot))
            if initial.entries:
                self._summary = self._write_entries(initial.entries, self._summary)
            self._put("summary", msgspec.msgpack.encode(self._summary))

    def _check(self) -> None:
        verdict = self._database.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise DamagedStorage(self._path, str(verdict))
        meta = dict(self._database.execute("SELECT name, value FROM meta"))
        if meta.get("format") != FORMAT:
            raise UserMistake(f"{self._path} has format {meta.get('format')}; this version of Hanse reads {FORMAT}")
        if meta.get("node") != self._node:
            raise UserMistake(f"{self._path} is the log of {meta.get('node')}, not of {self._node}")

    def _load(self) -> Saved:
        summary = self._summary = self._get("summary", Summary)
        snapshot = self._get("snapshot", Snapshot)
        if snapshot.index != summary.snapshot_index:
            raise DamagedStorage(self._path, "its snapshot is another one")
        entries = tuple(self._entries(summary))
        return Saved(
            hard_state=summary.hard_state,
            snapshot=snapshot,
            base_index=summary.base_index,
            base_term=summary.base_term,
            entries=entries,
            led=summary.led,
        )

    def _entries(self, summary: Summary) -> Iterator[Entry]:
        index, chain = summary.base_index, summary.base_checksum
        for position, term, kind, data, checksum in self._database.execute("SELECT * FROM log ORDER BY position"):
            index += 1
            if position != index:
                raise DamagedStorage(self._path, f"entry {index} is missing")
            try:
                entry = Entry(position, term, Kind(kind), bytes(data))
                chain = chained(entry, chain)
            except (TypeError, ValueError, struct.error):
                chain = -1
            if chain != checksum:
                raise DamagedStorage(self._path, f"entry {index} is not what was written")
            yield entry
        if (index, chain) != (summary.last_index, summary.last_checksum):
            raise DamagedStorage(self._path, f"it ends at entry {index}, and had {summary.last_index}")

    # --- rows --------------------------------------------------------------------------------------------------------

    def _write(self, persist: Persist) -> Summary:
        summary = msgspec.structs.replace(
            self._summary,
            count=self._summary.count + 1,
            hard_state=persist.hard_state or self._summary.hard_state,
            led=0,
        )
        with self._transaction():
            if persist.snapshot is not None:
                summary = self._write_snapshot(persist, persist.snapshot, summary)
            if persist.entries:
                summary = self._write_entries(persist.entries, summary)
            self._put("summary", msgspec.msgpack.encode(summary))
        return summary

    def _write_led(self) -> Summary:
        before = self._summary
        summary = msgspec.structs.replace(before, count=before.count + 1, led=before.hard_state.term)
        with self._transaction():
            self._put("summary", msgspec.msgpack.encode(summary))
        return summary

    def _write_snapshot(self, persist: Persist, snapshot: Snapshot, summary: Summary) -> Summary:
        self._put("snapshot", msgspec.msgpack.encode(snapshot))
        checksum = 0 if persist.reset else self._checksum_at(persist.base_index, summary)
        last = 0 if persist.reset else persist.base_index
        self._database.execute("DELETE FROM log WHERE ? OR position <= ?", (persist.reset, last))
        begun = msgspec.structs.replace(
            summary,
            snapshot_index=snapshot.index,
            base_index=persist.base_index,
            base_term=persist.base_term,
            base_checksum=checksum,
        )
        if not persist.reset and persist.base_index <= summary.last_index:
            return begun
        return msgspec.structs.replace(begun, last_index=persist.base_index, last_checksum=checksum)

    def _write_entries(self, entries: tuple[Entry, ...], summary: Summary) -> Summary:
        first = entries[0].index
        chain = self._checksum_at(first - 1, summary)
        self._database.execute("DELETE FROM log WHERE position >= ?", (first,))
        rows = []
        for entry in entries:
            chain = chained(entry, chain)
            rows.append((entry.index, entry.term, int(entry.kind), entry.data, chain))
        self._database.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", rows)
        return msgspec.structs.replace(summary, last_index=entries[-1].index, last_checksum=chain)

    def _checksum_at(self, index: int, summary: Summary) -> int:
        """The chain up to an entry; it begins anew where the entry itself was never here."""
        if index == summary.last_index:
            return summary.last_checksum
        if index == summary.base_index:
            return summary.base_checksum
        row = self._database.execute("SELECT checksum FROM log WHERE position = ?", (index,)).fetchone()
        return 0 if row is None else int(row[0])

    def _put(self, table: str, body: bytes) -> None:
        self._database.execute(f"REPLACE INTO {table} VALUES (1, ?, ?)", (body, zlib.crc32(body)))

    def _get(self, table: str, kind: type[T]) -> T:
        row = self._database.execute(f"SELECT body, checksum FROM {table}").fetchone()
        if row is None:
            raise DamagedStorage(self._path, f"it has no {table}")
        body = bytes(row[0]) if isinstance(row[0], bytes) else b""
        if zlib.crc32(body) != row[1]:
            raise DamagedStorage(self._path, f"its {table} is not what was written")
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise DamagedStorage(self._path, f"its {table} cannot be read: {error}") from error

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

    # --- the count beside it -----------------------------------------------------------------------------------------

    def _write_count(self, count: int) -> None:
        try:
            os.pwrite(self._count_file, _COUNT.pack(count, zlib.crc32(b"%d" % count)), 0)
        except OSError as error:
            self._broken = True
            raise PgError("58030", f"could not write {COUNT_NAME}: {error.strerror}") from error

    def _read_count(self) -> int | None:
        """None: there is none, or not one of ours."""
        content = os.pread(self._count_file, _COUNT.size + 1, 0)
        if len(content) != _COUNT.size:
            return None
        count, checksum = _COUNT.unpack(content)
        return int(count) if checksum == zlib.crc32(b"%d" % count) else None


def chained(entry: Entry, before: int) -> int:
    head = struct.pack("!QQBII", entry.index, entry.term, entry.kind, before, len(entry.data))
    return zlib.crc32(entry.data, zlib.crc32(head))
