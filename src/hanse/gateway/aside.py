"""Long texts are parsed and planned on a thread beside the event loop, so that a worker serves others meanwhile.

Planning walks the tree many times: 25 µs for each byte of a chain of ORs. What the thread has found is kept (`sql.parse`, `Plans`)
until the next long text, and the code that needs it asks for it as for any other. A thread and not a process: trees are
large. The interpreter lets the event loop have its turn every few milliseconds; only where pglast makes a tree does
nobody else run, 1.7 µs for each byte.

One thread for all sessions: who sends such texts waits for others who do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from ..core.limits import STACK_BYTES
from ..sql.parse import Parsed
from ..sql.parse import parse as parse_now

if TYPE_CHECKING:
    from .plans import Plans

LONG_TEXT_BYTES = 8_192  # shorter ones take less than 0.2 s

T = TypeVar("T")


async def parse(plans: Plans, text: bytes) -> tuple[Parsed, ...]:
    """`sql.parse.parse`; a long text's only statement is planned, too."""
    if len(text) < LONG_TEXT_BYTES:
        return parse_now(text)
    return await _run(lambda: _parsed(plans, text))


def _parsed(plans: Plans, text: bytes) -> tuple[Parsed, ...]:
    statements = parse_now(text)
    if len(statements) == 1 and statements[0].node is not None:
        _planned(plans, statements[0])
    return statements


async def plan(plans: Plans, statement: Parsed) -> None:
    """From now on `Plans.make` has the plan of a long statement at hand."""
    if len(statement.text) >= LONG_TEXT_BYTES and not plans.has_made(statement):
        await _run(lambda: _planned(plans, statement))


def _planned(plans: Plans, statement: Parsed) -> None:
    with suppress(RecursionError):  # it comes again where the plan is asked for
        plans.make_long(statement)


async def _run(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_thread(), work)


@cache
def _thread() -> ThreadPoolExecutor:
    """With a stack as deep as the main thread's (sql/depth.py)."""
    before = threading.stack_size(STACK_BYTES)
    try:
        executor = ThreadPoolExecutor(1, thread_name_prefix="aside")
        executor.submit(int).result()  # the thread begins now
    finally:
        threading.stack_size(before)
    return executor
