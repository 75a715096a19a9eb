"""Raft by the sections of the dissertation: membership (4), snapshots (5), reads (6.4)."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from hanse.consensus.raft import membership, transfer
from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.messages import (
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    ReadRequest,
    ReadResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from hanse.consensus.raft.state import Busy, ChangeRefused, Role, Settings
from support.raft import SETTINGS, Table

THREE = ("n1", "n2", "n3")


def change(table: Table, leader: str, voters: str, learners: str = "") -> None:
    target = Configuration(voters=tuple(voters.split()), learners=tuple(learners.split()))
    table.do(leader, lambda raft, now: raft.change(target, now))


def votes(table: Table, name: str) -> Configuration:
    return table[name].configuration


# --- 4: membership ---------------------------------------------------------------------------------------------------


def test_4_1_a_change_is_in_force_when_it_is_in_the_log() -> None:
    table = Table(THREE)
    table.elect("n1")
    change(table, "n1", "n1 n2", "n3")
    assert votes(table, "n1").learners == ("n3",) and table["n1"].state.commit == 2
    with pytest.raises(Busy):
        change(table, "n1", "n1 n2 n3")
    table.deliver()
    assert [votes(table, name).voters for name in THREE] == [("n1", "n2")] * 3


def test_4_1_a_change_that_is_truncated_is_undone() -> None:
    table = Table(THREE)
    table.elect("n1")
    change(table, "n1", "n1 n2", "n3")
    table.mail.clear()
    table.elect("n2", "n3")
    table.wait(0.2, "n2")
    table.deliver()
    assert [votes(table, name).voters for name in THREE] == [THREE] * 3


def test_4_2_1_a_new_node_learns_before_it_votes() -> None:
    table = Table(THREE, "n4")
    table.elect("n1")
    with pytest.raises(ChangeRefused, match="n4 must be a learner"):
        change(table, "n1", "n1 n2 n3 n4")
    for number in range(5):
        table.propose("n1", b"%d" % number)
    table.deliver()
    change(table, "n1", "n1 n2 n3", "n4")
    with pytest.raises(Busy):
        change(table, "n1", "n1 n2 n3 n4")
    table.among(*THREE)
    with pytest.raises(ChangeRefused):  # it has nothing yet
        change(table, "n1", "n1 n2 n3 n4")
    table.beat("n1")
    table.deliver()
    assert table.commands("n4") == [b"%d" % number for number in range(5)]
    change(table, "n1", "n1 n2 n3 n4")
    table.deliver()
    assert votes(table, "n4") == Configuration(voters=("n1", "n2", "n3", "n4"))


def test_4_2_2_a_leader_that_removes_itself_leads_until_that_is_committed() -> None:
    table = Table(THREE)
    table.elect("n1")
    change(table, "n1", "n2 n3")
    assert table["n1"].role is Role.LEADER
    table.deliver(lambda m: not isinstance(m, TimeoutNow))
    assert table["n1"].role is Role.FOLLOWER
    table.mail.clear()
    table.wait(5, "n1")
    assert table.mail == []  # it does not vote and does not stand
    table.elect("n2", "n3")


def test_4_2_2_a_leader_that_removes_itself_hands_over_to_who_has_most() -> None:
    table = Table(("n1", "n2", "n3", "n4", "n5"))
    table.elect("n1")
    change(table, "n1", "n2 n3 n4 n5")
    table.among("n1", "n3", "n4", "n5")  # n2 has not heard of it
    leaders = [(name, table[name].term) for name in table.nodes if table[name].role is Role.LEADER]
    assert leaders == [("n3", 3)]  # nobody has waited for an election timeout


def test_4_2_2_who_alone_has_the_change_may_stand_though_it_does_not_vote_any_more() -> None:
    table = Table(("n1", "n2"))
    table.elect("n1")
    table.held.add("n1")
    change(table, "n1", "n1", "n2")  # n2 has it, n1 forgets it
    table.among("n1", "n2")
    assert votes(table, "n2").voters == ("n1",)
    table.crash("n1")
    table.held.clear()
    table.start("n1")
    table.wait(3, "n1")
    table.deliver()
    assert table["n1"].role is not Role.LEADER  # n2's log is longer
    table.wait(2.5, "n2")
    table.deliver()
    assert table["n2"].role is Role.FOLLOWER  # it led until the change was committed
    assert votes(table, "n1").voters == ("n1",)
    assert (table["n1"].role, table["n1"].term) == (Role.LEADER, 4)


def test_4_3_any_other_change_goes_through_a_joint_configuration() -> None:
    table = Table(THREE, "n4", "n5")
    table.elect("n1")
    change(table, "n1", "n1 n2 n3", "n4 n5")
    table.deliver()
    change(table, "n1", "n1 n4 n5")
    joint = votes(table, "n1")
    assert (joint.voters, joint.outgoing) == (("n1", "n4", "n5"), THREE)
    table.deliver(lambda m: not {"n2", "n3"} & {m.sender, m.receiver})
    assert votes(table, "n1").joint  # n2 and n3 have not agreed
    table.deliver()
    assert votes(table, "n1") == votes(table, "n4") == Configuration(voters=("n1", "n4", "n5"))
    assert [entry.kind.name for entry in table.applied["n4"]].count("CONFIGURATION") == 4


def test_4_3_the_next_leader_ends_a_joint_configuration() -> None:
    table = Table(("n1", "n2"), "n3", "n4")
    table.elect("n1")
    change(table, "n1", "n1 n2", "n3 n4")
    table.deliver()
    change(table, "n1", "n3 n4", "n1 n2")
    table.deliver(lambda m: not (isinstance(m, AppendResponse) and m.match > 3))
    table.mail.clear()
    assert all(votes(table, name).joint for name in table.nodes)
    table.crash("n1")
    table.wait(2.5, "n3")
    table.deliver()
    assert table["n3"].role is not Role.LEADER  # of the outgoing voters one is not a majority
    table.start("n1")
    table.elect("n3")
    table.wait(0.2, "n3")
    table.deliver()
    assert votes(table, "n3") == Configuration(voters=("n3", "n4"), learners=("n1", "n2"))


@pytest.mark.parametrize("wrong", [False, True])
def test_4_2_changes_of_one_voter_need_an_entry_of_the_term(wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug of the first publication (Ongaro, raft-dev, 10 July 2015): two leaders each change one voter."""
    if wrong:
        monkeypatch.setattr(membership, "under_way", lambda state: state.configuration.joint)
        monkeypatch.setattr(membership, "caught_up", lambda state, node: True)
    four = ("n1", "n2", "n3", "n4")
    table = Table(four, "n5")
    table.wait(2.5, "n1")
    table.deliver(lambda m: isinstance(m, VoteRequest | VoteResponse))
    if not wrong:
        with pytest.raises(Busy):
            change(table, "n1", "n1 n2 n3 n4", "n5")
        return
    change(table, "n1", "n1 n2 n3 n4 n5")  # 5 voters, known to n1 and n5 only
    table.among("n1", "n5")
    table.beat("n1")
    table.among("n1", "n5")
    table.wait(2.5, "n2")
    table.deliver(lambda m: isinstance(m, VoteRequest | VoteResponse) and not {"n1", "n5"} & {m.sender, m.receiver})
    change(table, "n2", "n2 n3 n4")  # 3 voters
    table.among("n2", "n3")
    assert table["n2"].state.commit > 1
    for _ in range(2):  # n1 gives up its term, and is told of the other
        table.wait(2.5, "n1")
        table.among("n1", "n4")
    table.elect("n1", "n5", "n4")  # n1 does not have what n2 has committed
    assert table.log("n1")[: table["n2"].state.commit] != table.log("n2")


