"""A stand-in for the gateway that relays bytes between clients and group g1. See lifecycle_tools.environment()."""

import asyncio
import pathlib
import sys
import types


async def serve(config, secrets, worker):
    server = await asyncio.start_server(
        lambda reader, writer: relay(config, reader, writer), config.host, config.gateway_port, reuse_port=True
    )
    await server.serve_forever()


async def relay(config, reader, writer):
    from hanse.config import load_cluster_config

    cluster = load_cluster_config(pathlib.Path(config.data_dir).parent / "cluster.json")
    port = next(i.port for node in cluster.nodes for i in node.instances if i.group == "g1")
    far_reader, far_writer = await asyncio.open_connection(config.host, port)
    await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))


async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


module = types.ModuleType("hanse.gateway.server")
module.serve = serve
sys.modules["hanse.gateway.server"] = module
