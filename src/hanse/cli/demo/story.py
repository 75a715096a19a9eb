"""The chapters of the demo, as story.sql has them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Chapter:
    title: str
    narration: str
    statements: tuple[str, ...]  # without the semicolon


def chapters() -> tuple[Chapter, ...]:
    _, *paragraphs = read("story.sql").strip().split("\n\n")  # the first one says what the file is
    return tuple(_chapter(paragraph) for paragraph in paragraphs)


def _chapter(paragraph: str) -> Chapter:
    lines = paragraph.splitlines()
    comments = [line.removeprefix("-- ") for line in lines if line.startswith("--")]
    code = "\n".join(line for line in lines if not line.startswith("--"))
    return Chapter(comments[0], " ".join(comments[1:]), split_statements(code))


def split_statements(text: str) -> tuple[str, ...]:
    """Statements that end with a semicolon at the end of a line; comments outside of them are dropped."""
    code = "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("--")) + "\n"
    return tuple(part.strip() for part in code.split(";\n") if part.strip())


def read(file: str) -> str:
    return resources.files(__package__).joinpath(file).read_text("utf-8")
