"""What is read in the WAL about a COMMIT whose answer was lost: pages as PostgreSQL writes them, and servers that crash, give xids
again and lead one after the other.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import pytest

from hanse.transactions.lost_commit import PAGE_BYTES, Fate, Mark, Search, judge, timeline_of

SEGMENT = 4 * PAGE_BYTES  # smaller than PostgreSQL's, with the same long header in front
NAME = b"0123456789abcdef-7"


def paged(stream: bytes, start: int) -> bytes:
    """The pages from position `start`, where a segment begins, on; the last is cut off where the stream ends."""
    assert start % SEGMENT == 0
    pages, position = b"", start
    while stream:
        header = 40 if position % SEGMENT == 0 else 24
        info = 2 if header == 40 else 0
        page = struct.pack("=HHIQ", 0xD113, info, 1, position).ljust(header, b"\0") + stream[: PAGE_BYTES - header]
        stream = stream[PAGE_BYTES - header :]
        pages, position = pages + page, position + PAGE_BYTES
    return pages


def searched(pages: bytes, since: int, chunk: int = PAGE_BYTES) -> Search:
    search = Search(Mark(NAME, since))
    for at in range(0, len(pages), chunk):
        assert search.xid is not None or search.feed(pages[at : at + chunk])
    return search


@pytest.mark.parametrize("chunk", [PAGE_BYTES, 3 * PAGE_BYTES])
def test_a_mark_is_found_wherever_it_lies(chunk: int) -> None:
    """At every place around the ends of two pages, the second with a segment behind it."""
    mark = NAME + b":4294967299;"
    for boundary in (PAGE_BYTES - 40, SEGMENT - 40 - 3 * 24):
        for at in range(boundary - len(mark) - 2, boundary + 2):
            pages = paged(b"x" * at + mark + b"y" * PAGE_BYTES, SEGMENT)
            assert searched(pages, SEGMENT + 100, chunk).xid == 4294967299, at


def test_a_mark_that_is_cut_off_is_none() -> None:
    mark = NAME + b":4294967299;"
    for length in range(len(mark)):
        assert searched(paged(b"x" * 100 + mark[:length], 0), 0).xid is None
    assert searched(paged(NAME + b"0:5;" + b"other-7:6;", 0), 0).xid is None


def test_a_page_of_another_position_ends_the_search() -> None:
    """A segment that was recycled, a page that was never written, WAL of elsewhere."""
    pages = paged(b"x" * 3 * PAGE_BYTES, 0)
    assert not Search(Mark(NAME, SEGMENT)).feed(pages)
    assert not Search(Mark(NAME, 0)).feed(pages[:PAGE_BYTES] + bytes(PAGE_BYTES))
    assert not Search(Mark(NAME, 0)).feed(pages[:PAGE_BYTES] * 2)
    assert not Search(Mark(NAME, 0)).feed(b"\x13\xd1")


def test_a_segment_in_which_a_timeline_begins_is_that_timelines() -> None:
    timelines = [(1, 0), (4, 5 * 16 + 3), (6, 5 * 16 + 9), (9, 8 * 16)]
    assert [timeline_of(segment, 16, timelines) for segment in range(4, 10)] == [1, 6, 6, 6, 9, 9]


def test_what_is_concluded() -> None:
    def judged(xid: int | None, status: str | None = None, *, there: bool = False, complete: bool = True) -> Fate:
        return judge(session_there=there, complete=complete, xid=xid, status=status)

    for there in (False, True):
        assert judged(5, "committed", there=there) is Fate.COMMITTED
        assert judged(5, "aborted", there=there) is Fate.ROLLED_BACK
        assert judged(5, "in progress", there=there) is Fate.OPEN
        assert judged(5, None, there=there) is Fate.UNKNOWN
    assert judged(None) is Fate.ROLLED_BACK
    assert judged(None, complete=False) is Fate.UNKNOWN
    assert judged(None, there=True) is Fate.OPEN, "its COMMIT may still come"
    assert judged(None, there=True, complete=False) is Fate.OPEN


# --- servers that crash and follow each other --------------------------------------------------------------------


@dataclass
class Line:
    """One server's history. A record is (xid, what); recovery goes on behind the highest xid that it finds."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    running: set[int] = field(default_factory=set)

    def begin(self) -> int:
        xid = max((2, *(xid for xid, _ in self.records), *self.running)) + 1
        self.running.add(xid)
        return xid

    def write(self, xid: int, what: bytes) -> None:
        self.records.append((xid, what))

    def recovered(self, length: int) -> Line:
        return Line(self.records[:length])

    @property
    def position(self) -> int:
        return sum(len(_bytes(*each)) for each in self.records)

    def status(self, xid: int) -> str:
        if any(each == xid and what.startswith(b"commit") for each, what in self.records):
            return "committed"
        return "in progress" if xid in self.running else "aborted"


def _bytes(xid: int, what: bytes) -> bytes:
    """As large as to meet the ends of pages often."""
    return (b"%d %s" % (xid, what)).ljust(700, b".")


def _others(line: Line, draw: random.Random) -> None:
    for _ in range(draw.randrange(6)):
        xid = line.begin()
        line.write(xid, b"row")
        if draw.random() < 0.7:
            line.write(xid, b"commit")
            line.running.discard(xid)


def test_no_answer_is_untrue_whatever_is_lost_and_given_again() -> None:
    """What is asked for is in the newest line, wherever lines were cut off; the xid alone would tell of others."""
    fates: dict[Fate, int] = {}
    misled = 0
    for seed in range(3000):
        draw = random.Random(seed)
        line = Line()
        _others(line, draw)
        since = line.position
        _others(line, draw)
        xid = line.begin()
        ours = [b"row", NAME + b":%d;" % xid, b"commit of ours"]
        for what in ours[: draw.choice((0, 1, 2, 3, 3))]:
            line.write(xid, what)
            _others(line, draw)
        for _ in range(draw.randrange(1, 4)):  # crashes and failovers, each with less or more of it
            lost = draw.choice((0, draw.randrange(4), len(line.records)))
            line = line.recovered(len(line.records) - lost)
            _others(line, draw)
        stream = b"".join(_bytes(*each) for each in line.records)
        pages = paged(stream, 0)
        search = Search(Mark(NAME, since // PAGE_BYTES * (PAGE_BYTES - 40)))
        assert search.feed(pages[search.position :])
        status = None if search.xid is None else line.status(search.xid)
        fate = judge(session_there=False, complete=True, xid=search.xid, status=status)
        committed = (xid, b"commit of ours") in line.records
        assert fate is (Fate.COMMITTED if committed else Fate.ROLLED_BACK), seed
        fates[fate] = fates.get(fate, 0) + 1
        misled += (line.status(xid) == "committed") != committed
    assert min(fates.values()) > 200 and misled > 20, (fates, misled)
