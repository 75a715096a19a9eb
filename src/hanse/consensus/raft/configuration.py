"""Who belongs to the cluster, and what a quorum of it is (dissertation, chapter 4).

A configuration is *joint* while it has `outgoing` voters: then every decision needs a majority of `voters` and a majority
of `outgoing` (section 4.3). Learners receive the log and decide nothing. A node that a joint change makes a learner is
in `outgoing` and in `learners` until the change is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

Value = TypeVar("Value", int, float)


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Names in sorted order. `addresses` says where members listen; the protocol only carries it."""

    voters: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    addresses: dict[str, str] = {}

    def __post_init__(self) -> None:
        for names in (self.voters, self.outgoing, self.learners):
            if list(names) != sorted(set(names)):
                raise ValueError(f"names must be sorted and distinct: {names}")
        if set(self.voters) & set(self.learners):
            raise ValueError("a node is a voter or a learner")

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))

    def votes(self, node: str) -> bool:
        return node in self.voters or node in self.outgoing

    def after_joint(self) -> Configuration:
        """What follows a joint configuration."""
        kept = {name: self.addresses[name] for name in self.addresses if name in (*self.voters, *self.learners)}
        return Configuration(voters=self.voters, learners=self.learners, addresses=kept)

    def agreed(self, values: Mapping[str, Value], least: Value) -> Value:
        """The highest value that a quorum has reached; a node that is not in `values` has `least`.

        Of match indexes it is the index that may be committed, of times the time since which a quorum is heard of.
        """
        if not self.voters:
            return least
        reached = _majority(self.voters, values, least)
        return min(reached, _majority(self.outgoing, values, least)) if self.outgoing else reached

    def outcome(self, votes: Mapping[str, bool]) -> bool | None:
        """True: won. False: cannot be won any more. None: open."""
        if self.agreed({node: int(granted) for node, granted in votes.items()}, 0):
            return True
        possible = {node: int(votes.get(node, True)) for node in self.members}
        return None if self.agreed(possible, 0) else False


def _majority(voters: tuple[str, ...], values: Mapping[str, Value], least: Value) -> Value:
    return sorted((values.get(node, least) for node in voters), reverse=True)[len(voters) // 2]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Configuration)


def encode(configuration: Configuration) -> bytes:
    return _encoder.encode(configuration)


def decode(data: bytes) -> Configuration:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(data)
