"""Drives `planner.longinsert`: a VALUES list of thousands of rows is planned while other sessions go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..executor.request import Request, Sink
from ..planner.longinsert import LongPlan, plan_long
from ..planner.plan import Forward
from ..sql.longlists import head_end
from . import drawn
from .plans import LONG_LIST_BYTES
from .statements import execute

if TYPE_CHECKING:
    from .session import Session


def is_long(session: Session, text: bytes) -> bool:
    """Whether `run_long` may know what to do with the text; then nobody should parse it as a whole."""
    return head_end(text) is not None and not session.cursors and not drawn.asks_drawn(text)


async def run_long(session: Session, text: bytes, sink: Sink, request: Request | None = None) -> bytes | None:
    """Runs a long INSERT … VALUES without parameters; None: it is not one, or not one that can be planned by its rows."""
    if not is_long(session, text):
        return None
    found = await _plan(session, text)
    if found is None:
        return None
    if request is None:
        request = Request(text=text, snapshot=session.plans.snapshot)
    if len(text) <= LONG_LIST_BYTES and (template := found.template()) is not None:
        session.plans.keep(text, template)
    request.snapshot = session.plans.snapshot
    whole = isinstance(found.planned.plan, Forward)
    request.rows = None if whole else found.rows
    request.parts = [text] if whole else found.parts
    request.literals = request.parts[1::2]
    return await execute(session, found.planned, request, sink)


async def _plan(session: Session, text: bytes) -> LongPlan | None:
    """With the catalog as it is when the plan is ready."""
    while True:
        plans = session.plans
        found: LongPlan | None = None
        steps = plan_long(text, plans.make, plans.snapshot)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found = end.value
                break
            await asyncio.sleep(0)
        if found is None:
            return None
        if not await session.gateway.wait_thawed(found.planned, session.exempt) and session.plans is plans:
            return found
