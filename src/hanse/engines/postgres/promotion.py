"""A follower becomes the leader of a term, with the timeline of that number, and writes the rule as its first commit.

PostgreSQL takes the first number for which it has no history file; so placeholders are written for those below the term
(tested: followers ask for all of them, and are content). The commit of a rule never waits in the server, where nothing could
be done with it but to cancel it: it is local, and the positions of the followers tell when it has reached enough of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files

from ...core.errors import PgError
from .streaming import POLL_S, Access, Leadership, Member

PROMOTED_S_MAX = 1.0  # for one to be promoted, before its followers look anew who leads
_HISTORY_LINE = re.compile(r"^(\d+)\s+([0-9A-F]+)/([0-9A-F]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of a history: a timeline, and where the next one left it (None: it has not ended)."""

    timeline: int
    end_lsn: int | None


def history_file(timeline: int) -> str:
    return f"{timeline:08X}.history"


def write_placeholders(member: Member, term: int) -> None:
    """Raises PgError 55000 where the term's own number is taken: then this directory cannot lead in that term."""
    directory = member.instance.directory / "pg_wal"
    if (directory / history_file(term)).exists():
        raise PgError("55000", f"timeline {term} exists already in {member.instance.spec.name}")
    for timeline in range(2, term):
        path = directory / history_file(timeline)
        if not path.exists():
            member.instance.write(path, "# no timeline of this number: a term without a leader here\n")


async def promote(member: Member, term: int) -> None:
    """Of a fenced follower, to timeline `term`. It accepts writes when this returns; nobody is to be let in yet.

    synchronous_standby_names must be in force already (`Member.follow`). Raises PgError 55000 where the server has made another
    timeline: it must be stopped and cloned then. Waits for as long as the server takes.
    """
    await asyncio.to_thread(write_placeholders, member, term)
    async with member.access.connected() as connection:
        await connection.execute("SELECT pg_promote(false)")
        while await connection.fetchval("SELECT pg_is_in_recovery()"):
            await asyncio.sleep(POLL_S)
        timeline = int(str(await connection.fetchval("SELECT pg_walfile_name(pg_current_wal_lsn())"))[:8], 16)
    if timeline != term:
        raise PgError("55000", f"{member.instance.spec.name} was promoted to timeline {timeline} and not to {term}")


async def found(member: Member) -> None:
    """The table of rules, in a new group's first instance, before any record is written."""
    text = files(__package__).joinpath("leadership.sql").read_text(encoding="utf-8")
    async with member.access.connected() as connection:
        await connection.execute(text)


async def write_record(member: Member, row: Leadership) -> int:
    """Commit it here, and return the LSN that followers must have flushed. `establish` waits for them."""
    async with member.access.connected() as connection:
        async with connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = local")
            await connection.execute(
                "INSERT INTO hanse.leadership (term, serial, leader, promotion_id, members, k, previous_members, previous_k) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                row.term,
                row.serial,
                row.leader,
                row.promotion_id,
                list(row.members),
                row.k,
                None if row.previous_members is None else list(row.previous_members),
                row.previous_k,
            )
        return int(await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


async def establish(member: Member, lsn: int, names: Collection[str], count: int) -> None:
    """Returns when `count` of the followers `names` have flushed up to `lsn`; never, if they do not."""
    if count == 0:
        return
    async with member.access.connected() as connection:
        while True:
            reached = await connection.fetchval(
                "SELECT count(DISTINCT application_name) FROM pg_stat_replication "
                "WHERE application_name = ANY ($1) AND flush_lsn - '0/0'::pg_lsn >= $2",
                list(names),
                lsn,
            )
            if reached >= count:
                return
            await asyncio.sleep(POLL_S)


async def until_promoted(leader: Access) -> None:
    """Of one that is to lead: its followers come while it is promoted. Raises PgError 55000 after PROMOTED_S_MAX."""
    async with leader.connected() as connection:
        deadline = asyncio.get_running_loop().time() + PROMOTED_S_MAX
        while await connection.fetchval("SELECT pg_is_in_recovery()"):
            if asyncio.get_running_loop().time() > deadline:
                raise PgError("55000", f"the server on port {leader.port} does not lead yet")
            await asyncio.sleep(POLL_S)


async def history(leader: Access) -> tuple[Branch, ...]:
    """The timelines of a leader, oldest first."""
    async with leader.connected() as connection:
        timeline = int(str(await connection.fetchval("SELECT pg_walfile_name(pg_current_wal_lsn())"))[:8], 16)
        text = ""
        if timeline > 1:
            text = await connection.fetchval("SELECT pg_read_file($1)", f"pg_wal/{history_file(timeline)}")
    return parse_history(text, timeline)


def parse_history(text: str, timeline: int) -> tuple[Branch, ...]:
    """The format of PostgreSQL's timeline.c: number, LSN of the end, reason; comments begin with #."""
    ended = [Branch(int(tli), (int(high, 16) << 32) | int(low, 16)) for tli, high, low in _HISTORY_LINE.findall(text)]
    return (*ended, Branch(timeline, None))


async def promotions(leader: Access) -> dict[int, str]:
    """By term: the promotion id, as the data have it."""
    async with leader.connected() as connection:
        rows = await connection.fetch("SELECT DISTINCT term, promotion_id FROM hanse.leadership")
    return {row["term"]: row["promotion_id"] for row in rows}


def local_timeline(member: Member) -> int:
    """Of the newest WAL in a directory, by the names of its segments."""
    names = [path.name for path in (member.instance.directory / "pg_wal").iterdir()]
    return max(int(name[:8], 16) for name in names if re.fullmatch(r"[0-9A-F]{24}(\.partial)?", name))
