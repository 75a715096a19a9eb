from __future__ import annotations

from pathlib import Path

import pytest

from hanse.engines.postgres.bootstrap import render_sql
from hanse.engines.postgres.settings import (
    address_settings,
    group_profile,
    plain_profile,
    render_hba,
    render_settings,
    workspace_profile,
)


def test_values_are_quoted_for_a_configuration_file() -> None:
    lines = render_settings({"b": "it's", "a": "back\\slash"}).splitlines()
    assert lines[1:] == ["a = 'back\\\\slash'", "b = 'it''s'"]


def test_groups_lose_nothing_and_workspaces_need_nothing() -> None:
    group, workspace = group_profile(), workspace_profile()
    assert [group.settings[name] for name in ("fsync", "wal_level", "max_prepared_transactions")] == [
        "on",
        "replica",
        "200",
    ]
    assert group.unique
    assert [workspace.settings[name] for name in ("fsync", "wal_level", "max_wal_senders")] == ["off", "minimal", "0"]
    for profile in (group, workspace):
        assert profile.authentication == "scram-sha-256"
        assert "session_replication_role" not in profile.settings


def test_a_plain_profile_takes_further_settings() -> None:
    profile = plain_profile(settings={"fsync": "on"})
    assert (profile.superuser, profile.authentication, profile.settings["fsync"]) == ("postgres", "trust", "on")


def test_every_way_in_asks_for_the_same_proof() -> None:
    assert {line.split()[-1] for line in render_hba("scram-sha-256").splitlines()} == {"scram-sha-256"}


@pytest.mark.parametrize(("folder", "shown"), [(None, ""), (Path("/a b"), '"/a b"')])
def test_socket_directories(folder: Path | None, shown: str) -> None:
    settings = address_settings(host="127.0.0.1", port=1, socket_directory=folder, name="g1.1")
    assert settings["unix_socket_directories"] == shown


def test_placeholders_are_literals_or_identifiers() -> None:
    text = "ALTER ROLE :\"who\" PASSWORD :'what'; SELECT 'a'::text"
    assert render_sql(text, {"who": "My user", "what": "it's"}) == (
        "ALTER ROLE \"My user\" PASSWORD 'it''s'; SELECT 'a'::text"
    )
