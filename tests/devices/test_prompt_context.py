"""The server's sockets send at once."""

import asyncio
import socket
from typing import Any

import pytest
from caproto.asyncio.server import Context

from devices.prompt_context import PromptContext


def test_clients_sockets_do_not_wait_for_acknowledgements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: list[int] = []

    async def accept_one(self: Any, sock: socket.socket) -> None:
        """Accept as caproto's own loop does, and look at what it gets."""
        accepted, _ = await asyncio.get_running_loop().sock_accept(sock)
        with accepted:
            options.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(Context, "server_accept_loop", accept_one)

    async def connect() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.socket() as one,
        ):
            listening.setblocking(False)
            one.setblocking(False)
            serving = PromptContext({}).server_accept_loop(listening)
            calling = asyncio.get_running_loop().sock_connect(
                one, listening.getsockname()
            )
            await asyncio.gather(serving, calling)

    asyncio.run(connect())
    assert options and options[0] != 0
