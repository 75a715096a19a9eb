"""One moment for several groups: how a snapshot over all of them is taken, as a protocol without I/O.

**What goes wrong without it.** A transaction that wrote in g1 and g2 commits in one of them first (`commit.py`). A statement
that reads both in between sees half of it: money that has left one account and has not reached the other.

**The gates** are two empty tables in every group, one for either kind of transaction. A transaction over several groups takes
`hanse.gate_over_groups` in each of its groups, in ROW EXCLUSIVE mode, which admits any number of such holders, when it can
do nothing but commit any more; it is held until the commit is visible there (a prepared transaction keeps it, also over a
crash). A transaction in one group takes `hanse.gate`, in the message that commits it (`gateway/gating.py`). A *barrier* takes
gates in SHARE mode, which excludes those holders; while it has them all, the readers take their snapshots, and then it lets
go. With three groups::

    g1  BEGIN; LOCK TABLE hanse.gate_over_groups IN SHARE MODE                     ← sessions of the system
    g2  BEGIN; LOCK TABLE hanse.gate_over_groups IN SHARE MODE
    g3  BEGIN; LOCK TABLE hanse.gate_over_groups, hanse.gate IN SHARE MODE         at the same time
    g2  LOCK TABLE hanse.gate IN SHARE MODE
    g1, g2, g3  a snapshot is taken (`gateway/snapshots.py` says how)              ← the readers' own backends
    g1, g2, g3  ROLLBACK: g1 when its snapshots are taken, the others when g1's are, too, and their own

The first group, the *pivot*, goes on with transactions of its own all the time; the others' wait for the second half only.
So in the pivot the barrier has the gate of transactions over groups, in every other group those of both kinds.

**The moment** of a reader is when it takes its snapshot in the pivot. In every other group nothing at all becomes visible
from before that moment until it has its snapshot there. So its snapshots together are what all groups were at that
moment. (Without `hanse.gate` they would not be: of two transactions, one after the other in two groups, a reader could
see the second alone.)

**Why they hold a transaction T over several groups whole or not at all.** PostgreSQL makes a commit visible before it releases
the transaction's locks. Let T have written in groups W, with the decider d last, and let the barrier for groups G have all its
gates. In no group of both does T hold its gate, which the barrier has there, so for each of them, either T has not come to its
commit there, or that commit is visible. If it has not come to it in some such g, then T is not decided, because it takes all
gates before the decision, and cannot be before g's gate is free: that is not before the pivot's snapshot is taken, and g's. In
another group T cannot have become visible earlier than that, nor, as the barrier has a gate there, too, earlier than that
group's snapshot. Otherwise T's commits in all of G and W are visible. Snapshots in G therefore all have T, or none has.

**Why nobody waits in a circle.** Writers take the groups' gates in the order of the groups, and a writer waits for
nothing else once it has its first: its constraints were checked before (findings-transactions A1, A4). A barrier takes
`gate_over_groups` in the same order. Whoever holds a `gate` is committing in one group, and waits for nobody, so those can be
asked for all at once. (The last group's two are: who holds its gate over groups waits only for groups that come after.) Readers
take no locks under the barrier but that of a snapshot.

**Why a group that is stuck does not stop the others.** A prepared transaction whose gateway died holds its gates until
recovery ends it. A barrier that waited for them while it holds others would keep every commit of the other groups
waiting, too. So a gate that cannot be had at once (`WAIT_MS`) is a reason to give all back, to wait for the busy one with
nothing in the hands, and to begin anew (A5). Nor may it stand in that gate's queue for long, because later commits of the
stuck group would stand behind it: it leaves after `WAIT_MS` and comes back after a pause, which grows.

*What this is not.* CALL and DO, which may commit in the middle, and maintenance commands take no gate in one group.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

WAIT_MS = 50  # for one gate
PAUSE_S_MIN, PAUSE_S_MAX = 0.01, 0.4

SETTING = f"SET lock_timeout = {WAIT_MS}"  # of the sessions that take gates
_ALSO = "LOCK TABLE hanse.gate IN SHARE MODE"
_OVER_GROUPS = "BEGIN; LOCK TABLE hanse.gate_over_groups IN SHARE MODE"
_BOTH = "BEGIN; LOCK TABLE hanse.gate_over_groups, hanse.gate IN SHARE MODE"
_GIVE_BACK = "ROLLBACK"


@dataclass(frozen=True, slots=True)
class Take:
    """Take gates and keep them, in several groups at the same time: group → SQL, which waits for each `WAIT_MS` at most.

    Answered with the groups where they were not granted.
    """

    sql: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Let go of the gates of these groups."""

    groups: tuple[str, ...]
    sql: str = _GIVE_BACK


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for about so long, holding nothing."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """All gates are held: now snapshots are taken. Answered when all gates are free.

    The pivot's gate is let go when its snapshots are taken, each other group's when those and its own are.
    """

    pivot: str
    sql: str = _GIVE_BACK


Step = Take | GiveBack | Pause | Held


def barrier(groups: tuple[str, ...]) -> Generator[Step, Sequence[str], None]:
    """The steps of one barrier over `groups`, two or more in the global order. It ends when all gates are free again.

    The driver bounds the whole: closing the generator is no answer, so that it must give back what is held itself.
    """
    while True:
        busy = yield from _take_all(groups)
        if busy is None:
            yield Held(groups[0])
            return
        pause = PAUSE_S_MIN
        while True:  # until the busy one can be had, alone
            failed = yield Take({busy: _BOTH})
            yield GiveBack((busy,))
            if not failed:
                break
            yield Pause(pause)
            pause = min(2 * pause, PAUSE_S_MAX)


def _take_all(groups: tuple[str, ...]) -> Generator[Step, Sequence[str], str | None]:
    """Takes every gate, or none and gives a group whose gates were busy."""
    for place, group in enumerate(groups[:-1]):
        if (yield Take({group: _OVER_GROUPS})):
            yield GiveBack(groups[: place + 1])  # its own transaction there has failed
            return group
    busy = yield Take(dict.fromkeys(groups[1:-1], _ALSO) | {groups[-1]: _BOTH})
    if busy:
        yield GiveBack(groups)
        return busy[0]
    return None
