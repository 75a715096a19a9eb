"""Nodes on machines of their own: each has a data directory and a loopback address, and is started by `hanse node`.

The tests build on each other: they are one cluster's life.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hanse.agent import tokens
from hanse.catalog import protocol as p
from hanse.core.limits import MEMBER_START_S_MAX
from hanse.core.node_tls import node_tls
from hanse.replication.asking import WhoLeads, encode
from support.certificates import make_node_certificates
from support.machines import WAIT_S, Machine, join_words
from support.processes import sweep, wait_until


@pytest.fixture(scope="module")
def machines(run_directory: Path) -> Iterator[list[Machine]]:
    directory = run_directory / f"machines-{os.getpid()}"
    directory.mkdir()
    made = [Machine(directory, number) for number in (1, 2, 3)]
    made[0].done("init", *made[0].listen, "--groups", "1", "--password", "secret", "--label", "zone=a")
    made[0].start()
    made[0].ask("CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY HASH (k)")
    made[0].ask("INSERT INTO t SELECT k, 'before' FROM generate_series(1, 100) k")
    yield made
    for machine in made:
        if machine.process is not None and machine.process.poll() is None:
            machine.process.send_signal(signal.SIGTERM)
    for machine in made:
        if machine.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                machine.process.wait(WAIT_S)
    sweep(directory)
    shutil.rmtree(directory)


def test_only_a_good_token_lets_a_machine_in(machines: list[Machine], tmp_path: Path) -> None:
    first, second, _ = machines
    address, good = join_words(first)
    secret, _, fingerprint = good.partition(".")

    def refused(token: str, *options: str) -> str:
        sentence = second.refused("join", address, *second.listen, "--token", token, *options)
        assert not second.data.exists()
        return sentence

    assert "the token is wrong" in refused(f"not-{secret}.{fingerprint}")
    assert "too old" in refused(join_words(first, "--minutes", "0.000001")[1])
    make_node_certificates(tmp_path)
    stranger = tokens.Token(secret, tokens.fingerprint_of((tmp_path / "ca.crt").read_bytes()))
    assert "not of the cluster that the token is from" in refused(str(stranger))  # and the secret was not shown
    assert "already exists" in refused(good, "--node", "n1")  # which costs no token
    assert "no token" in refused("nonsense")
    assert "a label is KEY=VALUE" in refused(good, "--label", "zone")
    taken = ("--listen", first.listen[1])
    assert "choose another with --listen" in second.refused("join", address, *taken, "--token", good)
    assert "choose another with --listen" in second.refused("init", *taken)
    second.done("join", address, *second.listen, "--token", good)
    third = machines[2]
    assert "was used before" in third.refused("join", address, *third.listen, "--token", good)
    assert second.refused("join", address, *second.listen, "--token", good).endswith("already")


def test_machines_that_have_joined_serve_everything(machines: list[Machine]) -> None:
    first, second, third = machines
    address, token = join_words(first)
    third.done("join", address, *third.listen, "--token", token, "--label", "zone=b", "--label", "disk=fast")
    first.done("label", "n2", "zone=a")  # which does not run yet
    second.start()
    third.start()
    assert second.ask("SELECT count(*) FROM t") == [(100,)]
    third.ask("CREATE TABLE u (k int)")
    assert second.ask("SELECT count(*) FROM u") == [(0,)]
    nodes = [(each.name, each.host, each.port) for each in machines]
    assert third.ask("SELECT name, host, gateway_port FROM hanse.nodes ORDER BY name") == nodes

    def votes() -> bool:
        """Of the joined ones, too: else the loss of the first would be the loss of the control plane."""
        return "the control plane's votes are those of n1, n2, n3" in (first.data / "node.log").read_text()

    wait_until("three votes", votes, timeout_s=WAIT_S)
    wait_until("a group of three", lambda: third.can("ALTER TABLESPACE g1 SET (replicas = 3)"), timeout_s=WAIT_S)
    members = third.ask("SELECT i->>'node', i->>'name' FROM hanse.groups, jsonb_array_elements(instances) i ORDER BY 1")
    assert members == [("n1", "g1.1"), ("n2", "g1.3"), ("n3", "g1.2")]  # first where no zone had one yet


def test_each_machine_shows_all(machines: list[Machine]) -> None:
    """Of a node on another machine what the catalog and the groups' leaders say; nobody says whether its agent runs."""
    for machine in machines:

        def shown(machine: Machine = machine) -> bool:
            status = json.loads(machine.done("status", "--json"))
            nodes = {each["name"]: each["state"] for each in status["nodes"]}
            assert nodes == {each.name: "running" if each is machine else "unknown" for each in machines}
            (group,) = status["groups"]
            assert sorted(each["node"] for each in group["instances"]) == ["n1", "n2", "n3"]
            return all(each["state"] == "running" for each in group["instances"]) and len(group["members"]) == 3

        wait_until("all instances are seen", shown, timeout_s=WAIT_S)
        assert "unknown on another machine" in machine.done("status")
        servers = [
            line.split()[1:3] for line in machine.done("balancer-config", "haproxy").splitlines() if "server n" in line
        ]
        assert servers == [[each.name, f"{each.host}:{each.port}"] for each in machines]


