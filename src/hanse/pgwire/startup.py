"""The two handshakes, under one name: see `server_handshake`, `client_handshake` and `packets`."""

from __future__ import annotations

from .client_handshake import ClientHandshake, Ready
from .packets import StartupPacket, parse_options, parse_startup, startup_settings
from .scram import Password, ScramKeys
from .server_handshake import (
    Authenticated,
    CancelRequested,
    NeedVerifier,
    Refused,
    ServerEvent,
    ServerHandshake,
    StartTls,
)

__all__ = [
    "Authenticated",
    "CancelRequested",
    "ClientHandshake",
    "NeedVerifier",
    "Password",
    "Ready",
    "Refused",
    "ScramKeys",
    "ServerEvent",
    "ServerHandshake",
    "StartTls",
    "StartupPacket",
    "parse_options",
    "parse_startup",
    "startup_settings",
]
