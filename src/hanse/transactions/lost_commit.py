"""What became of a COMMIT in one group whose answer was lost: the group's own WAL tells. Without I/O.

A server that dies takes its answers with it, and an xid that it had given does not say enough: after a crash, or under the
next leader, the same number may be another transaction's, and `pg_xact_status` would tell about that one. So the message that
commits writes a *mark* into the WAL in front of it::

    LOCK hanse.gate; SELECT 1 WHERE <write the mark "name:xid;">; COMMIT

The name is nobody else's. The mark is a logical message, in the transaction: a record of some 100 bytes, which nobody
replays. It costs no answer that would have to be waited for, and no flush of its own; a transaction that has written nothing
writes none. The gateway remembers the name, and a position in the server's WAL that it had been told of before
(`gateway/lost_commits.py`): the mark can only lie behind it.

Worked example. A gateway knows that g1 had come to 0/5000, and sends the COMMIT with the mark n. The leader dies. The next
one, on timeline 7, which left timeline 6 at 0/5A00, says that it writes at 0/6100. Everything from 0/5000 to there is read,
as that server has it:

- **n is there, with xid 900.** Then the history of this server has a record of 900's, so every server that ever recovered
  from this history went on behind 900: nobody else was given that number, and `pg_xact_status(900)` is the truth about our
  transaction.
- **n is not there.** The record of the commit would lie behind the mark, so it is not there either, and it will never be:
  rolled back.

It does not matter how often the server crashed, who led in between, or where timelines begin: it is asked what is in the
history of who leads now, and nothing is concluded from times or numbers. What must hold for that:

1. *The position is before the mark* on the line of the server that the COMMIT went to, or the COMMIT was for a server whose
   line is not the group's. A position is used only for connections that are older than the question it answers. Such a
   connection goes to the server that answered; or to a start of it that was over by then, which commits no more; or to a
   former leader, from which the line that answered had parted.
2. *Nothing can come later.* The session that was to commit has ended on the server that is asked; while one of its number is
   there, the absence of a mark says nothing. This is looked at before the WAL is.
3. *All was read.* It ends at a record that was flushed after the look began, whatever synchronous_commit the session had.
   Each page must name its own position in its header; one that was recycled, removed or not copied makes the search
   incomplete, and then the absence of a mark says nothing.
4. *It stays so.* Who is asked leads, its lease covers the answers, and what it says of a commit is made durable before it is
   believed, as in `recovery.py`: a transaction after it has reached those that a commit waits for.

With `async` that means what it always means: a commit that the next leader does not have is rolled back.

What is not known: the group stays away for RESOLVE_WAIT_S_MAX; more than LOST_COMMIT_WAL_BYTES_MAX were written since; WAL
was removed; the session is still there, because the server does not know yet that nobody listens. Then the client is told
08006, as ever. Not here: a statement of its own, whose count of rows would be lost even if its commit is known.

Sources: xlog_internal.h (pages and their headers), message.c, xact.c; timeline files are read as xlogreader does
(`timeline_of`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from ..core.ids import quote_literal

PAGE_BYTES = 8192
_LONG_HEADER = 0x0002
_HEADER_BYTES, _LONG_HEADER_BYTES = 24, 40
_PAGE = struct.Struct("=HHIQ")  # magic, info, timeline, position
_CARRIED_BYTES = 128  # more than a mark has
_XID = "pg_catalog.pg_current_xact_id_if_assigned()"
_MARK = (
    f"SELECT 1 WHERE CASE WHEN {_XID} IS NOT NULL THEN "
    f"pg_catalog.pg_logical_emit_message(true, 'hanse', pg_catalog.concat({{}}, ':', {_XID}, ';')) IS NULL END"
)
MARK = _MARK.format("$1")  # its answer has no rows


@dataclass(frozen=True, slots=True)
class Mark:
    """Of one COMMIT. `since`: a position that its server had come to before."""

    name: bytes
    since: int

    @property
    def sql(self) -> str:
        return _MARK.format(quote_literal(self.name.decode()))


class Fate(Enum):
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    OPEN = "open"  # ask again
    UNKNOWN = "unknown"  # asking again is of no use


@dataclass(slots=True)
class Search:
    """For a mark in WAL that is fed page by page, in order, from `mark.since` on."""

    mark: Mark
    xid: int | None = None
    position: int = field(init=False)  # of the next page
    _pattern: re.Pattern[bytes] = field(init=False)
    _carried: bytes = b""

    def __post_init__(self) -> None:
        self.position = self.mark.since // PAGE_BYTES * PAGE_BYTES
        self._pattern = re.compile(re.escape(self.mark.name) + rb":(\d+);")

    def feed(self, pages: bytes) -> bool:
        """False: these are not the pages of this position. The last may be cut off where the WAL ends."""
        for start in range(0, len(pages), PAGE_BYTES):
            page = pages[start : start + PAGE_BYTES]
            if len(page) < _PAGE.size:
                return len(page) == 0
            magic, info, _, position = _PAGE.unpack_from(page)
            if magic == 0 or position != self.position:
                return False
            stream = self._carried + page[_LONG_HEADER_BYTES if info & _LONG_HEADER else _HEADER_BYTES :]
            found = self._pattern.search(stream)
            if found is not None:
                self.xid = int(found[1])
                return True
            self._carried = stream[-_CARRIED_BYTES:]
            self.position += PAGE_BYTES
        return True


def timeline_of(segment: int, segment_bytes: int, timelines: Sequence[tuple[int, int]]) -> int:
    """Whose file has a segment. `timelines`: (number, where it begins), oldest first.

    A segment in which a timeline begins is copied to that timeline, up to there.
    """
    return [timeline for timeline, begin in timelines if begin // segment_bytes <= segment][-1]


def judge(*, session_there: bool, complete: bool, xid: int | None, status: str | None) -> Fate:
    """`session_there`: when the look began; `status`: of the mark's xid, by pg_xact_status (None: too old to be known)."""
    if xid is not None:
        known = {"committed": Fate.COMMITTED, "aborted": Fate.ROLLED_BACK, "in progress": Fate.OPEN}
        return known.get(status or "", Fate.UNKNOWN)
    if session_there:
        return Fate.OPEN
    return Fate.ROLLED_BACK if complete else Fate.UNKNOWN
