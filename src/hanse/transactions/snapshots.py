"""One moment for several groups: how a snapshot over all of them is taken, as a protocol without I/O.

**What goes wrong without it.** A transaction that wrote in g1 and g2 commits in one of them first (`commit.py`). A statement
that reads both in between sees half of it: money that has left one account and has not reached the other.

**The gate** is one empty table in every group, `hanse.gate`. A transaction over several groups takes the gates of its groups
in ROW EXCLUSIVE mode, which admits any number of such holders, when it can do nothing but commit any more; each is held
until the commit is visible there (a prepared transaction keeps it, also over a crash). A *barrier* takes the gates of the
groups it is for in SHARE mode, which excludes those holders; while it has them all, the readers take their snapshots, and
then it lets go::

    g1  BEGIN; LOCK TABLE hanse.gate IN SHARE MODE                    ← sessions of the system
    g2  BEGIN; LOCK TABLE hanse.gate IN SHARE MODE
    g1, g2  a snapshot is taken (`gateway/snapshots.py` says how)     ← the readers' own backends
    g1, g2  ROLLBACK, in each when its own snapshots are taken

**Why a snapshot holds a transaction T whole or not at all.** PostgreSQL makes a commit visible before it releases the
transaction's locks. Let the barrier for groups G have all its gates at the moment m, and let T have written in groups W,
with the decider d last. For a group g in G and W, T does not hold g's gate at m: either T has not come to its commit there,
or its commit there is visible. If T has not yet taken the gate of some such g, which it takes before the decision, T is
not decided and cannot be before the gate is free again: no branch of T is visible anywhere. Otherwise its commits in all
of G and W are visible. Snapshots of m in G therefore all have T, or none has.

**Why each group's gate may go by itself.** A group's snapshots are taken after m, but its gate is held from m until they are,
and so nothing has become visible there in between: they show the group at m. When other groups take theirs does not matter.

**Why nobody waits in a circle.** Writers and barriers take gates in the same order of groups, one after another, and a
writer waits for nothing else once it has its first: its constraints were checked before (findings-transactions A1, A4).
Readers take no locks under the barrier but that of a snapshot.

**Why a group that is stuck does not stop the others.** A prepared transaction whose gateway died holds its gate until
recovery ends it. A barrier that waited for that gate while it holds another would keep every commit of the other group
waiting, too. So a gate that cannot be had at once (`WAIT_MS`) is a reason to give all back, to wait for the busy one with
nothing in the hands, and to begin anew (A5). Nor may it stand in that gate's queue for long, because later commits of the
stuck group would stand behind it: it leaves after `WAIT_MS` and comes back after a pause, which grows.

**Transactions in one group** are never seen by halves, and could do without. But of two of them, one after the other in
two groups, a snapshot could hold the second alone, if both came in the moment in which it was taken. So they take their
group's gate, too, in the message that commits them (`gateway/gating.py`). While a barrier holds all its gates then, nothing
at all becomes visible in its groups, and the snapshots are of one moment in real time.

*What this is not.* CALL and DO, which may commit in the middle, and maintenance commands take no gate in one group.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

WAIT_MS = 50  # for one gate
PAUSE_S_MIN, PAUSE_S_MAX = 0.01, 0.4

SETTING = f"SET lock_timeout = {WAIT_MS}"  # of the sessions that take gates
_TAKE = "BEGIN; LOCK TABLE hanse.gate IN SHARE MODE"
GIVE_BACK = "ROLLBACK"


@dataclass(frozen=True, slots=True)
class Take:
    """Take the gate of `group` and keep it; wait `WAIT_MS` at most. Answered with whether it was granted."""

    group: str
    sql: str = _TAKE


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Let go of the gates of these groups."""

    groups: tuple[str, ...]
    sql: str = GIVE_BACK


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for about so long, holding nothing."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """All gates are held: now snapshots are taken. Each group's gate is let go when its own are; answered when all are free."""

    sql: str = GIVE_BACK


Step = Take | GiveBack | Pause | Held


def barrier(groups: tuple[str, ...]) -> Generator[Step, bool, None]:
    """The steps of one barrier over `groups`, which come in the global order. It ends when all gates are free again.

    The driver bounds the whole: closing the generator is no answer, so that it must give back what is held itself.
    """
    while True:
        busy = yield from _take_all(groups)
        if busy is None:
            yield Held()
            return
        pause = PAUSE_S_MIN
        while True:  # until the busy one can be had, alone
            granted = yield Take(busy)
            yield GiveBack((busy,))
            if granted:
                break
            yield Pause(pause)
            pause = min(2 * pause, PAUSE_S_MAX)


def _take_all(groups: tuple[str, ...]) -> Generator[Step, bool, str | None]:
    """Takes every gate, or none and gives the group whose gate was busy."""
    for place, group in enumerate(groups):
        if not (yield Take(group)):
            yield GiveBack(groups[: place + 1])  # its own transaction there has failed
            return group
    return None
