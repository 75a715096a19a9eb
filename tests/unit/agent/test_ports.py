from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from hanse.agent.ports import INTERNAL_PORTS, check_port, choose_free_ports, is_free, port_holder
from hanse.core.errors import UserMistake

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_listener_takes_its_port(taken: int) -> None:
    assert not is_free(HOST, taken)
    with pytest.raises(UserMistake, match=rf"port {taken} on 127.0.0.1, for a test, is already taken.*--port"):
        check_port(HOST, taken, "a test")


def test_the_holder_is_named(taken: int) -> None:
    holder = port_holder(taken)
    assert holder is not None
    assert f"(process {os.getpid()})" in holder


def test_chosen_ports_are_free_and_different_and_outside_the_ephemeral_range() -> None:
    ports = choose_free_ports(HOST, 20)
    assert len(set(ports)) == 20
    assert all(port in INTERNAL_PORTS and is_free(HOST, port) for port in ports)
    assert not set(choose_free_ports(HOST, 5, avoid=ports)) & set(ports)
    assert choose_free_ports(HOST, 0) == []


def test_a_host_that_has_no_address_is_a_mistake() -> None:
    with pytest.raises(UserMistake, match=r"^300\.1\.1\.1 is no address of this machine"):
        check_port("300.1.1.1", 5432, "a test")
