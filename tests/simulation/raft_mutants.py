"""Mistakes that a Raft can have, planted one at a time: each is the wrong rule in the place of the right one.

Mistakes that chance shows too rarely are in tests/unit/consensus, each with the events that it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raft_cluster import Flaws

from hanse.consensus.raft import election, reads, replication, state
from hanse.consensus.raft.configuration import Configuration

Patch = tuple[Any, str, Any]

_on_append = replication.on_append


def _agreed_by_half(self: Configuration, values: Any, least: Any) -> Any:
    reached = sorted((values.get(node, least) for node in self.voters), reverse=True)
    return reached[max(0, (len(reached) + 1) // 2 - 1)] if reached else least


def _no_consistency_check(self: Any, message: Any) -> None:
    if self.log.term_at(message.prev_index) is None:
        return _on_append(self, message)
    right, self.log.term_at = self.log.term_at, lambda i: message.prev_term if i == message.prev_index else right(i)
    try:
        _on_append(self, message)
    finally:
        del self.log.term_at


def _votes_again(self: Any, message: Any) -> bool:
    return message.term > self.term if message.pre else message.term == self.term


def _reads_at_once(self: Any, leading: Any, origin: str, ticket: int) -> None:
    reads._answer(self, origin, ticket, self.commit)


MUTANTS: dict[str, list[Patch] | Flaws] = {
    "answers leave before the write": Flaws(sends_before_write=True),
    "two votes in a term": [(election, "_may_vote", _votes_again)],
    "votes for shorter logs": [(election, "up_to_date", lambda self, message: True)],
    "half is a majority": [(Configuration, "agreed", _agreed_by_half)],
    "no check of the previous entry": [(replication, "on_append", _no_consistency_check)],
    "a read without a round of heartbeats": [(reads, "_take_up", _reads_at_once)],
    "a read before an entry of the term": [(reads, "may_read", lambda self, leading: True)],
    "a lease that does not reckon with drift": [
        (state.Settings, "lease_s", property(lambda self: self.election_timeout_s))
    ],
    "votes while a leader is heard of": [(election, "_leader_is_there", lambda self: False)],
    "a lease without rounds": [(reads, "has_lease", lambda self, leading: True)],
}


@contextmanager
def planted(name: str) -> Iterator[Flaws]:
    mutant = MUTANTS[name]
    if isinstance(mutant, Flaws):
        yield mutant
        return
    before = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in mutant]
    for owner, attribute, wrong in mutant:
        setattr(owner, attribute, wrong)
    try:
        yield Flaws()
    finally:
        for owner, attribute, right in before:
            setattr(owner, attribute, right)
