"""The catalog as a state machine: the same commands in the same order give the same catalog on every node of the control plane.

It keeps the newest snapshot, the log of schema changes (what a schema-complete database needs to be made again), which
transactions are in it, and which were settled to be never. It meets `consensus.contract.StateMachine`. `apply` does not raise:
a command that is refused changes nothing, and its outcome says why, in the same words everywhere::

    outcome = decode_outcome(await consensus.propose(encode(command)))
    version = outcome.value()                                            # or the PgError that the command met

**Outcomes.** A gateway proposes a schema change and may lose the answer. Whoever then asks gets a final truth: `Settle`
answers 1 for a committed transaction, and one that is not in the log shall then never be. So a proposal that arrives late, from
a gateway that was only slow, is refused and cannot contradict an answer already acted on. A proposal that is repeated with the
same transaction id is answered with the version that it made the first time.

**Attendance.** `attended` says that some leader's service may have given leases to clients: the next leader waits them out
(`tenure.py`).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right

import msgspec

from ..core.errors import PgError
from ..core.limits import DDL_LOG_PAGE_BYTES
from .commands import Command, CommitDdl, DdlEntry, apply, entry_of
from .model import Snapshot


class Settle(msgspec.Struct, frozen=True, kw_only=True, tag="settle"):
    """Whether the transaction was committed; if not, it never will be. Its outcome is 1 or 0."""

    transaction_id: str


class Attend(msgspec.Struct, frozen=True, kw_only=True, tag="attend"):
    """Proposed with True before a leader's service answers its first client, with False when its last one has gone and it
    takes no more. Changes no version.
    """

    attended: bool


class State(msgspec.Struct, kw_only=True):
    """All of it, as it is written. `versions`: which version each transaction of the log made."""

    snapshot: Snapshot
    log: list[DdlEntry] = []
    versions: dict[str, int] = {}
    aborted: list[str] = []
    attended: bool = False


class Adopt(msgspec.Struct, frozen=True, kw_only=True, tag="adopt"):
    """The catalog of a cluster from before it was replicated. Raises 55000 where there is a catalog already."""

    state: State


AnyCommand = Command | Settle | Attend | Adopt


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command: the catalog's version that it made, or an error."""

    version: int = 0
    sqlstate: str | None = None
    message: str = ""
    detail: str | None = None
    hint: str | None = None

    def value(self) -> int:
        """Raises the PgError that the command met."""
        if self.sqlstate is not None:
            raise PgError(self.sqlstate, self.message, detail=self.detail, hint=self.hint)
        return self.version


_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)
_outcomes = msgspec.msgpack.Decoder(Outcome)
_states = msgspec.msgpack.Decoder(State)


def encode(command: AnyCommand) -> bytes:
    return _encoder.encode(command)


def decode_outcome(result: bytes) -> Outcome:
    return _outcomes.decode(result)


class CatalogMachine:
    """`initial` is the catalog before the first command; every node must begin with the same."""

    def __init__(self, initial: Snapshot) -> None:
        self._state = State(snapshot=initial)
        self._aborted: set[str] = set()

    @property
    def catalog(self) -> Snapshot:
        return self._state.snapshot

    @property
    def attended(self) -> bool:
        return self._state.attended

    # --- the contract of the consensus -------------------------------------------------------------------------------

    def apply(self, version: int, command: bytes) -> bytes:
        """`version` is the consensus' own count; the catalog has one of its own."""
        try:
            outcome = Outcome(version=self._perform(_commands.decode(command)))
        except PgError as error:
            outcome = Outcome(sqlstate=error.sqlstate, message=error.message, detail=error.detail, hint=error.hint)
        return _encoder.encode(outcome)

    def snapshot(self) -> bytes:
        self._state.aborted = sorted(self._aborted)
        return _encoder.encode(self._state)

    def restore(self, version: int, data: bytes) -> None:
        self._state = _states.decode(data)
        self._aborted = set(self._state.aborted)

    # --- reading -----------------------------------------------------------------------------------------------------

    def look_up(self, transaction_id: str) -> str:
        """'c': it is in the log, 'a': it was settled that it never will be, '': neither."""
        if transaction_id in self._state.versions:
            return "c"
        return "a" if transaction_id in self._aborted else ""

    def ddl_log(self, since: int, *, bytes_max: int = DDL_LOG_PAGE_BYTES) -> tuple[DdlEntry, ...]:
        """The schema changes after version `since`, oldest first: a page of at least one, and about `bytes_max`
        bytes.
        """
        entries: list[DdlEntry] = []
        size = 0
        log = self._state.log
        for entry in itertools.islice(log, bisect_right(log, since, key=lambda each: each.version), None):
            length = len(_encoder.encode(entry))
            if entries and size + length > bytes_max:
                break
            entries.append(entry)
            size += length
        return tuple(entries)

    # --- changes -----------------------------------------------------------------------------------------------------

    def _perform(self, command: AnyCommand) -> int:
        if isinstance(command, Settle):
            return self._settle(command.transaction_id)
        if isinstance(command, Attend):
            self._state.attended = command.attended
            return self.catalog.version
        if isinstance(command, Adopt):
            return self._adopt(command.state)
        if isinstance(command, CommitDdl):
            known = self._state.versions.get(command.transaction_id)
            if known is not None:
                return known  # proposed again: answered as it was the first time
            if command.transaction_id in self._aborted:
                raise PgError("40000", "the schema change was rolled back by recovery")
        return self._change(command)

    def _change(self, command: Command) -> int:
        changed = apply(self._state.snapshot, command)
        self._state.snapshot = changed
        if isinstance(command, CommitDdl):
            self._state.versions[command.transaction_id] = changed.version
            self._state.log.append(entry_of(command, changed.version))
        return changed.version

    def _adopt(self, state: State) -> int:
        if self.catalog.groups:
            raise PgError("55000", "there is a catalog already")
        self._state = state
        self._aborted = set(state.aborted)
        return state.snapshot.version

    def _settle(self, transaction_id: str) -> int:
        if transaction_id in self._state.versions:
            return 1
        self._aborted.add(transaction_id)
        return 0