def test_a_group_is_where_its_location_says(machines: list[Machine]) -> None:
    first, second, third = machines
    labels = second.ask("SELECT labels::text FROM hanse.nodes ORDER BY name")
    assert labels == [('{"zone": "a"}',), ('{"zone": "a"}',), ('{"disk": "fast", "zone": "b"}',)]
    shown = json.loads(second.done("status", "--json"))["nodes"]
    assert {each["name"]: each["labels"].get("zone") for each in shown} == {"n1": "a", "n2": "a", "n3": "b"}
    assert "disk=fast,zone=b" in second.done("status")

    def error(sql: str, sqlstate: str) -> str:
        with pytest.raises(psycopg.Error) as caught:
            second.ask(sql)
        assert caught.value.sqlstate == sqlstate
        return str(caught.value)

    def nodes_of(group: str) -> list[str]:
        rows = second.ask(
            f"SELECT i->>'node' FROM hanse.groups, jsonb_array_elements(instances) i WHERE name = '{group}'"
        )
        return sorted(str(node) for (node,) in rows)

    two = "CREATE TABLESPACE fast LOCATION 'disk=fast' WITH (replicas = 2)"
    assert "cannot have 2 instances on 1 node with disk=fast" in error(two, "22023")
    second.ask("CREATE TABLESPACE fast LOCATION 'disk=fast' WITH (replicas = 1)")
    assert nodes_of("fast") == ["n3"]
    assert second.ask("SELECT name, location->>'disk' FROM hanse.groups ORDER BY 1") == [("fast", "fast"), ("g1", None)]
    assert "there is no other node with disk=fast" in error("ALTER TABLESPACE fast SET (leave = 'n3')", "55000")
    assert "group fast cannot leave node n3: there is no other node in its location" in second.refused("drain", "n3")
    more = "ALTER TABLESPACE fast SET (replicas = 2)"
    assert "cannot have 2 instances on 1 node with disk=fast" in error(more, "22023")
    error("ALTER TABLESPACE g1 SET (location = 'disk=fast')", "55000")
    assert "would not be in location disk=fast" in first.refused("label", "n3", "disk=")
    assert "does not exist" in first.refused("label", "n9", "zone=a")
    assert "a label's key has" in first.refused("label", "n2", "Disk=fast")
    first.done("label", "n2", "disk=fast")
    assert nodes_of("fast") == ["n3"], "what there is stays"
    second.ask("ALTER TABLESPACE fast SET (leave = 'n3')")
    assert nodes_of("fast") == ["n2"]
    second.ask("ALTER TABLESPACE fast SET (location = '')")
    first.done("label", "n2", "disk=")
    second.ask("DROP TABLESPACE fast")
    directories = [machine.data / machine.name / "fast" for machine in machines]
    wait_until("it is removed", lambda: not any(map(Path.exists, directories)), timeout_s=WAIT_S)


