"""The faults of a simulated Raft cluster, and a whole run of it."""

from __future__ import annotations

from raft_checks import Checks, Violation
from raft_cluster import FAULTS_S, HEALING_S, Cluster, Flaws, Machine

from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.state import Busy, ChangeRefused, NotLeader


def run(seed: int, flaws: Flaws = Flaws(), *, hard_on: str = "") -> Checks:  # noqa: B008
    """One run; `hard_on`: 'leases' or 'disks'. Raises Violation, or AssertionError from within a node."""
    cluster = Cluster(seed, flaws, hard_on=hard_on)
    faults = HARD_ON[hard_on] if hard_on else cluster.draw.choice(PROFILES)
    liked = cluster.draw.sample(faults, cluster.draw.randint(3, len(faults)))
    pause_s = cluster.draw.choice((0.2, 0.5, 1.2))

    def fault() -> None:
        if cluster.now < FAULTS_S:
            cluster.draw.choice(liked)(cluster)
            cluster.after(cluster.draw.uniform(0, 2 * pause_s), fault)

    cluster.after(cluster.draw.uniform(1, 4), fault)
    cluster.keep_operating(FAULTS_S)
    cluster.run_until(FAULTS_S)
    heal(cluster)
    must_serve(cluster)
    cluster.checks.linearizable()
    return cluster.checks


# --- links -----------------------------------------------------------------------------------------------------------


def partition(cluster: Cluster) -> None:
    names = list(cluster.machines)
    cluster.draw.shuffle(names)
    middle = cluster.draw.randint(1, len(names) - 1)
    cluster.blocked = {
        pair for a in names[:middle] for b in names[middle:] for pair in ((a, b), (b, a))
    }  # fmt: skip


def fade(cluster: Cluster) -> None:
    """A leader loses its followers one after another."""
    leader, others = _one(cluster, leaders=True).name, list(cluster.machines)
    cluster.draw.shuffle(others)
    for count, other in enumerate(others):

        def cut(other: str = other) -> None:
            if cluster.now < FAULTS_S:
                cluster.blocked |= {(leader, other), (other, leader)}

        cluster.after(count * cluster.draw.uniform(0.1, 0.6), cut)


def isolate(cluster: Cluster) -> None:
    """A leader, if there is one, is alone."""
    alone = _one(cluster, leaders=True).name
    cluster.blocked = {pair for other in cluster.machines for pair in ((alone, other), (other, alone))}


def one_way(cluster: Cluster) -> None:
    """One node hears and is not heard, or the other way round; or a few single directions break."""
    names, draw = list(cluster.machines), cluster.draw
    shape, one = draw.randint(0, 2), _one(cluster, leaders=True).name
    if shape == 0:
        cluster.blocked = {(one, other) for other in names}
    elif shape == 1:
        cluster.blocked = {(other, one) for other in names}
    else:
        cluster.blocked = {(a, b) for a in names for b in names if draw.random() < 0.3}


def bridge(cluster: Cluster) -> None:
    """Two halves that only one node can talk to, both."""
    names = list(cluster.machines)
    cluster.draw.shuffle(names)
    middle, first, second = names[0], names[1::2], names[2::2]
    assert middle not in first
    cluster.blocked = {pair for a in first for b in second for pair in ((a, b), (b, a))}


def bad_network(cluster: Cluster) -> None:
    cluster.loss = cluster.draw.choice((0.0, 0.05, 0.3))
    cluster.doubling = cluster.draw.choice((0.0, 0.1))
    cluster.delay_s = cluster.draw.choice((0.01, 0.05, 0.3))


def mend(cluster: Cluster) -> None:
    cluster.blocked = set()


# --- nodes -----------------------------------------------------------------------------------------------------------


def crash(cluster: Cluster) -> None:
    machine = _one(cluster, leaders=cluster.draw.random() < 0.5)
    cluster.crash(machine)
    cluster.after(cluster.draw.uniform(0, 3), lambda: _start(cluster, machine))


def restart_at_once(cluster: Cluster) -> None:
    machine = _one(cluster, leaders=False)
    cluster.crash(machine)
    _start(cluster, machine)


def crash_all(cluster: Cluster) -> None:
    for machine in cluster.machines.values():
        cluster.crash(machine)
        cluster.after(cluster.draw.uniform(0, 1), lambda machine=machine: _start(cluster, machine))  # type: ignore[misc]


def end_in_order(cluster: Cluster) -> None:
    """Leaders, and sometimes everybody; they come back when others may have been elected, or at once."""
    machines = cluster.leaders() if cluster.draw.random() < 0.5 else list(cluster.machines.values())
    patience_s = cluster.draw.choice((0.1, 0.5, 3.0))
    for machine in machines:
        cluster.crash(machine, in_order=True)
        cluster.after(cluster.draw.uniform(0, patience_s), lambda machine=machine: _start(cluster, machine))  # type: ignore[misc]


