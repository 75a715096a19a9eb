"""The log on disk: it is what was written, after any restart; and where it is not, that is said."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.log import Log
from hanse.consensus.raft.messages import Entry, HardState, Kind, Persist, Snapshot
from hanse.consensus.raft.saved import Saved, founding, joining
from hanse.consensus.raft.storage import COUNT_NAME, FILE_NAME, DamagedStorage, Storage
from hanse.core.errors import PgError, UserMistake

FOUNDERS = Configuration(voters=("n1", "n2", "n3"))


def open_storage(directory: Path) -> Storage:
    return Storage(directory, "n1", founding(FOUNDERS))


def entries(first: int, *terms: int) -> tuple[Entry, ...]:
    return tuple(Entry(first + i, term, Kind.COMMAND, os.urandom(40)) for i, term in enumerate(terms))


def filled(directory: Path, batches: int = 12) -> Storage:
    storage = open_storage(directory)
    for index in range(batches):
        storage.write(Persist(entries=entries(2 + index, 2), hard_state=HardState(2, "n1") if index == 0 else None))
    return storage


def random_persists(seed: int, count: int) -> list[Persist]:
    """What a node may ask for: appends, truncations, compactions, snapshots of a leader."""
    draw = random.Random(seed)
    start = founding(FOUNDERS)
    log = Log(start.snapshot, start.base_index, start.base_term, start.entries)
    found = []
    term = 1
    while len(found) < count:
        term += draw.random() < 0.3
        choice = draw.random()
        if choice < 0.7:
            first = draw.randint(max(log.base_index, log.last_index - 3), log.last_index) + 1
            if first > log.snapshot.index:
                log.append(entries(first, *[term] * draw.randint(1, 4)))
        elif choice < 0.9 and log.snapshot.index < log.last_index:
            index = draw.randint(log.snapshot.index + 1, log.last_index)
            at = log.term_at(index)
            assert at is not None
            snapshot = Snapshot(index=index, term=at, configuration=FOUNDERS, data=b"%d" % index)
            log.compact(snapshot, draw.choice((0, 2)), draw.choice((50, 1000)))
        elif choice >= 0.9:
            index = log.last_index + draw.randint(-1, 3)
            if index > log.snapshot.index:
                log.restore(Snapshot(index=index, term=term, configuration=FOUNDERS, data=b"from afar"))
        persist = log.take()
        if persist is not None:
            hard = HardState(term, draw.choice((None, "n2"))) if draw.random() < 0.5 else None
            found.append(dataclasses.replace(persist, hard_state=hard))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_it_holds_what_was_written(seed: int, tmp_path: Path) -> None:
    expected, storage = founding(FOUNDERS), open_storage(tmp_path)
    assert storage.saved == expected
    for number, persist in enumerate(random_persists(seed, 40)):
        storage.write(persist)
        expected = expected.after(persist)
        if number % 5 == 0:
            storage.close()
            storage = open_storage(tmp_path)
            assert storage.saved == expected
    storage.close()


@pytest.mark.parametrize("step", ["_write_count", "_put", "_write_entries", "_check"])
def test_a_storage_that_was_not_made_to_its_end_is_made_anew(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(Storage, step, crash)
        with pytest.raises(RuntimeError):
            open_storage(tmp_path)
    storage = open_storage(tmp_path)
    assert storage.saved == founding(FOUNDERS)
    storage.write(Persist(entries=entries(2, 2)))
    storage.close()


def test_a_batch_is_one_transaction(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    statements: list[str] = []
    storage._database.set_trace_callback(statements.append)
    storage.write(Persist(entries=entries(2, *[2] * 100), hard_state=HardState(2, None)))
    assert (statements.count("COMMIT"), storage._database.execute("PRAGMA synchronous").fetchone()) == (1, (2,))
    storage.close()


def test_that_the_node_led_when_it_ended_holds_until_the_next_write(tmp_path: Path) -> None:
    storage = Storage(tmp_path, "n1", founding(Configuration(voters=("n1",))))
    storage.write(Persist(hard_state=HardState(7, "n1")))
    storage.note_led()
    storage.close()
    storage = Storage(tmp_path, "n1", joining())
    assert (storage.saved.led, storage.saved.hard_state) == (7, HardState(7, "n1"))
    storage.write(Persist(hard_state=HardState(8, None)))
    storage.close()
    storage = Storage(tmp_path, "n1", joining())
    assert storage.saved.led == 0
    storage.close()


def test_another_process_and_another_node_are_refused(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    with pytest.raises(UserMistake, match="in use by another process"):
        open_storage(tmp_path)
    storage.close()
    with pytest.raises(UserMistake, match="is the log of n1, not of n2"):
        Storage(tmp_path, "n2", joining())


def test_a_full_disk_stops_the_storage(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    pages = storage._database.execute("PRAGMA page_count").fetchone()[0]
    storage._database.execute(f"PRAGMA max_page_count = {pages}")
    large = Entry(14, 2, Kind.COMMAND, bytes(100_000))
    with pytest.raises(PgError) as raised:
        storage.write(Persist(entries=(large,)))
    assert raised.value.sqlstate == "53100"
    with pytest.raises(PgError, match="must start again"):
        storage.write(Persist(entries=entries(14, 2)))
    storage.close()
    storage = open_storage(tmp_path)
    assert storage.saved.entries[-1].index == 13
    storage.close()


# --- damage ----------------------------------------------------------------------------------------------------------


def crashed(directory: Path, target: Path) -> Saved:
    """A copy of the files of a node that was killed; gives what it had written."""
    storage = filled(directory)
    shutil.copytree(directory, target)
    storage.close()
    reopened = open_storage(directory)
    saved = reopened.saved
    reopened.close()
    return saved


def opens_as(directory: Path) -> Saved | None:
    """None: it was refused."""
    try:
        storage = open_storage(directory)
    except DamagedStorage:
        return None
    storage.close()
    return storage.saved


@pytest.mark.parametrize("file", [FILE_NAME, f"{FILE_NAME}-wal", COUNT_NAME])
@pytest.mark.parametrize("harm", ["flip", "zero", "cut"])
def test_harm_is_noticed_or_harmless(file: str, harm: str, tmp_path: Path) -> None:
    """Bytes anywhere in any of the files: either all is there, or the node is told."""
    whole = tmp_path / "whole"
    saved = crashed(tmp_path / "alive", whole)
    if file == FILE_NAME:  # all in the one file
        checkpoint = sqlite3.connect(whole / FILE_NAME)
        checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        checkpoint.close()
    assert opens_as(_copy(whole, tmp_path / "copy")) == saved
    draw = random.Random(f"{file} {harm}")
    refused = 0
    for _ in range(25):
        copy = _copy(whole, tmp_path / "copy")
        content = bytearray((copy / file).read_bytes())
        at = draw.choice([place for place, byte in enumerate(content) if byte])  # most of a page is empty
        if harm == "flip":
            content[at] ^= 1 << draw.randrange(8)
        elif harm == "zero":
            content[at : at + 512] = bytes(len(content[at : at + 512]))
        else:
            del content[at:]
        (copy / file).write_bytes(content)
        found = opens_as(copy)
        assert found in (None, saved), f"{harm} at {at}"
        refused += found is None
    assert refused > 0


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("DELETE FROM log WHERE position = 5", "entry 5 is missing"),
        ("DELETE FROM log WHERE position = 13", "ends at entry 12, and had 13"),
        ("UPDATE log SET data = zeroblob(40) WHERE position = 5", "entry 5 is not what was written"),
        ("UPDATE log SET term = 1 WHERE position = 5", "entry 5 is not what was written"),
        ("UPDATE log SET kind = 'x' WHERE position = 5", "entry 5 is not what was written"),
        ("UPDATE summary SET body = zeroblob(10)", "its summary is not what was written"),
        ("DELETE FROM snapshot", "it has no snapshot"),
    ],
)
def test_rows_that_are_not_what_was_written(damage: str, told: str, tmp_path: Path) -> None:
    filled(tmp_path).close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute(damage)
    database.commit()
    database.close()
    with pytest.raises(DamagedStorage, match=told) as raised:
        open_storage(tmp_path)
    assert "let it join anew" in str(raised.value)


def test_files_that_are_gone(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    crashed(tmp_path / "alive", whole)
    for gone in (FILE_NAME, f"{FILE_NAME}-wal", COUNT_NAME):
        copy = _copy(whole, tmp_path / "copy")
        (copy / gone).unlink()
        assert opens_as(copy) is None, gone


def test_an_older_copy_is_noticed(tmp_path: Path) -> None:
    """Somebody puts back yesterday's database beside today's count."""
    storage = filled(tmp_path)
    storage.close()
    old = (tmp_path / FILE_NAME).read_bytes()
    storage = open_storage(tmp_path)
    storage.write(Persist(hard_state=HardState(3, "n2")))
    storage.close()
    (tmp_path / FILE_NAME).write_bytes(old)
    with pytest.raises(DamagedStorage, match="the last 1 of 13 transactions are missing"):
        open_storage(tmp_path)


WRITER = """
import sys
from pathlib import Path
from hanse.consensus.raft.configuration import Configuration
from hanse.consensus.raft.messages import Entry, Kind, Persist
from hanse.consensus.raft.saved import founding
from hanse.consensus.raft.storage import Storage
storage = Storage(Path(sys.argv[1]), "n1", founding(Configuration(voters=("n1", "n2", "n3"))))
for index in range(2, 1_000_000):
    storage.write(Persist(entries=(Entry(index, 2, Kind.COMMAND, b"%d" % index),)))
    print(index, flush=True)
"""


def test_kill_9_loses_nothing_that_was_written(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 40:
            break
    process.send_signal(signal.SIGKILL)
    last = int(([line] + process.stdout.read().split())[-1])
    process.wait()
    process.stdout.close()
    storage = open_storage(tmp_path)
    assert storage.saved.entries[-1].index in (last, last + 1)
    assert [entry.data for entry in storage.saved.entries[1:]] == [
        b"%d" % index for index in range(2, storage.saved.entries[-1].index + 1)
    ]
    storage.close()