def test_a_configuration_is_checked() -> None:
    for broken in ({"voters": ("b", "a")}, {"voters": ("a", "a")}, {"voters": ("a",), "learners": ("a",)}):
        with pytest.raises(ValueError):
            Configuration(**broken)  # type: ignore[arg-type]
    table = Table(THREE)
    table.elect("n1")
    with pytest.raises(ChangeRefused):
        change(table, "n1", "", "n1 n2 n3")


# --- 5: snapshots ----------------------------------------------------------------------------------------------------

SMALL = dataclasses.replace(SETTINGS, chunk_bytes=10, trailing_entries=0)


def far_behind(settings: Settings = SMALL) -> Table:
    """n3 has nothing of what n1 has compacted."""
    table = Table(THREE, settings=settings)
    table.elect("n1", "n2")
    for number in range(6):
        table.propose("n1", b"%d" % number)
    table.among("n1", "n2")
    table.do("n1", lambda raft, now: raft.compact(raft.state.applied, b"state machine, 25 bytes .."[:25]))
    table.beat("n1")
    return table


def test_5_a_follower_far_behind_is_sent_the_snapshot_in_pieces() -> None:
    table = far_behind()
    sizes = {}
    while table.deliver(lambda m: not isinstance(m, InstallSnapshot)) or table.mail:
        for piece in table.sent(InstallSnapshot):
            sizes[piece.offset] = len(piece.data)
        table.deliver(lambda m: isinstance(m, InstallSnapshot))
    assert sizes == {0: 10, 10: 10, 20: 5}
    assert [s.data for s in table.restored["n3"]] == [b"state machine, 25 bytes .."[:25]]
    table.propose("n1", b"more")
    table.deliver()
    assert table.commands("n3") == [b"more"]
    assert table.disks["n3"].snapshot.index == 8 and table.disks["n3"].base_index == 8


