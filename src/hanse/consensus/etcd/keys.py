"""The keys of one cluster in etcd, and the transactions on them. No I/O.

::

    /hanse/<cluster>/head          '17': how many commands there are
    /hanse/<cluster>/term          '3': of the last leader
    /hanse/<cluster>/leader        '3 n1', with a lease: of him who leads now
    /hanse/<cluster>/snapshot      Pointer: the state after one of the commands, in the place of all up to it
    /hanse/<cluster>/log/<n>       Entry: command n
    /hanse/<cluster>/log-part/<n>/<id>/<k>         of a long command
    /hanse/<cluster>/snapshot-part/<n>/<id>/<k>    of a snapshot

Numbers in keys have twenty digits, so that keys are in the order of their numbers. `id` is one attempt's: what is left of those
that came to nothing goes with the next snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ...core.limits import ETCD_INLINE_BYTES_MAX, ETCD_PAGE_ENTRIES, ETCD_PART_BYTES
from .requests import (
    Json,
    Pair,
    delete_range,
    found,
    get,
    get_range,
    is_unchanged,
    is_value,
    put,
    transaction,
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is the proposal's. A long command is in `parts` values of its own."""

    id: bytes
    command: bytes = b""
    parts: int = 0


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    id: bytes
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything at one revision of etcd. `entries` begin after the version that was asked about; there may be more."""

    head: int
    term: int
    leader: str  # '3 n1'; '' where nobody leads
    lease: int
    snapshot: Pointer | None
    entries: tuple[tuple[int, Entry], ...]
    revisions: dict[str, int]

    @property
    def leader_name(self) -> str:
        return self.leader.partition(" ")[2]


_encode = msgspec.msgpack.Encoder().encode
_entry = msgspec.msgpack.Decoder(Entry)
_pointer = msgspec.msgpack.Decoder(Pointer)


def office(term: int, name: str) -> str:
    """The value of the leader's key."""
    return f"{term} {name}"


class Keys:
    def __init__(self, cluster: str) -> None:
        self._root = f"/hanse/{cluster}"
        self._head, self._term = f"{self._root}/head", f"{self._root}/term"
        self._leader, self._snapshot = f"{self._root}/leader", f"{self._root}/snapshot"

    # --- reading

    def look(self, version: int) -> Json:
        """What there is, with the first commands after `version`."""
        log = get_range(self._at("log", version + 1), self._end("log"), limit=ETCD_PAGE_ENTRIES)
        return transaction([], [get(self._head), get(self._term), get(self._leader), get(self._snapshot), log])

    def seen(self, answer: Json) -> Seen:
        """Of a `look`."""
        head, term, leader, snapshot, log = found(answer)
        return Seen(
            head=int(head[0].value) if head else 0,
            term=int(term[0].value) if term else 0,
            leader=leader[0].value.decode() if leader else "",
            lease=leader[0].lease if leader else 0,
            snapshot=_pointer.decode(snapshot[0].value) if snapshot else None,
            entries=tuple((self._number(each), _entry.decode(each.value)) for each in log),
            revisions={each.key: each.revision for each in (*head, *term, *leader, *snapshot)},
        )

    def look_at_part(self, kind: str, version: int, id: bytes, number: int) -> Json:
        return transaction([], [get(self._part(kind, version, id, number))])

    # --- the log

    def append(self, version: int, id: bytes, command: bytes, *, leader: str | None) -> tuple[list[Json], Json]:
        """The command after `version`, if there is none yet; with `leader` only while this is the leader's key. First all
        of the former, which write a long command's parts.
        """
        conditions = [is_value(self._head, str(version)) if version else is_unchanged(self._head, 0)]
        if leader is not None:
            conditions.append(is_value(self._leader, leader))
        before: list[Json] = []
        entry = Entry(id=id, command=command)
        if len(command) > ETCD_INLINE_BYTES_MAX:
            before = self._put_parts("log-part", version + 1, id, command)
            entry = Entry(id=id, parts=len(before))
        steps = [put(self._head, str(version + 1)), put(self._at("log", version + 1), _encode(entry))]
        return before, transaction(conditions, steps)

    def compact(self, seen: Seen, version: int, id: bytes, state: bytes) -> tuple[list[Json], Json]:
        """`state` is what the commands up to `version` led to, and takes their place; by the leader, as `append`."""
        before = self._put_parts("snapshot-part", version, id, state)
        pointer = Pointer(version=version, id=id, parts=len(before))
        steps = [
            put(self._snapshot, _encode(pointer)),
            delete_range(self._at("log", 0), self._at("log", version + 1)),
            delete_range(self._at("log-part", 0), self._at("log-part", version + 1)),
            delete_range(self._at("snapshot-part", 0), self._at("snapshot-part", version)),
        ]
        conditions = [is_value(self._leader, seen.leader), self._is_as(seen, self._snapshot)]
        return before, transaction(conditions, steps)

    # --- leadership

    def campaign(self, seen: Seen, name: str, lease: int) -> Json:
        """`name` leads the next term, if nobody has done so since."""
        conditions = [self._is_as(seen, self._term), self._is_as(seen, self._leader)]
        term = seen.term + 1
        return transaction(conditions, [put(self._term, str(term)), put(self._leader, office(term, name), lease=lease)])

    # --- keys

    def _is_as(self, seen: Seen, key: str) -> Json:
        return is_unchanged(key, seen.revisions.get(key, 0))

    def _at(self, kind: str, version: int) -> str:
        return f"{self._root}/{kind}/{version:020d}"

    def _end(self, kind: str) -> str:
        return f"{self._root}/{kind}0"  # '0' is the character after '/'

    def _number(self, pair: Pair) -> int:
        return int(pair.key.rpartition("/")[2])

    def _part(self, kind: str, version: int, id: bytes, number: int) -> str:
        return f"{self._at(kind, version)}/{id.hex()}/{number:04d}"

    def _put_parts(self, kind: str, version: int, id: bytes, body: bytes) -> list[Json]:
        parts = [body[at : at + ETCD_PART_BYTES] for at in range(0, len(body), ETCD_PART_BYTES)]
        return [transaction([], [put(self._part(kind, version, id, n), each)]) for n, each in enumerate(parts)]
