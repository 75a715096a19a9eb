"""A copy of a server becomes another server: it gets a system identifier of its own.

By it PostgreSQL tells whether a standby belongs to a primary (`initdb.py`). It is written in pg_control, in the header of each
WAL segment, and nowhere else; so it is changed there (as pg_createsubscriber does), and pg_resetwal begins new WAL behind the old.
The timeline stays.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
from pathlib import Path

from ...core.errors import UserMistake
from .instance import Instance
from .osuser import run_as

_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
_IDENTIFIER = struct.Struct("=Q")
_CRC = struct.Struct("=I")


def renew_identity(instance: Instance) -> int:
    """The new identifier. The server was stopped in order. Raises UserMistake; then the directory is of no more use."""
    identifier = (int(time.time()) << 32) | secrets.randbits(32)
    _write(instance.directory / "global" / "pg_control", identifier)
    result = run_as(instance.user, (instance.binaries.path("pg_resetwal"), "-D", instance.directory))
    if result.returncode != 0:
        raise UserMistake(f"pg_resetwal failed for {instance.spec.name}: {result.stderr.strip()}")
    return identifier


def _write(path: Path, identifier: int) -> None:
    """The identifier comes first; the sum, behind all that it covers, lies elsewhere in each major version."""
    content = path.read_bytes()
    end = _end_of_content(content)
    if end is None:
        raise UserMistake(f"{path} is damaged: its sum is wrong")
    covered = _IDENTIFIER.pack(identifier) + content[_IDENTIFIER.size : end]
    with open(path, "r+b") as file:  # the owner stays
        file.write(covered + _CRC.pack(crc32c(covered)))
        file.flush()
        os.fsync(file.fileno())


def _end_of_content(content: bytes) -> int | None:
    crc = 0xFFFFFFFF
    for position, byte in enumerate(content[: -_CRC.size]):
        whole = position > _IDENTIFIER.size and position % _CRC.size == 0
        if whole and _CRC.unpack_from(content, position)[0] == crc ^ 0xFFFFFFFF:
            return position
        crc = _step(crc, byte)
    return None


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _step(crc, byte)
    return crc ^ 0xFFFFFFFF


def _step(crc: int, byte: int) -> int:
    crc ^= byte
    for _ in range(8):
        crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc
