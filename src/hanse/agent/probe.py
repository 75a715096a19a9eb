"""Whether gateways really serve: each is asked a question, by a client like any other."""

from __future__ import annotations

import asyncio
import ssl

import asyncpg

from ..config import DEFAULT_USER, ClusterConfig, Secrets

TRY_S = 10.0


async def gateways_answer(cluster: ClusterConfig, secrets: Secrets) -> str | None:
    """None when every gateway has answered; else what the first that has not said."""
    answers = await asyncio.gather(*(_ask(cluster, secrets, node.gateway_port) for node in cluster.nodes))
    return next((answer for answer in answers if answer is not None), None)


async def _ask(cluster: ClusterConfig, secrets: Secrets, port: int) -> str | None:
    try:
        connection = await asyncpg.connect(
            host=cluster.host,
            port=port,
            user=DEFAULT_USER,
            password=secrets.user_password,
            database=cluster.database,
            timeout=TRY_S,
            ssl=any_certificate() if cluster.tls == "require" else False,
        )
        try:
            await connection.execute("SELECT 1", timeout=TRY_S)
        finally:
            await connection.close(timeout=TRY_S)
    except asyncpg.InvalidAuthorizationSpecificationError:
        return None  # ALTER ROLE has changed what we know of the user; the gateway has looked it up, and serves
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        return f"the gateway on port {port} says: {error or type(error).__name__}"
    return None


def any_certificate() -> ssl.SSLContext:
    """The question is whether the gateway serves; whether clients will trust its certificate is theirs to say."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
