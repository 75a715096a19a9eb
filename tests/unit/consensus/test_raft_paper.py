"""Raft by the sections of the dissertation: elections, replication, safety, persistence, pre-vote, leadership transfer."""

from __future__ import annotations

import dataclasses

import pytest

from hanse.consensus.raft import replication
from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.messages import (
    Append,
    AppendResponse,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from hanse.consensus.raft.state import Busy, ChangeRefused, NotLeader, Role
from support.raft import SETTINGS, Table, with_log

THREE = ("n1", "n2", "n3")
FIVE = ("n1", "n2", "n3", "n4", "n5")

# --- 3.3, 3.4: terms and elections -----------------------------------------------------------------------------------


def test_3_4_the_timeout_is_random_within_its_bounds() -> None:
    for random, timeout in ((0.0, 1.0), (0.999, 1.999)):
        table = Table(THREE)
        table.start("n1", lambda random=random: random)
        table.wait(timeout - 0.01, "n1")
        assert table.mail == []
        table.wait(0.01, "n1")
        assert {m.receiver for m in table.sent(VoteRequest)} == {"n2", "n3"}


@pytest.mark.parametrize(
    ("voters", "votes", "outcome"),
    [
        (1, {}, True),
        (3, {}, None),
        (3, {"n2": True}, True),
        (3, {"n2": False}, None),
        (3, {"n2": False, "n3": False}, False),
        (4, {"n2": True}, None),
        (4, {"n2": True, "n3": True}, True),
        (5, {"n2": True, "n3": False, "n4": False}, None),
        (5, {"n2": False, "n3": False, "n4": False}, False),
    ],
)
def test_3_4_who_wins(voters: int, votes: dict[str, bool], outcome: bool | None) -> None:
    configuration = Configuration(voters=FIVE[:voters])
    assert configuration.outcome({"n1": True, **votes}) is outcome


def test_3_4_one_vote_in_a_term() -> None:
    table = Table(THREE)
    table.wait(3)
    for candidate, granted in (("n2", True), ("n3", False), ("n2", True)):
        request = VoteRequest(sender=candidate, receiver="n1", term=5, last_index=9, last_term=4)
        table.arrive(request)
        answer = table.mail.pop()
        assert isinstance(answer, VoteResponse) and (answer.granted, answer.term) == (granted, 5)


def test_3_4_a_candidate_follows_who_leads_its_term() -> None:
    table = Table(THREE)
    table.wait(3, "n1")
    table.deliver(lambda m: getattr(m, "pre", False))
    assert table["n1"].role is Role.CANDIDATE
    table.arrive(Heartbeat(sender="n2", receiver="n1", term=2, commit=0, round=1))
    assert (table["n1"].role, table["n1"].leader) == (Role.FOLLOWER, "n2")


def test_3_3_who_sees_a_higher_term_gives_up() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.arrive(HeartbeatResponse(sender="n2", receiver="n1", term=7, round=0))
    assert (table["n1"].role, table["n1"].term) == (Role.FOLLOWER, 7)


def test_3_3_a_leader_of_the_past_is_told() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.elect("n2", "n3")
    assert (table["n1"].role, table["n1"].term) == (Role.LEADER, 2)
    table.arrive(Heartbeat(sender="n1", receiver="n3", term=2, commit=0, round=9))
    table.deliver()
    assert (table["n1"].role, table["n1"].term) == (Role.FOLLOWER, 3)


def test_a_cluster_of_one_leads_at_once_also_after_a_restart() -> None:
    table = Table(("n1",))
    table.wait(0.0, "n1")
    assert table["n1"].role is Role.LEADER
    table.propose("n1", b"x")
    assert table.commands("n1") == [b"x"]
    table.crash("n1")
    table.start("n1")
    table.wait(0.0, "n1")
    assert (table["n1"].role, table.commands("n1")) == (Role.LEADER, [b"x"])


# --- 3.5: replication ------------------------------------------------------------------------------------------------


def test_3_5_commands_are_applied_everywhere() -> None:
    table = Table(THREE)
    table.elect("n1")
    index, term = table.propose("n1", b"x")
    assert (index, term) == (3, 2)
    assert table.commands("n1") == []
    table.deliver()
    assert [table.commands(name) for name in THREE] == [[b"x"]] * 3


def test_3_5_a_minority_commits_nothing_and_a_follower_takes_no_proposal() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.propose("n1", b"x")
    table.among("n1")
    assert table.commands("n1") == []
    with pytest.raises(NotLeader) as raised:
        table.propose("n2", b"y")
    assert raised.value.leader == "n1"


# Figure 3.6: logs that a new leader may find. The leader has terms 1 1 1 4 4 5 5 6 6, then its own 8.
FIGURE = {
    "a": (1, 1, 4, 4, 5, 5, 6),
    "b": (1, 1),
    "c": (1, 1, 4, 4, 5, 5, 6, 6, 6),
    "d": (1, 1, 4, 4, 5, 5, 6, 6, 7, 7),
    "e": (1, 1, 4, 4, 4, 4),
    "f": (1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("name", FIGURE)
def test_3_5_logs_are_made_the_same(name: str) -> None:
    nodes = ("leader", name, "x")
    own = (1, 1, 4, 4, 5, 5, 6, 6)
    founders = tuple(sorted(nodes))
    table = Table(
        founders,
        leader=with_log(founders, *own, term=7),
        x=with_log(founders, *own, term=7),
        **{name: with_log(founders, *FIGURE[name], term=7)},
    )
    table.elect("leader", "x")
    table.beat("leader")
    table.deliver(lambda m: isinstance(m, Heartbeat | HeartbeatResponse))
    messages = table.deliver()
    assert table.log(name) == [1, *own, 8] == table.log("leader")
    assert messages <= 20  # a term of difference costs two messages at most


def test_10_2_a_batch_of_proposals_is_one_write_and_one_message() -> None:
    table = Table(THREE)
    table.elect("n1")
    raft = table["n1"]
    for number in range(50):
        raft.propose(b"%d" % number, table.now)
    effects = raft.take(table.now)
    assert effects.persist is not None and len(effects.persist.entries) == 50
    assert [len(m.entries) for m in effects.send_first if isinstance(m, Append)] == [50, 50]


def test_10_2_a_follower_is_sent_no_more_than_a_window() -> None:
    table = Table(THREE, settings=dataclasses.replace(SETTINGS, in_flight_max=3, append_bytes_max=1))
    table.elect("n1")
    for number in range(10):
        table.propose("n1", b"%d" % number)
    assert len(table.sent(Append, "n2")) == len(table.sent(Append, "n3")) == 3
    table.deliver()
    assert table.commands("n2") == [b"%d" % number for number in range(10)]


def test_3_5_what_was_lost_is_sent_again_after_a_heartbeat() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.propose("n1", b"x")
    table.propose("n1", b"y")
    table.mail.clear()
    table.beat("n1")
    table.deliver()
    assert table.commands("n3") == table.commands("n1") == [b"x", b"y"]


def test_3_5_messages_twice_and_late_change_nothing() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.propose("n1", b"x")
    late = list(table.mail)
    table.deliver()
    table.propose("n1", b"y")
    table.deliver()
    for message in late + late:
        table.arrive(message)
    table.deliver()
    assert [table.commands(name) for name in THREE] == [[b"x", b"y"]] * 3


def test_too_much_that_is_not_committed_is_refused() -> None:
    table = Table(THREE, settings=dataclasses.replace(SETTINGS, uncommitted_bytes_max=10))
    table.elect("n1")
    table.propose("n1", b"0123456789")
    with pytest.raises(Busy):
        table.propose("n1", b"x")
    table.deliver()
    table.propose("n1", b"x")


# --- 3.6: safety -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "last_term", "last_index", "granted"),
    [
        ((2, 2), 2, 3, True),
        ((2, 2), 2, 2, False),  # the same term, shorter
        ((2, 2), 2, 9, True),
        ((2, 2), 3, 2, True),  # a later term, shorter
        ((2, 2), 1, 9, False),  # an earlier term, longer
    ],
)
def test_3_6_1_votes_go_to_logs_that_lack_nothing(
    own: tuple[int, ...], last_term: int, last_index: int, granted: bool
) -> None:
    table = Table(THREE, n1=with_log(THREE, *own))
    table.wait(3)
    table.arrive(VoteRequest(sender="n2", receiver="n1", term=9, last_index=last_index, last_term=last_term))
    assert [m.granted for m in table.sent(VoteResponse)] == [granted]


def figure_3_7() -> Table:
    """n1 has replicated 2₂ to n2 and crashed; n5 has a 2₃ of its own and crashed; n1 leads term 4 and replicates 2₂ to n3."""
    table = Table(
        FIVE,
        n1=with_log(FIVE, 2, term=3),
        n2=with_log(FIVE, 2, term=3),
        n3=with_log(FIVE, term=3),
        n4=with_log(FIVE, term=3),
        n5=with_log(FIVE, 3, term=3, vote="n5"),
    )
    table.wait(2.5, "n1")
    table.deliver(lambda m: "n5" not in (m.sender, m.receiver) and isinstance(m, VoteRequest | VoteResponse))
    assert table["n1"].role is Role.LEADER
    return table


def test_3_6_2_an_entry_of_an_older_term_is_not_committed_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figure 3.7: n5 could still be elected and replace it."""
    committed = []
    for wrong in (False, True):
        table = figure_3_7()
        if wrong:
            monkeypatch.setattr(replication, "may_commit", lambda state, index: True)
        for name in ("n2", "n3"):
            table.arrive(AppendResponse(sender=name, receiver="n1", term=4, match=2))
        committed.append(table["n1"].state.commit)
    assert committed == [0, 2]


def test_3_6_2_it_is_committed_with_one_of_the_leaders_own() -> None:
    table = figure_3_7()
    table.beat("n1")
    table.among("n1", "n2", "n3", "n4")
    assert table["n1"].state.commit == 3
    assert table.log("n1") == [1, 2, 4] == table.log("n3")


# --- 3.8, 10.2.1: persistence ----------------------------------------------------------------------------------------


def test_3_8_a_vote_leaves_after_it_was_written_and_is_kept() -> None:
    table = Table(THREE)
    table.wait(3)
    table.held.add("n1")
    table.arrive(VoteRequest(sender="n2", receiver="n1", term=5, last_index=9, last_term=4))
    assert table.mail == []
    table.write("n1")
    assert [m.granted for m in table.sent(VoteResponse)] == [True]
    table.crash("n1")
    table.start("n1")
    table.wait(3)
    table.arrive(VoteRequest(sender="n3", receiver="n1", term=5, last_index=9, last_term=4))
    assert [m.granted for m in table.sent(VoteResponse, "n3")] == [False]


@pytest.mark.parametrize("forgotten", [False, True])
def test_3_8_a_vote_that_is_forgotten_makes_two_leaders(forgotten: bool) -> None:
    table = Table(THREE)
    table.wait(2.5, "n1", "n2")
    table.deliver(lambda m: isinstance(m, VoteRequest | VoteResponse) and m.pre)
    assert table["n1"].role is table["n2"].role is Role.CANDIDATE
    votes = [m for m in table.mail if isinstance(m, VoteRequest)]
    table.deliver(lambda m: {m.sender, m.receiver} == {"n1", "n3"} and isinstance(m, VoteRequest | VoteResponse))
    assert table["n1"].role is Role.LEADER
    table.crash("n3")
    if forgotten:
        table.disks["n3"] = dataclasses.replace(table.disks["n3"], hard_state=HardState(2, None))
    table.start("n3")
    table.wait(1.1)  # what it has promised is over
    table.arrive(next(m for m in votes if (m.sender, m.receiver) == ("n2", "n3")))
    table.deliver(lambda m: isinstance(m, VoteResponse) and m.receiver == "n2")
    assert (table["n2"].role is Role.LEADER, table["n2"].term) == (forgotten, 2)


def test_3_8_an_answer_to_an_append_leaves_after_the_write() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.held.add("n2")
    table.propose("n1", b"x")
    table.deliver()
    assert table.sent(AppendResponse) == [] and table["n1"].state.leading.peers["n2"].match == 2  # type: ignore[union-attr]
    table.write("n2")
    assert {m.match for m in table.sent(AppendResponse)} == {3}


def test_10_2_1_a_leader_sends_before_its_own_write_and_does_not_count_itself() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.held.add("n1")
    table.propose("n1", b"x")
    assert len(table.sent(Append)) == 2
    table.deliver(lambda m: "n3" not in (m.sender, m.receiver))
    assert table["n1"].state.commit == 2  # n2 has it, n1 not yet
    table.write("n1")
    assert table["n1"].state.commit == 3


def test_a_new_term_is_written_before_anything_is_sent_in_it() -> None:
    table = Table(("n1",), "n2")
    table.wait(0.0, "n1")
    table.do("n1", lambda raft, now: raft.change(Configuration(voters=("n1",), learners=("n2",)), now))
    table.deliver()
    table.crash("n1")
    table.held.add("n1")
    table.start("n1")
    table.wait(0.0, "n1")  # leads again, with a learner that would listen
    assert table["n1"].role is Role.LEADER and table.mail == []
    table.write("n1")
    assert {m.term for m in table.sent(Append)} == {3}


# --- 9.6: pre-vote, check-quorum -------------------------------------------------------------------------------------


def test_9_6_a_node_that_was_cut_off_does_not_disturb() -> None:
    table = Table(THREE)
    table.elect("n1")
    for _ in range(20):
        table.wait(0.2, "n1", "n3")
        table.among("n1", "n2")
    assert (table["n3"].role, table["n3"].term) == (Role.PRE_CANDIDATE, 2)
    table.wait(0.1, "n3")
    table.deliver()
    assert (table["n1"].role, table["n1"].term) == (Role.LEADER, 2)


def test_6_2_a_leader_that_hears_no_majority_steps_down() -> None:
    table = Table(FIVE)
    table.elect("n1")
    for _ in range(4):
        table.beat("n1")
        table.among("n1", "n2")
    assert table["n1"].role is Role.LEADER
    table.beat("n1")
    assert (table["n1"].role, table["n1"].leader) == (Role.FOLLOWER, None)


# --- 3.10: leadership transfer ---------------------------------------------------------------------------------------


def test_3_10_leadership_is_handed_over_without_a_timeout() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.propose("n1", b"x")
    table.do("n1", lambda raft, now: raft.transfer("n3", now))
    with pytest.raises(Busy):
        table.propose("n1", b"y")
    table.deliver()
    assert (table["n3"].role, table["n3"].term, table.commands("n3")) == (Role.LEADER, 3, [b"x"])


def test_3_10_the_target_has_all_before_it_is_told() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.propose("n1", b"x")
    table.do("n1", lambda raft, now: raft.transfer("n3", now))
    assert table.sent(TimeoutNow) == []
    table.deliver(lambda m: not isinstance(m, TimeoutNow))
    assert table["n1"].state.leading.peers["n3"].match == 3  # type: ignore[union-attr]
    assert len(table.sent(TimeoutNow)) == 1


def test_3_10_a_transfer_that_fails_ends() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.do("n1", lambda raft, now: raft.transfer("n3", now))
    for _ in range(6):
        table.beat("n1")
        table.among("n1", "n2")
    table.propose("n1", b"y")
    with pytest.raises(ChangeRefused):
        table.do("n1", lambda raft, now: raft.transfer("n9", now))


# --- 3.10 again: who led when it ended in order hands over to itself -----------------------------------------------------


def ended_in_order(table: Table, leader: str) -> None:
    """All nodes have ended; `leader` led, and has noted that."""
    term = table[leader].term
    table.mail.clear()
    table.crash(*THREE)
    table.disks[leader] = dataclasses.replace(table.disks[leader], led=term)


def test_a_leader_that_ended_in_order_leads_the_next_term_at_once() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.propose("n1", b"x")
    table.deliver()
    ended_in_order(table, "n1")
    for name in THREE:
        table.start(name)
    table.wait(0.0, *THREE)
    table.deliver()
    assert (table["n1"].role, table["n1"].term) == (Role.LEADER, 3)
    assert table.disks["n1"].led == 0, "it would say so again after a crash"
    assert [table.commands(name) for name in THREE[:1]] == [[b"x"]]


def test_a_leader_that_ended_in_order_asks_again_those_that_start_later() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.deliver()
    ended_in_order(table, "n1")
    table.start("n1")
    table.wait(0.0, "n1")
    table.mail.clear()  # nobody is there
    table.start("n3")
    table.wait(SETTINGS.heartbeat_s, "n1")
    table.deliver()
    assert (table["n1"].role, table["n1"].term) == (Role.LEADER, 3)


def test_a_leader_that_ended_in_order_does_not_disturb_its_successor() -> None:
    table = Table(THREE)
    table.elect("n1")
    table.deliver()
    led = table["n1"].term
    table.crash("n1")
    table.elect("n2", "n2", "n3")
    table.disks["n1"] = dataclasses.replace(table.disks["n1"], led=led)
    table.start("n1")
    table.wait(0.0, "n1")
    table.deliver()
    assert (table["n2"].role, table["n2"].term) == (Role.LEADER, led + 1)
    assert table["n1"].role is Role.FOLLOWER
    table.wait(SETTINGS.heartbeat_s, "n1")
    assert not any(message.forced for message in table.sent(VoteRequest)), "it asks once, in the term after its own"


def test_who_led_in_an_earlier_term_asks_nobody_at_once() -> None:
    table = Table(THREE, n1=dataclasses.replace(with_log(THREE, 2, term=4), led=2))
    table.wait(0.9, "n1")
    assert table.mail == []