def test_5_a_restart_of_the_receiver_begins_anew() -> None:
    table = far_behind()
    table.deliver(lambda m: not (isinstance(m, InstallSnapshot) and m.offset > 0))
    table.crash("n3")
    table.start("n3")
    for _ in range(4):
        table.deliver()
        table.beat("n1")
    assert len(table.restored["n3"]) == 1


def test_5_a_piece_that_came_to_harm_is_noticed() -> None:
    table = far_behind()
    while not (last := [m for m in table.sent(InstallSnapshot) if m.offset == 20]):
        message = table.mail.pop(0)
        table.arrive(message)
    table.mail.remove(last[0])
    table.arrive(msgspec.structs.replace(last[0], data=b"wrong"))
    assert table.restored["n3"] == []
    for _ in range(4):
        table.beat("n1")
        table.deliver()
    assert len(table.restored["n3"]) == 1


def test_5_a_snapshot_that_is_too_large_is_refused() -> None:
    table = Table(THREE, settings=dataclasses.replace(SMALL, snapshot_bytes_max=20))
    with pytest.raises(ValueError):
        table.arrive(
            InstallSnapshot(
                sender="n1", receiver="n2", term=2, index=9, index_term=2, configuration=Configuration(voters=THREE),
                checksum=0, total=21, offset=0, data=b"0123456789",
            )
        )  # fmt: skip


def test_5_1_entries_after_the_snapshot_stay() -> None:
    table = Table(THREE)
    table.elect("n1")
    for number in range(3):
        table.propose("n1", b"%d" % number)
    table.deliver(lambda m: not isinstance(m, Heartbeat) and "n3" not in (m.sender, m.receiver))
    table.deliver(lambda m: m.receiver == "n3" and not (isinstance(m, Heartbeat) or getattr(m, "commit", 0) > 2))
    table.mail.clear()
    assert (table["n3"].state.commit, table["n3"].state.log.last_index) == (2, 5)
    snapshot = InstallSnapshot(
        sender="n1", receiver="n3", term=2, index=4, index_term=2, configuration=Configuration(voters=THREE),
        checksum=0, total=0, offset=0, data=b"",
    )  # fmt: skip
    table.arrive(snapshot)
    log = table["n3"].state.log
    assert (
        (log.base_index, log.last_index)
        == (4, 5)
        == (table.disks["n3"].base_index, table.disks["n3"].entries[-1].index)
    )


def test_5_what_was_compacted_is_there_after_a_restart() -> None:
    table = Table(THREE, settings=dataclasses.replace(SETTINGS, trailing_entries=2))
    table.elect("n1")
    for number in range(6):
        table.propose("n1", b"%d" % number)
    table.deliver()
    table.do("n1", lambda raft, now: raft.compact(7, b"seven"))
    assert (table.disks["n1"].base_index, table.disks["n1"].snapshot.index) == (5, 7)
    table.crash("n1")
    table.start("n1")
    assert table["n1"].state.applied == 7 and table["n1"].configuration.voters == THREE
    table.elect("n1")
    assert table.commands("n1") == [b"5"]


# --- 6.4: reads ------------------------------------------------------------------------------------------------------


def read(table: Table, name: str, *, lease: bool = False) -> int:
    ticket = table.do(name, lambda raft, now: raft.read(now, lease=lease))
    assert isinstance(ticket, int)
    return ticket


def answered(table: Table, name: str) -> list[int]:
    return [each.ticket for each in table.reads[name] if not each.lost]


def test_6_4_a_read_waits_for_a_round_that_began_after_it() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.deliver()
    table.beat("n1")
    table.deliver(lambda m: not isinstance(m, HeartbeatResponse))
    ticket = read(table, "n1")
    earlier = [m for m in table.sent(HeartbeatResponse)]
    for message in earlier:
        table.mail.remove(message)
        table.arrive(message)
    assert answered(table, "n1") == []
    table.deliver()
    assert answered(table, "n1") == [ticket]


def test_6_4_a_leader_of_the_past_does_not_answer() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.elect("n2", "n3")
    ticket = read(table, "n1", lease=True)
    table.deliver()
    assert answered(table, "n1") == [] and [each.ticket for each in table.reads["n1"]] == [ticket]


