from __future__ import annotations

from pathlib import Path

import pytest

from hanse.agent.tokens import Token, TokenRefused, fingerprint_of, give_back, make_token, take_token
from hanse.core.errors import UserMistake
from support.certificates import make_node_certificates


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    make_node_certificates(tmp_path)
    (tmp_path / "ca.key").touch()
    return tmp_path


def test_a_token_is_good_once(authority: Path) -> None:
    made = make_token(authority, 60)
    token = Token.parse(f" {made}\n")
    assert token == made
    assert token.fingerprint == fingerprint_of((authority / "ca.crt").read_bytes())
    assert all(token.secret not in each.name + each.read_text() for each in (authority / "tokens").iterdir())
    taken = take_token(authority, token.secret)
    with pytest.raises(TokenRefused, match="used before"):
        take_token(authority, token.secret)
    give_back(taken)
    take_token(authority, token.secret).unlink()
    with pytest.raises(TokenRefused, match="wrong"):
        take_token(authority, token.secret)


def test_a_token_has_an_end(authority: Path) -> None:
    token = make_token(authority, -1)
    with pytest.raises(TokenRefused, match="too old"):
        take_token(authority, token.secret)
    make_token(authority, -1)
    make_token(authority, 60)
    assert len(list((authority / "tokens").iterdir())) == 1  # old ones are forgotten


def test_tokens_are_made_where_the_key_is(authority: Path) -> None:
    (authority / "ca.key").unlink()
    with pytest.raises(UserMistake, match="key of the cluster's authority"):
        make_token(authority, 60)


@pytest.mark.parametrize("text", ["", "secret", ".", "secret.YWJj", "secret.ä"])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(UserMistake, match="no token"):
        Token.parse(text)
