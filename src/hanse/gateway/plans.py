"""Plans of one catalog version in one context, ready to be used at once: cache, planner and compiled routes together."""

from __future__ import annotations

from dataclasses import replace

from ..catalog.model import Snapshot
from ..core.errors import PgError
from ..core.limits import PLAN_CACHE_ENTRIES_MAX
from ..planner.cache import PlanCache
from ..planner.plan import Context, Forward, Planned
from ..planner.planner import plan
from ..sql.longlists import head_end
from ..sql.parse import Parsed, forget_last
from .route import Route, compile_route

LONG_TEXT_BYTES = 1_000
LONG_LIST_BYTES = 1 << 18
KEPT_BYTES_MAX = 1 << 20


class Plans:
    """`find` is the hot path; `make` plans one statement and keeps it."""

    __slots__ = ("_cache", "_last", "_made", "_routes", "context", "everywhere", "gathered", "snapshot", "unmerged")

    def __init__(self, snapshot: Snapshot, context: Context) -> None:
        self.snapshot = snapshot
        self.context = context
        self.everywhere = replace(context, forward_allowed=False)
        self.unmerged = replace(context, forward_allowed=False, merge_allowed=False)
        self.gathered = replace(context, forward_allowed=False, gather_only=True)
        self._cache = PlanCache()
        self._routes: dict[int, Route] = {}
        self._last: tuple[bytes, tuple[Planned, list[bytes]] | None] = (b"", None)
        self._made: tuple[Parsed, Planned | PgError] | None = None  # of the last long statement

    def find(self, text: bytes) -> tuple[Planned, list[bytes]] | None:
        """The plan of a text and the text's parts. A long text is cut once, however often it is asked for in a row."""
        if len(text) < LONG_TEXT_BYTES:
            return self._cache.lookup(text)
        last, found = self._last
        if last != text or found is None:
            found = None if self._is_very_long_list(text) else self._cache.lookup(text)
            self._last = (text, found)
        return found

    def _is_very_long_list(self, text: bytes) -> bool:
        """It is not in the cache, and to look it up there would delay everybody."""
        return len(text) > LONG_LIST_BYTES and head_end(text) is not None

    def route(self, planned: Planned) -> Route:
        """The compiled form of a Forward plan. It holds the plan, so that no other takes its id meanwhile."""
        route = self._routes.get(id(planned))
        if route is None:
            assert isinstance(planned.plan, Forward)
            if len(self._routes) >= 2 * PLAN_CACHE_ENTRIES_MAX:
                self._routes.clear()  # those of plans that the cache has dropped, and some that are made again
            route = self._routes[id(planned)] = compile_route(planned, planned.plan, self.snapshot)
        return route

    def make(self, statement: Parsed, context: Context | None = None) -> Planned:
        made = self._made
        if made is None or made[0] is not statement or context is not None:
            return plan(statement, context or self.context, self.snapshot)
        if isinstance(made[1], PgError):
            raise made[1]
        return made[1]

    def forget_large(self) -> None:
        """A text of megabytes is kept in several forms as long as its statement runs, and no longer."""
        if len(self._last[0]) > KEPT_BYTES_MAX:
            self._last, self._made = (b"", None), None
            forget_last()

    def has_made(self, statement: Parsed) -> bool:
        return self._made is not None and self._made[0] is statement

    def make_long(self, statement: Parsed) -> None:
        """For a thread beside the event loop: `make` knows the plan, or its error, until the next long statement."""
        try:
            self._made = (statement, plan(statement, self.context, self.snapshot))
        except PgError as error:
            self._made = (statement, error)

    def keep(self, text: bytes, planned: Planned) -> None:
        self._cache.store(text, planned)
