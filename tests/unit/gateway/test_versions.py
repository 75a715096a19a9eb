"""What a gateway without a lease makes of the group's answer: go on, ask again, or refuse."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from hanse.core.errors import PgError
from hanse.gateway import versions

MISSING = PgError("42P01", 'relation "hanse.catalog_7" does not exist')
LOCKED = PgError("55P03", 'could not obtain lock on relation "catalog_7"')
LOST = PgError("08006", "the connection to g1 was lost")


class Group:
    """A backend whose group answers the question for the name as told; the last answer again and again."""

    place = "g1"

    def __init__(self, *answers: PgError | None) -> None:
        self.answers, self.said = list(answers), []

    async def query(self, sql: str) -> list[Any]:
        self.said.append(sql)
        if "LOCK TABLE" in sql and (answer := self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]):
            raise answer
        return []


def confirm(group: Group) -> None:
    session: Any = SimpleNamespace(running={})
    backend: Any = group
    asyncio.run(versions.confirm(session, backend, 7))
    assert session.running == {"g1": group}, "a cancel request finds it"


def refused(group: Group) -> str | None:
    with pytest.raises(PgError) as caught:
        confirm(group)
    assert caught.value.sqlstate == "57P03"
    return caught.value.detail


def test_the_version_holds() -> None:
    group = Group(None)
    confirm(group)
    assert len(group.said) == 1 and "hanse.catalog_7 IN ACCESS SHARE MODE NOWAIT" in group.said[0]


def test_an_old_catalog_is_refused_at_once() -> None:
    group = Group(MISSING)
    assert refused(group) == "The schema has changed since, as group g1 knows."
    assert len(group.said) == 1


def test_a_change_under_way_is_waited_for() -> None:
    group = Group(LOCKED, LOCKED, None)
    confirm(group)
    assert [sql.split()[0] for sql in group.said] == ["SAVEPOINT", "ROLLBACK", "SAVEPOINT", "ROLLBACK", "SAVEPOINT"]
    assert refused(Group(LOCKED, MISSING)) == "The schema has changed since, as group g1 knows."


def test_a_change_that_is_not_decided_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "CATALOG_WAIT_S_MAX", 0.1)
    assert refused(Group(LOCKED)) == "A schema change in group g1 is not decided yet."


def test_other_errors_are_what_they_are() -> None:
    with pytest.raises(PgError) as caught:
        confirm(Group(LOST))
    assert caught.value is LOST
