"""Mistakes that a Raft can have, planted one at a time: each is the wrong rule in the place of the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from raft_cluster import Flaws

from hanse.consensus.raft import core, election, membership, reads, replication, state, transfer
from hanse.consensus.raft.configuration import Configuration, _majority
from hanse.consensus.raft.messages import TimeoutNow

Patch = tuple[Any, str, Any]

_agreed = Configuration.agreed
_init = state.State.__init__
_on_append = replication.on_append
_has_lease = reads.has_lease
_go_on = transfer.go_on


def _agreed_by_incoming(self: Configuration, values: Any, least: Any) -> Any:
    return _majority(self.voters, values, least) if self.voters else least


def _agreed_by_half(self: Configuration, values: Any, least: Any) -> Any:
    reached = sorted((values.get(node, least) for node in self.voters), reverse=True)
    return reached[max(0, (len(reached) + 1) // 2 - 1)] if reached else least


def _forgets_promise(self: Any, *arguments: Any) -> None:
    _init(self, *arguments)
    self.heard_at = float("-inf")


def _no_consistency_check(self: Any, message: Any) -> None:
    if self.log.term_at(message.prev_index) is None:
        return _on_append(self, message)
    right, self.log.term_at = self.log.term_at, lambda i: message.prev_term if i == message.prev_index else right(i)
    try:
        _on_append(self, message)
    finally:
        del self.log.term_at


def _lease_survives_transfer(self: Any, leading: Any) -> None:
    _go_on(self, leading)
    leading.lease_usable = True


def _votes_again(self: Any, message: Any) -> bool:
    return message.term > self.term if message.pre else message.term == self.term


def _reads_at_once(self: Any, leading: Any, origin: str, ticket: int) -> None:
    reads._answer(self, origin, ticket, self.commit)


def _changes_at_any_time(self: Any) -> bool:
    return bool(self.configuration.joint)


def _counts_what_is_not_written(self: Any) -> None:
    self.log.stable, before = self.log.last_index, self.log.stable
    try:
        _advance(self)
    finally:
        self.log.stable = min(before, self.log.last_index)


_advance = replication.advance_commit

MUTANTS: dict[str, list[Patch] | Flaws] = {
    "a vote is not durable": Flaws(forgets_votes=True),
    "answers leave before the write": Flaws(sends_before_write=True),
    "two votes in a term": [(election, "_may_vote", _votes_again)],
    "votes for shorter logs": [(election, "up_to_date", lambda self, message: True)],
    "an old term's entry is committed by counting": [(replication, "may_commit", lambda self, index: True)],
    "half is a majority": [(Configuration, "agreed", _agreed_by_half)],
    "no check of the previous entry": [(replication, "on_append", _no_consistency_check)],
    "the outgoing majority is not asked": [(Configuration, "agreed", _agreed_by_incoming)],
    "changes overlap": [(membership, "under_way", _changes_at_any_time)],
    "a read without a round of heartbeats": [(reads, "_take_up", _reads_at_once)],
    "a read before an entry of the term": [(reads, "may_read", lambda self, leading: True)],
    "a lease that does not reckon with drift": [
        (state.Settings, "lease_s", property(lambda self: self.election_timeout_s))
    ],
    "votes while a leader is heard of": [(election, "_leader_is_there", lambda self: False)],
    "a promise is forgotten at a restart": [(state.State, "__init__", _forgets_promise)],
    "a lease after leadership was offered": [(transfer, "go_on", _lease_survives_transfer)],
    "a lease without rounds": [(reads, "has_lease", lambda self, leading: True)],
    "a leader counts itself before its write": [(replication, "advance_commit", _counts_what_is_not_written)],
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
