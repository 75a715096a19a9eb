"""Pledges survive, and damage is noticed, wherever it is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hanse.agent.pledges import PledgeDamaged, PledgeFile
from hanse.replication.pledge import Pledge
from hanse.replication.record import RuleRecord
from hanse.replication.rule import Policy, Rule, rule_of

RECORD = RuleRecord(
    term=5,
    serial=0,
    leader="a",
    promotion_id="r2.1",
    rule=rule_of(Policy.QUORUM, "abc"),
    previous=Rule(frozenset("ab"), 1),
)
PLEDGE = Pledge(group="g1", term=5, attempt="r2.1", leader="a", record=RECORD)


def test_a_pledge_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "g1.pledge"
    file = PledgeFile.create(path, replace(PLEDGE, term=1, leader=None, record=None))
    file.store(PLEDGE)
    assert PledgeFile.load(path, "g1").pledge == PLEDGE
    with pytest.raises(FileExistsError):
        PledgeFile.create(path, PLEDGE)
    assert os.listdir(tmp_path) == ["g1.pledge"]


def test_a_pledge_never_goes_back(tmp_path: Path) -> None:
    file = PledgeFile.create(tmp_path / "g1.pledge", PLEDGE)
    with pytest.raises(AssertionError):
        file.store(replace(PLEDGE, term=4))
    with pytest.raises(AssertionError):
        file.store(replace(PLEDGE, group="g2", term=6))


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "g1.pledge"
    PledgeFile.create(path, PLEDGE)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(PledgeDamaged):
            PledgeFile.load(path, "g1")
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(PledgeDamaged):
            PledgeFile.load(path, "g1")


def test_a_pledge_of_another_group_or_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g1.pledge"
    with pytest.raises(PledgeDamaged, match="missing"):
        PledgeFile.load(path, "g1")
    PledgeFile.create(path, PLEDGE)
    with pytest.raises(PledgeDamaged, match="belongs to group g1"):
        PledgeFile.load(path, "g2")


def test_a_crash_while_writing_leaves_the_old_pledge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g1.pledge"
    file = PledgeFile.create(path, PLEDGE)

    def crash(number: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space"):
        file.store(replace(PLEDGE, term=6, attempt="r3.1", leader=None))
    assert file.pledge == PLEDGE, "what is not durable must not be answered for"
    assert PledgeFile.load(path, "g1").pledge == PLEDGE
