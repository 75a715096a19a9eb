"""A Forward plan, compiled: from literals and parameters to the place and the text, in a few microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..catalog.keys import NotEvaluable
from ..catalog.model import Relation, Snapshot
from ..core.ids import quote_qualified
from ..planner.plan import Equal, Forward, Planned, Prune
from ..planner.values import NO_PARAMETERS, NO_SHARD, Lookup, Parameters, compile_equal, compile_insert, shards_for

if TYPE_CHECKING:
    from .autoprepare import Prepared

Literals = Sequence[bytes]


@dataclass(slots=True)
class Route:
    planned: Planned
    place: str | None  # known before any value is
    prunes: tuple[Prune, ...]
    any_group: bool
    relation: Relation | None = None  # the one sharded table of the simple case
    groups: tuple[str, ...] = ()  # by shard index of `relation`
    shard_of: Lookup | None = None
    renamed: dict[int, tuple[tuple[int, bytes], ...]] = field(default_factory=dict)  # shard → (segment, new bytes)
    snapshot: Snapshot | None = None
    uses: int = 0  # by the simple protocol
    prepared: Prepared | None = None  # how it is sent as a prepared statement

    @property
    def renames(self) -> bool:
        plan = self.planned.plan
        return isinstance(plan, Forward) and bool(plan.renames)

    def resolve(self, literals: Literals, parameters: Parameters = NO_PARAMETERS) -> tuple[str | None, int | None]:
        """(place, shard). Place None: the values do not meet in one place, or cannot be evaluated here.

        An equality with NULL, or a key for which there is no shard, matches no row anywhere: the first group answers.
        """
        if self.shard_of is not None:
            try:
                shard = self.shard_of(literals, parameters)
            except (NotEvaluable, IndexError):  # IndexError: `$1` where nothing is bound; PostgreSQL says so
                return None, None
            if shard != NO_SHARD:
                return self.groups[shard], shard
            return self.groups[0] if self.groups else None, None
        if not self.prunes:
            return self.place, None
        return self._meet(literals, parameters), None

    def _meet(self, literals: Literals, parameters: Parameters = NO_PARAMETERS) -> str | None:
        place = self.place
        assert self.snapshot is not None
        for prune in self.prunes:
            relation = self.snapshot.relation_by_identity[prune.relation]
            try:
                shards = shards_for(prune, relation, literals, parameters)
            except IndexError:
                shards = None
            if shards is None:
                return None
            groups = {relation.shards[shard].group for shard in shards}
            if len(groups) > 1 or (groups and place is not None and place not in groups):
                return None
            if groups:
                place = groups.pop()
        if place is None:  # no row anywhere can match
            place = self.snapshot.home_group
        return place

    def replacements(self, shard: int, segments: Sequence[bytes]) -> tuple[tuple[int, bytes], ...]:
        """(index in the split text, new segment) that put the partition's name into the text; cached by shard."""
        found = self.renamed.get(shard)
        if found is None:
            found = self.renamed[shard] = self._render(shard, segments)
        return found

    def _render(self, shard: int, segments: Sequence[bytes]) -> tuple[tuple[int, bytes], ...]:
        plan = self.planned.plan
        assert isinstance(plan, Forward) and self.relation is not None
        partition = self.relation.shards[shard]
        name = quote_qualified(partition.schema, partition.name).encode()
        changed: dict[int, bytes] = {}
        for rename in sorted(plan.renames, key=lambda r: (r.segment, -r.start)):
            segment = changed.get(rename.segment, segments[rename.segment])
            changed[rename.segment] = segment[: rename.start] + name + rename.alias + segment[rename.end :]
        return tuple(sorted(changed.items()))


def compile_route(planned: Planned, plan: Forward, snapshot: Snapshot) -> Route:
    route = Route(planned, plan.place, plan.prunes, plan.any_group, snapshot=snapshot)
    if plan.place is None and len(plan.prunes) == 1 and isinstance(plan.prunes[0].condition, Equal):
        relation = snapshot.relation_by_identity[plan.prunes[0].relation]
        route.relation = relation
        route.groups = tuple(shard.group for shard in relation.shards)
        compiler = compile_insert if planned.verb == "INSERT" else compile_equal
        route.shard_of = compiler(plan.prunes[0].condition, relation)
    return route