def pause(cluster: Cluster) -> None:
    _one(cluster, leaders=True).paused_until = cluster.now + cluster.draw.uniform(0, 3)


def slow_disk(cluster: Cluster) -> None:
    _one(cluster, leaders=True).write_s = cluster.draw.choice((0.002, 0.1, 1.0))


def drift(cluster: Cluster) -> None:
    machine = _one(cluster, leaders=True)
    machine.local, machine.at = machine.clock(cluster.now), cluster.now
    machine.rate = cluster.some_rate()


# --- members ---------------------------------------------------------------------------------------------------------


def change_members(cluster: Cluster) -> None:
    """Any new set of voters and learners, asked of somebody who leads, or believes so."""
    machine = _one(cluster, leaders=True)
    if machine.raft is None:
        return
    draw, current = cluster.draw, machine.raft.configuration
    able = [n for n in cluster.machines if n in current.voters or machine.raft.caught_up(n)]
    if draw.random() < 0.6 and able:
        voters = set(draw.sample(able, draw.randint(1, len(able))))
    else:
        voters = set(current.voters)
    learners = {n for n in cluster.machines if draw.random() < 0.7} - voters
    if not voters:
        return
    try:
        machine.raft.change(
            Configuration(voters=tuple(sorted(voters)), learners=tuple(sorted(learners))), machine.clock(cluster.now)
        )
    except (NotLeader, Busy, ChangeRefused):
        return
    cluster.pump(machine)


def hand_over(cluster: Cluster) -> None:
    machine = _one(cluster, leaders=True)
    if machine.raft is None:
        return
    try:
        machine.raft.transfer(cluster.draw.choice(sorted(cluster.machines)), machine.clock(cluster.now))
    except (NotLeader, Busy, ChangeRefused):
        return
    cluster.pump(machine)


# What a run draws its faults from: all, or those that try one part of the protocol.
HARD_ON = {
    "leases": [fade, fade, fade, drift, restart_at_once, end_in_order, hand_over, mend, mend],
    "disks": [crash, crash_all, end_in_order, restart_at_once, isolate, mend],
}
PROFILES = (
    [
        partition, partition, isolate, one_way, bridge, fade, crash, crash, restart_at_once, crash_all, end_in_order, pause,
        slow_disk,
        bad_network, drift, change_members, change_members, change_members, hand_over, mend,
    ],
    [fade, fade, isolate, one_way, drift, pause, restart_at_once, hand_over, mend, mend],
    [change_members, change_members, change_members, partition, isolate, fade, crash, mend],
    [crash, crash, restart_at_once, crash_all, end_in_order, partition, bad_network, slow_disk, mend],
)  # fmt: skip


# --- the end ---------------------------------------------------------------------------------------------------------


def heal(cluster: Cluster) -> None:
    cluster.blocked = set()
    cluster.loss, cluster.doubling, cluster.delay_s = 0.0, 0.0, 0.01
    for machine in cluster.machines.values():
        machine.write_s, machine.paused_until = 0.002, 0.0
        _start(cluster, machine)


def must_serve(cluster: Cluster) -> None:
    """Soon a write is answered, and every member of the configuration has all that is committed."""
    written = []

    def write() -> None:
        for machine in cluster.leaders():
            operation = cluster.write(machine)
            if operation is not None:
                written.append(operation)
        cluster.after(0.3, write)

    def served() -> bool:
        return bool(written) and written[-1].end is not None and _even(cluster)

    write()
    if not cluster.run_until(cluster.now + HEALING_S, served):
        states = {n: (m.raft.state.term, m.raft.role, m.applied, m.raft.configuration) for n, m in _alive(cluster)}
        raise Violation(f"progress: {states}")


def _even(cluster: Cluster) -> bool:
    leaders = cluster.leaders()
    if len(leaders) != 1 or leaders[0].raft is None:
        return False
    members = leaders[0].raft.configuration.members
    return all(cluster.machines[name].applied == leaders[0].applied for name in members)


def _alive(cluster: Cluster):  # type: ignore[no-untyped-def]
    return [(n, m) for n, m in cluster.machines.items() if m.raft is not None]


def _one(cluster: Cluster, *, leaders: bool) -> Machine:
    among = cluster.leaders() if leaders and cluster.draw.random() < 0.8 else []
    return cluster.draw.choice(among or list(cluster.machines.values()))


def _start(cluster: Cluster, machine: Machine) -> None:
    if machine.raft is None:
        cluster.start(machine)
