"""The table of clients in the guide tells of the tests that there are."""

from __future__ import annotations

from clients import table

REWRITE = "HANSE_REWRITE=1 pytest tests/clients writes it anew"


def test_every_test_says_what_it_tries() -> None:
    assert all(tried and "|" not in tried for _, tried in table.declared())


def test_the_table_is_current() -> None:
    rows = [(client, tried) for client, _, tried, _ in table.shown()]
    assert rows == list(dict.fromkeys(table.declared())), REWRITE


def test_everything_in_the_table_works() -> None:
    assert {result for *_, result in table.shown()} == {"works"}, REWRITE
