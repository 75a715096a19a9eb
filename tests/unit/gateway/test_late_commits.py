"""A commit that has taken too long does not rely on records that may be gone (transactions/recovery.py)."""

from __future__ import annotations

import dataclasses
from unittest.mock import Mock

import pytest

from hanse.core.limits import COMMIT_S_MAX, RECORD_AGE_S_MIN
from hanse.gateway import ending
from hanse.transactions.commit import GlobalId, Resolve, Run, new_global_id


def late(identity: GlobalId) -> GlobalId:
    return dataclasses.replace(identity, made=identity.made - COMMIT_S_MAX - 1)


def test_half_of_a_records_life_is_left_for_clocks() -> None:
    assert RECORD_AGE_S_MIN >= 2 * COMMIT_S_MAX


async def test_a_late_decision_is_not_sent() -> None:
    """There is no branch to send it to, and none is asked for."""
    identity = new_global_id("g2")
    step = Run(("g2",), "COMMIT", "COMMIT", "decide")
    (error,) = (await ending._step(Mock(), Mock(witnesses=[]), late(identity), step)).values()
    assert error.sqlstate == "40001"
    assert await ending._step(Mock(), Mock(branches={}, witnesses=[]), identity, step) == {}


@pytest.mark.parametrize(("is_late", "expected"), [(True, "08006"), (False, "40001")])
async def test_no_record_is_believed_only_in_time(
    monkeypatch: pytest.MonkeyPatch, is_late: bool, expected: str
) -> None:
    async def no_record(*_: object) -> bool:
        return False

    monkeypatch.setattr(ending, "_was_committed", no_record)
    identity = new_global_id("g2")
    identity = late(identity) if is_late else identity
    (error,) = (await ending._step(Mock(), Mock(witnesses=[]), identity, Resolve("g2", identity.gid))).values()
    assert error.sqlstate == expected
