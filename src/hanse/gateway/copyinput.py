"""A client's messages during COPY FROM STDIN: data and its end, one by one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..core.limits import CLIENT_BUFFER_BYTES_MAX
from ..pgwire import frontend
from ..pgwire.framing import Message
from . import longmessages
from .encoding import Recoder

if TYPE_CHECKING:
    from .session import Session


def start(session: Session) -> None:
    session.flush()
    session.copied = True
    translate = isinstance(session.output, Recoder) and not session.output.copy_as_is
    session.copy_decoder = session.codec.incremental() if session.codec is not None and translate else None


def stop(session: Session) -> None:
    session.copy_waiter = session.copy_decoder = None


async def next_message(session: Session) -> Message:
    """What is not asked for stays for `advance`. Raises 53200 for data that the worker has no room for."""
    framer = session.framer
    while (message := framer.next()) is None:
        if longmessages.lacks_room(session):
            await longmessages.make_room(session)
            continue
        session.resume_reading()
        session.copy_waiter = asyncio.get_running_loop().create_future()
        await session.copy_waiter
    if len(framer) < CLIENT_BUFFER_BYTES_MAX // 2:
        session.resume_reading()
    if not message.raw:
        raise longmessages.out_of_memory()
    decoder = session.copy_decoder
    if decoder is not None and message.kind in (frontend.COPY_DATA, frontend.COPY_DONE):
        assert session.codec is not None
        return session.codec.copy_message(message, decoder)
    return message
