"""The server's sockets send at once."""

import asyncio
import socket
from typing import Any

from devices.prompt_context import PromptContext


def test_clients_sockets_do_not_wait_for_acknowledgements() -> None:
    delays: list[int] = []

    class Probe(PromptContext):
        async def tcp_handler(self, client: Any, addr: Any) -> None:
            accepted = client.writer.get_extra_info("socket")
            option = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            delays.append(option)
            client.close()

    async def connect() -> None:
        context = Probe({}, ["127.0.0.1"])
        server = asyncio.create_task(context.run())
        while not (sockets := list(context.tcp_sockets.values())):
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        await reader.read()
        writer.close()
        await writer.wait_closed()
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)

    asyncio.run(connect())
    assert delays and delays[0] != 0
