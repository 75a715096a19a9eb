"""What a gateway worker asks of its operating system before it serves: a deep stack, and files for its connections."""

from __future__ import annotations

import contextlib
import resource

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
