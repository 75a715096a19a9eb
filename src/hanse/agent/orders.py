"""A statement that a command says through a gateway, as the cluster's owner."""

from __future__ import annotations

import asyncpg

from ..config import DEFAULT_USER, ClusterConfig, Secrets
from ..core.errors import UserMistake
from .probe import TRY_S, any_certificate


async def tell(cluster: ClusterConfig, secrets: Secrets, sql: str) -> None:
    """Through the first gateway that lets us in. Raises UserMistake with its answer, or where there is none."""
    last: Exception | None = None
    for node in cluster.nodes:
        try:
            connection = await asyncpg.connect(
                host=cluster.host,
                port=node.gateway_port,
                user=DEFAULT_USER,
                password=secrets.user_password,
                database=cluster.database,
                timeout=TRY_S,
                ssl=any_certificate() if cluster.tls == "require" else False,
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            last = error
            continue
        try:
            await connection.execute(sql)
        except asyncpg.PostgresError as error:
            raise UserMistake(": ".join(filter(None, (str(error), error.detail, error.hint)))) from None
        finally:
            await connection.close(timeout=TRY_S)
        return
    raise UserMistake(f"no gateway lets us in: {last or 'start the cluster with `hanse up`'}")
