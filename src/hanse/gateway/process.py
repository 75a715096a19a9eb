"""What a gateway worker asks of its process: a deep stack, files for its connections, a log without what is none of our errors."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import Any

from ..core.limits import BACKENDS_PER_PLACE_MAX, CLIENTS_MAX, UNAUTHENTICATED_MAX
from ..sql import depth

FILES_WANTED = CLIENTS_MAX + UNAUTHENTICATED_MAX + 8 * BACKENDS_PER_PLACE_MAX + 256


def prepare() -> None:
    """To be called on the main thread, before the event loop runs."""
    depth.prepare_process()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """uvloop's TLS writes once more to a client who has just gone, and reports that as an error of the loop."""
    transport = context.get("transport")
    if isinstance(context.get("exception"), RuntimeError) and transport is not None and transport.is_closing():
        return
    loop.default_exception_handler(context)
