"""A member's pledge on disk: durable before it is answered for, and recognised when it is damaged.

    <node>/g1.pledge        beside the data directory <node>/g1, so that a clone does not touch it

The first line is the SHA-256 of the rest, which is the pledge as JSON. A file is replaced whole: written under another name,
fsynced, renamed, and the directory fsynced. What a rename leaves is the old pledge or the new one, never a mixture; so a file
that does not fit its sum was damaged by the disk or by a person, and nobody can know any more to whom the instance has given
itself. It must not take part with an older pledge, which might let two leaders have one term: it is to be removed from its
group, and to be added again under another name.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from ..core.errors import UserMistake
from ..replication.pledge import Pledge


class PledgeDamaged(UserMistake):
    """The file cannot be what was written."""


class PledgeFile:
    """One instance's. `pledge` is what is on disk. Methods block for an fsync or two."""

    def __init__(self, path: Path, pledge: Pledge) -> None:
        self._path = path
        self.pledge = pledge

    @classmethod
    def create(cls, path: Path, pledge: Pledge) -> PledgeFile:
        """Of a new instance. Raises FileExistsError where there is one."""
        if path.exists():
            raise FileExistsError(path)
        file = cls(path, pledge)
        file._write(pledge)
        return file

    @classmethod
    def load(cls, path: Path, group: str) -> PledgeFile:
        """Raises PledgeDamaged where the file is missing, damaged, or of another group."""
        try:
            digest, _, body = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            raise PledgeDamaged(f"{path} is missing: it is not known any more what this instance has pledged") from None
        if digest != _digest(body):
            raise PledgeDamaged(f"{path} is damaged: its sum is wrong")
        try:
            pledge = msgspec.json.decode(body, type=Pledge)
        except (msgspec.DecodeError, ValueError) as error:
            raise PledgeDamaged(f"{path} is of another version: {error}") from None
        if pledge.group != group:
            raise PledgeDamaged(f"{path} belongs to group {pledge.group} and not to {group}")
        return cls(path, pledge)

    def store(self, pledge: Pledge) -> None:
        """Durable when it returns. A pledge never goes back to a lower term."""
        assert pledge.group == self.pledge.group and pledge.term >= self.pledge.term
        if pledge != self.pledge:
            self._write(pledge)
            self.pledge = pledge

    def _write(self, pledge: Pledge) -> None:
        body = msgspec.json.encode(pledge)
        unfinished = self._path.with_name(f".{self._path.name}.new")
        with open(unfinished, "wb") as file:
            file.write(_digest(body) + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._path)
        number = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
