"""What runs a unit of input, imported when it is first needed: the modules need `session`, and it needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..pgwire.framing import Message

if TYPE_CHECKING:
    from .session import Session


async def run_simple(session: Session, text: bytes) -> None:
    from . import simple

    await simple.run_simple(session, text)


async def run_batch(session: Session, batch: list[Message]) -> None:
    from . import extended

    await extended.run_batch(session, batch)


async def run_batch_and_query(session: Session, batch: list[Message], text: bytes) -> None:
    """A Query message ends a pipeline as Sync would, unless the pipeline has failed: then all but Sync is skipped."""
    await run_batch(session, batch)
    if not session.skip_to_sync:
        await run_simple(session, text)
