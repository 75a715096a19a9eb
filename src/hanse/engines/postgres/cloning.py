"""Copies of a leader: pg_basebackup into a fresh directory, pg_rewind of the directory that there is.

Both copy the source's configuration files as well, so the instance's own are written again afterwards. pg_rewind first
brings a directory that was not shut down to a consistent state, by a single-user server: that one reads settings from files
only, and refuses to run where there is a standby.signal.

An agent that was killed leaves the program that it ran, which goes on writing. So such a program is ended before another begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from ...core.errors import PgError
from .group_files import (
    STANDBY_SIGNAL,
    Source,
    clone_directory,
    clone_place,
    configure_member,
    mark_rewind,
    remove_clone,
    replace_with_clone,
    start_as_follower,
)
from .instance import Instance
from .osuser import start_arguments

_PROGRESS = re.compile(rb"(\d+)/(\d+) kB")

LEFTOVERS_S_MAX = 10.0

Progress = Callable[[int, int], None]  # (bytes done, bytes in all as estimated)


async def clone(
    instance: Instance,
    source: Source,
    *,
    synchronous_standby_names: str = "",
    progress: Progress | None = None,
) -> None:
    """Make the instance a copy of a leader, which follows it when it is started. Its server must not run.

    What was there before stays until the copy is complete. Raises PgError 58030 with pg_basebackup's words.
    """
    await asyncio.to_thread(_end_leftovers, instance)
    target = await asyncio.to_thread(clone_directory, instance)
    command: list[str | Path] = [
        instance.binaries.path("pg_basebackup"),
        f"--dbname={_without_password(source)}",
        f"--pgdata={target}",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--progress",
        "--no-password",
    ]
    if source.slot is not None:
        command.append(f"--slot={source.slot}")
    code, said = await _run(instance, command, source.password, _watch(progress))
    if code != 0:
        await asyncio.to_thread(remove_clone, instance)
        raise PgError("58030", f"instance {instance.spec.name} could not be copied from its leader", detail=said)
    await asyncio.to_thread(replace_with_clone, instance, target)
    await asyncio.to_thread(_own_files, instance, source, synchronous_standby_names)


async def rewind(instance: Instance, source: Source, *, term: int, synchronous_standby_names: str = "") -> None:
    """Bring a stopped instance that has gone astray to its leader of `term`. The mark stays until replay is consistent.

    Raises PgError 58030 with pg_rewind's words; then the instance has to be cloned.
    """
    await asyncio.to_thread(mark_rewind, instance, term)
    await asyncio.to_thread(_end_leftovers, instance)
    (instance.directory / STANDBY_SIGNAL).unlink(missing_ok=True)
    await asyncio.to_thread(instance.configure, instance.directory)
    command: list[str | Path] = [
        instance.binaries.path("pg_rewind"),
        f"--target-pgdata={instance.directory}",
        f"--source-server={_without_password(source)}",
    ]
    code, said = await _run(instance, command, source.password, lambda _: None)
    if code != 0:
        raise PgError("58030", f"instance {instance.spec.name} could not be rewound to its leader", detail=said)
    await asyncio.to_thread(_own_files, instance, source, synchronous_standby_names)


def _end_leftovers(instance: Instance) -> None:
    """Raises PgError 58030 where one does not end: a hung disk holds it."""
    places = {f"--pgdata={clone_place(instance)}", f"--target-pgdata={instance.directory}"}
    found = [each for each in psutil.process_iter(["cmdline"]) if places & set(each.info["cmdline"] or ())]
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, staying = psutil.wait_procs(found, timeout=LEFTOVERS_S_MAX)
    if staying:
        raise PgError("58030", f"process {staying[0].pid} of an earlier copy of {instance.spec.name} does not end")


def _own_files(instance: Instance, source: Source, synchronous_standby_names: str) -> None:
    instance.configure(instance.directory)
    configure_member(instance, source=source, synchronous_standby_names=synchronous_standby_names)
    start_as_follower(instance)


def _without_password(source: Source) -> str:
    """A command line can be read by everybody on the machine; the password goes by the environment."""
    return f"host={source.host} port={source.port} user={source.user} dbname=postgres application_name=hanse"


def _watch(progress: Progress | None) -> Callable[[bytes], None]:
    def see(printed: bytes) -> None:
        found = _PROGRESS.findall(printed)
        if found and progress is not None:
            done, total = found[-1]
            progress(int(done) << 10, int(total) << 10)

    return see


async def _run(
    instance: Instance, command: Sequence[str | Path], password: str, see: Callable[[bytes], None]
) -> tuple[int, str]:
    """The return code, and the last line that says why. A caller that is cancelled ends the program, and waits for it."""
    arguments = start_arguments(instance.user)
    arguments["env"] = arguments["env"] | {"PGPASSWORD": password}
    process = await asyncio.create_subprocess_exec(
        *(str(word) for word in command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        **arguments,
    )
    assert process.stderr is not None
    printed = b""
    try:
        while part := await process.stderr.read(4096):
            see(part)
            printed = (printed + part)[-8192:]
        code = await process.wait()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    lines = [line for line in re.split(r"[\r\n]+", printed.decode(errors="replace")) if line.strip()]
    reasons = [line for line in lines if "error:" in line or "FATAL:" in line]
    return code, (reasons or lines or ["it printed nothing"])[-1]
