"""Transcripts of Raft nodes around one table (`support/raft.py`): a command, `----`, the messages that travelled and what
changed. `HANSE_REWRITE=1 pytest tests/scripts/raft` writes the files anew; read the difference before keeping it.

    nodes n1 n2 n3 | n4     founders, and nodes that join later
    wait 2.5 n1             time passes, n1 notices            lose                messages under way are lost
    deliver [n1 n2]         until nothing travels (between these only; the rest is lost)
    propose n1 x            change n1 n1 n2 n3 | n4            voters and learners, asked of n1
    read n2 [lease]         transfer n1 n3                     compact n1          crash n1, start n1
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.messages import AnyMessage
from hanse.consensus.raft.state import Busy, ChangeRefused, NotLeader
from support.raft import Table

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))
LEFT_OUT = ("sender", "receiver", "term", "checksum", "configuration", "index_term")


class Script:
    def __init__(self) -> None:
        self.table = Table(())
        self.known: dict[str, str] = {}

    def run(self, command: str) -> str:
        word, *arguments = command.split()
        try:
            lines = getattr(self, f"do_{word}")(*arguments) or []
        except (NotLeader, Busy, ChangeRefused) as error:
            lines = [f"{type(error).__name__}: {error}".rstrip(": ")]
        return "\n".join(lines + self.changes()) or "nothing"

    def changes(self) -> list[str]:
        """The state of the nodes in which something is new."""
        now = {name: self.state(name) for name in sorted(self.table.nodes)}
        told = [line for name, line in now.items() if self.known.get(name) != line]
        self.known = now
        return told

    def state(self, name: str) -> str:
        raft = self.table[name]
        log, configuration = raft.state.log, raft.configuration
        members = " ".join(configuration.voters)
        members += f" ← {' '.join(configuration.outgoing)}" if configuration.joint else ""
        members += f" | {' '.join(configuration.learners)}" if configuration.learners else ""
        entries = " ".join(f"{entry.index}.{entry.term}" for entry in log.entries)
        start = f"[{log.base_index}.{log.base_term}] " if log.base_index else ""
        reads = f", {len(self.table.reads[name])} reads" if self.table.reads[name] else ""
        return (
            f"= {name} {raft.role.value} in {raft.term}, log {start}{entries}, commit {raft.state.commit}{reads}, "
            f"members {members}"
        )

    def do_nodes(self, *names: str) -> None:
        split = names.index("|") if "|" in names else len(names)
        self.table = Table(names[:split], *names[split + 1 :])

    def do_wait(self, seconds: str, *names: str) -> list[str]:
        self.table.wait(float(seconds), *names)
        return [f"  sent {shown(message)}" for message in self.table.mail]

    def do_deliver(self, *names: str) -> list[str]:
        told: list[str] = []

        def wanted(message: AnyMessage) -> bool:
            return not names or {message.sender, message.receiver} <= set(names)

        while message := next((m for m in self.table.mail if wanted(m) and m.receiver in self.table.nodes), None):
            self.table.mail.remove(message)
            told.append(f"  {shown(message)}")
            self.table.arrive(message)
        self.table.mail.clear()
        return told

    def do_lose(self) -> None:
        self.table.mail.clear()

    def do_propose(self, name: str, data: str) -> list[str]:
        index, term = self.table.propose(name, data.encode())
        return [f"  entry {index}.{term}"]

    def do_change(self, name: str, *members: str) -> None:
        split = members.index("|") if "|" in members else len(members)
        target = Configuration(voters=members[:split], learners=members[split + 1 :])
        self.table.do(name, lambda raft, now: raft.change(target, now))

    def do_read(self, name: str, lease: str = "") -> None:
        self.table.do(name, lambda raft, now: raft.read(now, lease=bool(lease)))

    def do_transfer(self, name: str, target: str) -> None:
        self.table.do(name, lambda raft, now: raft.transfer(target, now))

    def do_compact(self, name: str) -> None:
        self.table.do(name, lambda raft, now: raft.compact(raft.state.applied, b"a state machine"))

    def do_crash(self, name: str) -> None:
        self.table.crash(name)

    def do_start(self, name: str) -> None:
        self.table.start(name)


def shown(message: AnyMessage) -> str:
    fields = []
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name == "entries":
            value = " ".join(f"{entry.index}.{entry.term}" for entry in value) or "none"
        elif name == "ticket":
            value = "…"  # random
        if name not in LEFT_OUT and value not in (None, False):
            fields.append(name if value is True else f"{name}={value if not isinstance(value, bytes) else len(value)}")
    return f"{message.sender} → {message.receiver} {type(message).__name__} {message.term}: {', '.join(fields)}".rstrip(
        ": "
    )


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in FILES])
def test_transcript(path: Path) -> None:
    script, found = Script(), []
    for block in path.read_text().strip().split("\n\n"):
        command = block.partition("\n----")[0]
        plain = [line for line in command.split("\n") if not line.startswith("#")]
        found.append("\n".join([command, "----", *[script.run(line) for line in plain]]))
    text = "\n\n".join(found) + "\n"
    if os.environ.get("HANSE_REWRITE"):
        path.write_text(text)
    assert path.read_text() == text


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 4
