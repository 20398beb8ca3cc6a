"""A caproto server that sends every update at once.

caproto's sockets say no protocol, so asyncio leaves Nagle's algorithm on: a second
sample waits for the client's delayed acknowledgement of the first, 40 ms on Linux. A
voltage that collapses shows in the second sample.
"""

import socket

from caproto.asyncio.server import Context


class PromptContext(Context):
    """Serve process variables without waiting for acknowledgements."""

    async def server_accept_loop(self, sock: socket.socket) -> None:
        """Accept clients; their sockets inherit the option of the listening one."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await super().server_accept_loop(sock)
