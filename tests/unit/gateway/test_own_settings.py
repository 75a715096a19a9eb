"""Hanse's own settings: what they can be, and questions that many ask at once."""

from __future__ import annotations

import asyncio

import pytest

from hanse.core.errors import PgError
from hanse.gateway.followers import Shared
from hanse.gateway.own_settings import DEFAULTS, GUARANTEE, MAX_STALENESS, MAX_STALENESS_S, READ_FROM, check, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250", 0.25),
        ("0", 0.0),
        ("5s", 5.0),
        (" 1.5 min ", 90.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("300us", 0.0003),
        ("7ms", 0.007),
        ("-1", None),
        ("5 S", None),
        ("soon", None),
        ("1e3", None),
        ("", None),
        (None, None),
    ],
)
def test_times(text: str | None, value: float | None) -> None:
    assert seconds(text) == (None if value is None else pytest.approx(value))
    if value is None:
        with pytest.raises(PgError, match="22023|invalid value"):
            check(MAX_STALENESS, text)
    else:
        check(MAX_STALENESS, text)


def test_defaults_are_allowed() -> None:
    assert seconds(DEFAULTS[MAX_STALENESS]) == MAX_STALENESS_S
    for name, value in DEFAULTS.items():
        if name == GUARANTEE:
            with pytest.raises(PgError):
                check(name, value)
        else:
            check(name, value)


@pytest.mark.parametrize("value", ["", "Leader", "followers", None])
def test_other_values_are_not(value: str | None) -> None:
    with pytest.raises(PgError) as caught:
        check(READ_FROM, value)
    assert caught.value.sqlstate == "22023"


async def test_who_asks_while_a_question_is_under_way_is_given_the_answer_of_a_later_one() -> None:
    begun: list[asyncio.Future[None]] = []

    async def ask() -> None:
        begun.append(asyncio.get_running_loop().create_future())
        await begun[-1]

    shared = Shared(ask)
    first = asyncio.create_task(shared.ask())
    while not begun:
        await asyncio.sleep(0)
    later = [asyncio.create_task(shared.ask()) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert len(begun) == 1
    begun[0].set_result(None)
    await first
    while len(begun) < 2:
        await asyncio.sleep(0)
    assert not any(each.done() for each in later)
    later[0].cancel()  # nobody else is the worse for it
    begun[1].set_result(None)
    await asyncio.gather(*later[1:])
    assert len(begun) == 2
