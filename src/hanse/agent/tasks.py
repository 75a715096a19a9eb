"""Work that nobody may leave half done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """A thread cannot be cancelled: who is cancelled waits for its end, so that nobody else works on the server."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():  # more than one may cancel
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()
        raise


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancels it, and waits until it has ended."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,))
