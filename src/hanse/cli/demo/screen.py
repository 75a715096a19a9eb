"""What the demo prints: colours and a moving bar on a terminal, the same words as plain text elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 110
ROWS_SHOWN_MAX = 8
INDENT = (0, 0, 0, 2)  # rich's order: top, right, bottom, left


class Screen:
    def __init__(self) -> None:
        console = Console(highlight=False)
        self._console = console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)

    def _print(self, what: RenderableType = "") -> None:
        if self._console.is_terminal:
            self._console.print(what)
            return
        with self._console.capture() as captured:
            self._console.print(what)
        for line in captured.get().splitlines():
            print(line.rstrip(), flush=True)  # rich fills lines up to the width

    def heading(self, text: str) -> None:
        self._print()
        self._print(Text(text, style="bold cyan"))

    def say(self, text: str) -> None:
        self._print(Padding(Text(text), INDENT))

    def statement(self, sql: str) -> None:
        self._print()
        if self._console.is_terminal:
            self._print(Padding(Syntax(sql, "sql", background_color="default", word_wrap=True), INDENT))
        else:
            for line in sql.splitlines():  # never wrapped: it can be copied
                print(f"  {line}")

    def route(self, lines: Sequence[str]) -> None:
        for line in lines:
            depth = len(line) - len(line.lstrip())
            self._print(Padding(Text(line.strip(), style="green"), (0, 0, 0, 4 + depth)))

    def rows(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for position, column in enumerate(columns):
            numbers = all(isinstance(row[position], int | float | Decimal) for row in rows if row[position] is not None)
            table.add_column(column, justify="right" if numbers and rows else "left")
        for row in rows[:ROWS_SHOWN_MAX]:
            table.add_row(*(Text(shown(value)) for value in row))
        self._print(Padding(table, INDENT))
        if len(rows) > ROWS_SHOWN_MAX:
            self.say(f"… and {len(rows) - ROWS_SHOWN_MAX} more rows")

    def took(self, tag: str, seconds: float) -> None:
        self._print(Padding(Text(f"{tag}, {seconds * 1000:,.1f} ms", style="dim"), INDENT))

    @contextmanager
    def loading(self, what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Gives a function that is told of bytes sent; a bar on a terminal, nothing elsewhere."""
        columns = (TextColumn(f"  {what:9}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(what, total=total_bytes)
            yield lambda count: bar.advance(task, count)


def shown(value: Any) -> str:
    """A value as psql would show it, nearly."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, list):
        return "{" + ",".join(shown(item) for item in value) + "}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
