from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hanse.cli.main import COMMANDS, HIDDEN, LazyGroup, main


def test_every_command_exists_and_explains_itself() -> None:
    for name in (*COMMANDS, *HIDDEN):
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)
        assert "Usage:" in result.output


def test_hidden_commands_are_not_listed() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)
    assert not any(name in result.output for name in HIDDEN)
    assert isinstance(main, LazyGroup)


@pytest.mark.parametrize("arguments", [["nonsense"], ["up", "--nonsense"], ["up", "--nodes", "three"], ["node"]])
def test_wrong_words_end_with_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error:" in result.output


def test_a_mistake_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["status", "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert result.output == f"hanse: there is no cluster in {tmp_path}; `hanse up` makes one\n"


def test_the_command_line_imports_little() -> None:
    heavy = ("asyncpg", "pglast", "numpy", "uvloop", "rich", "psutil", "asyncio")
    code = f"import sys, hanse.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