def test_6_4_a_new_leader_first_commits_an_entry_of_its_term() -> None:
    table = Table(THREE)
    table.wait(2.5, "n1")
    table.deliver(lambda m: isinstance(m, VoteRequest | VoteResponse))
    ticket = read(table, "n1")
    table.deliver(lambda m: isinstance(m, Heartbeat | HeartbeatResponse))
    assert table["n1"].role is Role.LEADER and answered(table, "n1") == []
    table.beat("n1")
    table.deliver()
    table.beat("n1")
    table.deliver()
    assert answered(table, "n1") == [ticket]


def test_6_4_a_follower_answers_when_it_has_applied_as_much() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.deliver()
    table.propose("n1", b"x")
    table.deliver(lambda m: "n3" not in (m.sender, m.receiver))
    ticket = read(table, "n3")
    table.deliver(
        lambda m: isinstance(m, ReadRequest | ReadResponse | Heartbeat | HeartbeatResponse) and m.sender != "x"
    )
    assert answered(table, "n3") == [ticket] or table.commands("n3") == []
    table.deliver()
    assert answered(table, "n3") == [ticket] and table.commands("n3") == [b"x"]


def test_6_4_reads_share_a_round() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.deliver()
    for _ in range(20):
        table["n1"].read(table.now)
    table.pump("n1")
    assert len(table.sent(Heartbeat)) == 2
    table.deliver()
    assert len(answered(table, "n1")) == 20


def with_lease() -> Table:
    table = Table(THREE)
    table.elect("n1")
    table.deliver()
    table.beat("n1")
    table.deliver()
    table.mail.clear()
    return table


def test_6_4_1_within_the_lease_nobody_is_asked() -> None:
    table = with_lease()
    ticket = read(table, "n1", lease=True)
    assert answered(table, "n1") == [ticket] and table.mail == []


def test_6_4_1_a_lease_is_shorter_than_the_followers_promise_by_the_drift_of_two_clocks() -> None:
    table = with_lease()
    assert SETTINGS.lease_s == pytest.approx(0.9 / 1.1)
    table.now += SETTINGS.lease_s + 0.001
    read(table, "n1", lease=True)
    assert answered(table, "n1") == [] and len(table.sent(Heartbeat)) == 2


def test_6_4_1_the_promise_is_kept_over_a_restart() -> None:
    table = with_lease()
    table.now += 0.5
    for name in ("n2", "n3"):
        table.crash(name)
        table.start(name)
    for pre in (True, False):
        request = VoteRequest(sender="n3", receiver="n2", term=3, last_index=9, last_term=2, pre=pre)
        table.arrive(request)
    assert table.mail == [] and table["n2"].term == 2
    table.now += 1.0
    table.arrive(request)
    assert [m.granted for m in table.sent(VoteResponse)] == [True]


@pytest.mark.parametrize("wrong", [False, True])
def test_6_4_1_who_has_offered_leadership_has_no_lease(wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    right = transfer.go_on

    def mistaken(state: object, leading: object) -> None:
        right(state, leading)  # type: ignore[arg-type]
        leading.lease_usable = True  # type: ignore[attr-defined]

    if wrong:
        monkeypatch.setattr(transfer, "go_on", mistaken)
    table = with_lease()
    table.do("n1", lambda raft, now: raft.transfer("n3", now))
    table.deliver(lambda m: {m.sender, m.receiver} <= {"n2", "n3"} or m.receiver == "n3")
    assert table["n3"].role is Role.LEADER and table["n1"].role is Role.LEADER
    table.propose("n3", b"x")
    table.deliver(lambda m: {m.sender, m.receiver} <= {"n2", "n3"})
    assert table.commands("n3") == [b"x"]
    read(table, "n1", lease=True)
    assert bool(answered(table, "n1")) is wrong  # n1 knows nothing of x


def test_answers_to_a_former_life_are_not_taken() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.deliver()
    read(table, "n3")
    late = table.sent(ReadRequest)[0].ticket
    table.crash("n3")
    table.start("n3", iter([0.25, *[0.5] * 10]).__next__)
    table.beat("n1")
    table.deliver()
    again = read(table, "n3")
    table.arrive(ReadResponse(sender="n1", receiver="n3", term=2, ticket=late, index=0))
    assert again != late and answered(table, "n3") == []


def test_5_what_is_kept_beside_a_snapshot_is_bounded_by_bytes_too() -> None:
    table = Table(("n1",), settings=dataclasses.replace(SETTINGS, trailing_entries=5, trailing_bytes=25))
    table.wait(0.0, "n1")
    for number in range(8):
        table.propose("n1", b"ten bytes%d" % number)
    table.do("n1", lambda raft, now: raft.compact(raft.state.applied, b""))
    assert len(table.disks["n1"].entries) == 2