def _answer_of(machine: Machine, port: int, question: bytes, context: ssl.SSLContext | None) -> bytes:
    """The first bytes that come back; b"" where the connection is ended."""
    try:
        with contextlib.closing(socket.create_connection((machine.host, port), timeout=WAIT_S)) as plain:
            talking = plain if context is None else context.wrap_socket(plain, server_hostname=machine.name)
            with contextlib.closing(talking):
                talking.sendall(question)
                return talking.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_every_port_of_hanse_wants_a_certificate_of_the_cluster(machines: list[Machine], tmp_path: Path) -> None:
    make_node_certificates(tmp_path, "n1")
    ours, nodes_tls = machines[0].data / "n1" / "tls", machines[0].data / "tls" / "nodes"
    member = node_tls(nodes_tls / "ca.crt", ours / "node.crt", ours / "node.key").client
    stranger = node_tls(tmp_path / "ca.crt", tmp_path / "n1.crt", tmp_path / "n1.key").client
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (stranger, nobody):  # they would talk to anybody
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    hello = p.encode(p.Hello(format=p.FORMAT, name="somebody"), 1000)
    for machine in machines:
        own = next(each for each in machine.files["control"] if each["name"] == machine.name)
        (peer,) = [each["peer_port"] for each in machine.files["instances"] if each["peer_port"]]
        for port, question in ((own["port"], hello), (peer, encode(WhoLeads())), (own["raft_port"], hello)):
            assert _answer_of(machine, port, question, None)[:1] in (b"", b"\x15")  # an alert: RFC 8446, 6
            assert _answer_of(machine, port, question, stranger) == b""
            assert _answer_of(machine, port, question, nobody) == b""
            if port != own["raft_port"]:  # which answers nobody over the connection that it is called by
                assert _answer_of(machine, port, question, member) != b""


def test_the_loss_of_the_first_machine_loses_nothing(machines: list[Machine]) -> None:
    first, second, third = machines
    if third.ask("SELECT leader FROM hanse.groups") != [("g1.1",)]:
        wait_until("n1 leads", lambda: third.can("ALTER TABLESPACE g1 SET (leader = 'n1')"), timeout_s=WAIT_S)
    third.ask("INSERT INTO t VALUES (101, 'acknowledged')")
    first.die()
    assert second.ask("SELECT count(*), max(k) FROM t") == [(101, 101)]
    second.ask("INSERT INTO t VALUES (102, 'after')")
    third.ask("CREATE TABLE w (k int)")  # by a control plane of those that have joined
    assert third.ask("SELECT count(*) FROM t") == [(102,)]
    assert third.ask("SELECT leader <> 'g1.1' FROM hanse.groups") == [(True,)]
    (group,) = json.loads(third.done("status", "--json"))["groups"]
    states = {each["node"]: each["state"] for each in group["instances"]}
    assert group["leader"] != "g1.1" and states["n1"] == "unknown" and states["n3"] == "running"


def test_nodes_are_removed(machines: list[Machine]) -> None:
    """The one that is lost, and one that has been drained: its agent and what it runs end."""
    _, second, third = machines
    assert "has instances of g1" in second.refused("remove", "n1")
    assert "does not exist" in second.refused("remove", "n9")
    assert "there is no node n9" in second.refused("drain", "n9")
    wait_until("n2 leads", lambda: second.can("ALTER TABLESPACE g1 SET (leader = 'n2')"), timeout_s=WAIT_S)
    wait_until("a group of one", lambda: second.can("ALTER TABLESPACE g1 SET (replicas = 1)"), timeout_s=WAIT_S)
    second.done("remove", "n1")
    second.done("remove", "n3")
    assert third.process is not None and third.process.wait(WAIT_S) == 2
    assert "this node was removed from the cluster: n3" in (third.data / "node.log").read_text()
    begin = time.monotonic()
    assert "n1: this node was removed from the cluster: n1" in machines[0].refused("up", "--detach")
    assert time.monotonic() - begin < MEMBER_START_S_MAX  # it has an instance, which would look for its group
    second.ask("INSERT INTO u VALUES (1)")
    made = "CREATE TABLE IF NOT EXISTS alone (k int)"  # said again while n2 becomes the control plane's leader
    wait_until("a schema change", lambda: second.can(made), timeout_s=WAIT_S)
    assert second.ask("SELECT name FROM hanse.nodes") == [("n2",)]
