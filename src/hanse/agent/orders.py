"""Statements that a command says through a gateway, as the cluster's owner."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from ..config import DEFAULT_USER, ClusterConfig, Secrets
from ..core.errors import UserMistake, in_a_line
from .probe import TRY_S, any_certificate


async def tell(cluster: ClusterConfig, secrets: Secrets, sql: str) -> None:
    """Raises UserMistake with the gateway's answer, or where none lets us in."""
    async with _connected(cluster, secrets) as connection:
        await connection.execute(sql)


async def ask(cluster: ClusterConfig, secrets: Secrets, sql: str) -> list[Any]:
    """Rows. Raises UserMistake likewise."""
    async with _connected(cluster, secrets) as connection:
        rows: list[Any] = await connection.fetch(sql)
        return rows


@contextlib.asynccontextmanager
async def _connected(cluster: ClusterConfig, secrets: Secrets) -> AsyncIterator[Any]:
    """To the first gateway that lets us in."""
    connection = await _first(cluster, secrets)
    try:
        yield connection
    except asyncpg.PostgresError as error:
        raise UserMistake(in_a_line(error.args[0], error.detail, error.hint)) from None
    finally:
        await connection.close(timeout=TRY_S)


async def _first(cluster: ClusterConfig, secrets: Secrets) -> Any:
    refusal: Exception | None = None
    for node in cluster.nodes:
        try:
            return await asyncpg.connect(
                host=cluster.host,
                port=node.gateway_port,
                user=DEFAULT_USER,
                password=secrets.user_password,
                database=cluster.database,
                timeout=TRY_S,
                ssl=any_certificate() if cluster.tls == "require" else False,
            )
        except (OSError, TimeoutError):
            continue
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            refusal = error
    if refusal is None:
        raise UserMistake("no gateway answers: start the cluster with `hanse up`")
    raise UserMistake(f"no gateway lets us in: {refusal}")
