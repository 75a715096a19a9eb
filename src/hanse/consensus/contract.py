"""What the catalog needs of a consensus, whoever provides it: commands in one order on every node, and reads that see them.

There are two: `raft.node.Node`, among the nodes themselves, and `etcd.node.Node`, by an etcd that is there anyway. Both pass
`tests/integration/test_consensus_contract.py`.

**The log.** A command is bytes that the state machine understands. `apply` is called with every command exactly once on every
node, in the same order; it must be a pure function of the state before, and gives what whoever proposed it is told. It never
raises: a command that is refused is refused on every node, and its result says so. A node that was away may be given a snapshot
in the place of the commands that led to it.

**Leadership.** At most one node leads in a term, and terms only grow. Nothing is promised of time: a node may believe that it
leads when another does already. What the catalog builds on (`catalog/tenure.py`) is this:

1. A command under a term is in the log before any command of a later leader that has answered a `read`, or it never is.
2. When a `read` returns, `leadership` is at least as new as the call: who had been deposed before the call knows it now.
3. A term that a node was told to lead is over for good when it is told that it leads no more. Who leads again has a later term.

Nobody on a statement's path waits for any of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import PgError


class StateMachine(Protocol):
    def apply(self, version: int, command: bytes) -> bytes:
        """`version` grows with every command, not always by one."""
        ...

    def snapshot(self) -> bytes:
        """The whole state. It is written by one version of the program and may be read by a later one."""
        ...

    def restore(self, version: int, data: bytes) -> None:
        """Becomes what `snapshot` was after the command `version`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """`leader` is None where this node knows of none; `leads`: it is this node, in the term `term`, as far as it knows."""

    term: int
    leader: str | None
    leads: bool


class Consensus(Protocol):
    """One node's view. Errors are PgError: 57P03, nothing was done and trying again is right; 08007, see `propose`."""

    failed: asyncio.Future[None]
    """Of a node that was started. Done: it takes part no more, and must be started anew."""

    async def start(self) -> None:
        """Takes part; does not wait for anybody. Raises UserMistake."""
        ...

    async def stop(self) -> None:
        """Whoever waits for something here is told 57P03 or 08007. A leader leaves at once."""
        ...

    async def propose(self, command: bytes, *, term: int | None = None) -> bytes:
        """The result of `command`, which is durable on a majority and applied here. With `term` it is proposed only by this
        node as the leader of that term: once another leader has answered a `read`, the command is applied there, or never.

        Raises 57P03, or 08007 where it may have been done, may be done later, or never: ask the state machine, by an id
        that the command carries. 54000 for a command that is too large.
        """
        ...

    async def read(self, *, lease: bool = True) -> None:
        """Until the state machine here has all that was answered anywhere before this call. `lease`: trust that clocks
        run about equally fast. Raises 57P03.
        """
        ...

    @property
    def version(self) -> int:
        """Of the last command that was applied here."""
        ...

    async def changed(self, since: int) -> int:
        """Waits for a version after `since`; gives the newest. Raises 57P03 when this node takes part no more."""
        ...

    @property
    def leadership(self) -> Leadership: ...

    async def leadership_changed(self, known: Leadership) -> Leadership:
        """Waits until it is another than `known`; gives it. Raises 57P03 when this node takes part no more."""
        ...


def unavailable(detail: str | None = None) -> PgError:
    """57P03: nothing was done."""
    return PgError("57P03", "the control plane has no majority now", detail=detail, hint="Queries go on. Try again.")


def unknown_outcome() -> PgError:
    """08007: it was proposed, and nobody said what became of it."""
    return PgError("08007", "the outcome of a change of the control plane is not known")
